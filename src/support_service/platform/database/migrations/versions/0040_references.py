"""References that objects of a context name beside their own id, such as the order of a payment.

Earlier releases stored the own id only. Rows that exist are filled in a few at a time, while the service reads and
writes. A case that changes meanwhile is left to the change, which stores its references. If the previous release makes
it, the others follow with the next change of the context.
"""

import json
from contextlib import nullcontext

import sqlalchemy as sa
from alembic import op

from support_service.core.domain.references import reference_rows

revision = "0040"
down_revision = "0039"

BATCH = 1000  # rows in one transaction
CONTEXTS = sa.text("""
    SELECT id, version, CAST(context AS TEXT) AS context FROM tickets WHERE seq BETWEEN :first AND :last
    AND CAST(context AS TEXT) <> '[]'
""")
ADD = sa.text("""
    INSERT INTO ticket_references (ticket_id, kind, value)
    SELECT CAST(:id AS VARCHAR(36)), CAST(:kind AS VARCHAR(16)), CAST(:value AS VARCHAR(200))
    WHERE EXISTS (SELECT 1 FROM tickets WHERE id = CAST(:id AS VARCHAR(36)) AND version = :version)
    ON CONFLICT DO NOTHING
""")


def upgrade() -> None:
    context = op.get_context()
    with context.autocommit_block() if context.dialect.name == "postgresql" else nullcontext():
        _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    last = connection.scalar(sa.text("SELECT max(seq) FROM tickets")) or 0
    for first in range(1, last + 1, BATCH):
        cases = connection.execute(CONTEXTS, {"first": first, "last": first + BATCH - 1}).all()
        rows = [
            {"id": case.id, "version": case.version, "kind": kind, "value": value}
            for case in cases
            for kind, value in reference_rows(json.loads(case.context))
        ]
        if rows:
            connection.execute(ADD, rows)


def downgrade() -> None:
    """Keep the rows: an earlier release finds more cases by them."""
