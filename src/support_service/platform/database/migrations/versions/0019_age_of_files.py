"""An index by which the retention finds old files; it read all files.

It is not built concurrently on PostgreSQL: that waits for every open transaction, also for those of replicas that wait
until the migrations are done. Uploads wait for about a second for each million files.
"""

from alembic import op

revision = "0019"
down_revision = "0018"

INDEX = "ix_attachments_created_at"


def upgrade() -> None:
    op.create_index(INDEX, "attachments", ["created_at"])


def downgrade() -> None:
    op.drop_index(INDEX, "attachments")
