"""Who wrote a message, and the directory of the people who work on cases.

Existing messages, and messages that the previous release adds, have no author.
"""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, SEQUENCE, UtcDateTime

revision = "0049"
down_revision = "0048"


def upgrade() -> None:
    op.add_column("messages", sa.Column("author_id", sa.String(128)))
    op.create_table(
        "agents",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("display_name", sa.String(128)),
        sa.Column("teams", JSON_VALUE, nullable=False),
        sa.Column("role", sa.String(16)),
        sa.Column("away", sa.Boolean, nullable=False),
        sa.Column("name_from_claims", sa.Boolean, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("id", name=op.f("uq_agents_id")),
    )


def downgrade() -> None:
    op.drop_table("agents")
    op.drop_column("messages", "author_id")
