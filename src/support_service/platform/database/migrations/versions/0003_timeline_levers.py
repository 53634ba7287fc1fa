"""What on-call has switched for a while."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import UtcDateTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "timeline_levers",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("until", UtcDateTime, nullable=False),
        sa.Column("set_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_timeline_levers"),
    )


def downgrade() -> None:
    op.drop_table("timeline_levers")
