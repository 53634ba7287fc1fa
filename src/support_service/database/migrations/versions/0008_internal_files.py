"""Who may see a file; 0011 hides those that are there and are not for customers."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("attachments", sa.Column("visibility", sa.String(16), nullable=False, server_default="public"))


def downgrade() -> None:
    op.drop_column("attachments", "visibility")
