"""Who may see a file: until now no customer did where internal notes alone named it, and so it stays."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# Ids hold no sign that LIKE takes for more than itself.
NAMED = """
SELECT 1 FROM messages WHERE ticket_id = attachments.ticket_id AND attachment_uri LIKE '%' || attachments.id || '%'
"""
HIDE = f"""
UPDATE attachments SET visibility = 'internal'
WHERE EXISTS ({NAMED} AND visibility = 'internal') AND NOT EXISTS ({NAMED} AND visibility = 'public')
"""  # noqa: S608 - our own literals


def upgrade() -> None:
    op.add_column("attachments", sa.Column("visibility", sa.String(16), nullable=False, server_default="public"))
    op.execute(HIDE)


def downgrade() -> None:
    op.drop_column("attachments", "visibility")
