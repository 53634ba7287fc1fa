"""The team that a case was given to, and who may read a message."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("tickets", sa.Column("team", sa.String(36)))
    op.add_column("messages", sa.Column("visibility", sa.String(16), nullable=False, server_default="public"))


def downgrade() -> None:
    op.drop_column("messages", "visibility")
    op.drop_column("tickets", "team")
