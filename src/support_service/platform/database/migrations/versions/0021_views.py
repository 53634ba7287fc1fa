"""Saved views of the list of cases, each of a user or of a team."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, SEQUENCE, UtcDateTime

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "views",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("owner", sa.String(128)),
        sa.Column("team", sa.String(36)),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("query", JSON_VALUE, nullable=False),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.UniqueConstraint("id", name="uq_views_id"),
        sa.UniqueConstraint("owner", "name", name="uq_views_owner"),
        sa.UniqueConstraint("team", "name", name="uq_views_team"),
    )


def downgrade() -> None:
    op.drop_table("views")
