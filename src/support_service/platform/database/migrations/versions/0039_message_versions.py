"""The version that each message gave its case, for the messages that a caller has missed.

Existing messages have none, and neither have messages that the previous release adds: nothing says which version they
made. They count as known to every caller.
"""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"

COLUMNS = ("version", "public_version")


def upgrade() -> None:
    for name in COLUMNS:
        op.add_column("messages", sa.Column(name, sa.Integer))


def downgrade() -> None:
    for name in COLUMNS:
        op.drop_column("messages", name)
