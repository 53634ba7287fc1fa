"""Changes of the ledger of attachments: a row for each, so that uploads of all replicas do not wait for one row.

The previous release changes the totals themselves. The content of a storage is the sum of both, whichever release
wrote.
"""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"

ADD_CHANGES = """
UPDATE attachment_ledger SET {column} = {column} + (
    SELECT coalesce(sum({column}), 0) FROM attachment_ledger_changes WHERE storage = attachment_ledger.storage
)
"""


def upgrade() -> None:
    op.create_table(
        "attachment_ledger_changes",
        sa.Column("storage", sa.String(16), nullable=False),
        sa.Column("files", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for column in ("files", "bytes"):
        op.execute(ADD_CHANGES.format(column=column))
    op.drop_table("attachment_ledger_changes")
