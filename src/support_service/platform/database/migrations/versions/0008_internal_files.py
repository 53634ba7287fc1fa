"""Add the visibility of files; 0011 hides existing files that customers must not see."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("attachments", sa.Column("visibility", sa.String(16), nullable=False, server_default="public"))


def downgrade() -> None:
    op.drop_column("attachments", "visibility")
