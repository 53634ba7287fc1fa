"""Random keys that all replicas share; the first one seals cursors."""

from secrets import token_hex

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"

KEY_BYTES = 32


def upgrade() -> None:
    secrets = op.create_table(
        "secrets",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.bulk_insert(secrets, [{"name": "cursors", "value": token_hex(KEY_BYTES)}])


def downgrade() -> None:
    op.drop_table("secrets")
