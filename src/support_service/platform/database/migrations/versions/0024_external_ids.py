"""What another system calls a case or a message, and when it was sent.

An `external_id` is unique in a channel (cases) and in a case (messages). The indexes have only the rows with one, so
that they are empty at first, and the previous release, which writes none, does not change them.
"""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import UtcDateTime

revision = "0024"
down_revision = "0023"

UNIQUE_WITHIN = {"tickets": "channel", "messages": "ticket_id"}
PRESENT = sa.text("external_id IS NOT NULL")


def _index(table: str) -> tuple[str, str, list[str]]:
    scope = UNIQUE_WITHIN[table]
    return f"ix_{table}_{scope}_external_id", table, [scope, "external_id"]


def _add_columns(*, if_not_exists: bool) -> None:
    for table in UNIQUE_WITHIN:
        for column in (sa.Column("external_id", sa.String(255)), sa.Column("sent_at", UtcDateTime)):
            op.add_column(table, column, if_not_exists=if_not_exists)


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        _add_columns(if_not_exists=False)
        for table in UNIQUE_WITHIN:
            op.create_index(*_index(table), unique=True, sqlite_where=PRESENT)
        return
    # Each statement commits: one that waits for a table while it holds the other could deadlock with writers, who go on
    # meanwhile. An interrupted attempt leaves columns, and an index that is not usable and is made again.
    with op.get_context().autocommit_block():
        _add_columns(if_not_exists=True)
        for table in UNIQUE_WITHIN:
            name, _, columns = _index(table)
            op.drop_index(name, table, postgresql_concurrently=True, if_exists=True)
            op.create_index(name, table, columns, unique=True, postgresql_concurrently=True, postgresql_where=PRESENT)


def downgrade() -> None:
    for table in UNIQUE_WITHIN:
        op.drop_index(_index(table)[0], table)
        op.drop_column(table, "sent_at")
        op.drop_column(table, "external_id")
