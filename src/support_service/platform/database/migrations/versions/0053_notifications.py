"""Followers of cases, and what people are told of changes.

The previous release changes cases without telling anyone.
"""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, SEQUENCE, UtcDateTime

revision = "0053"
down_revision = "0052"

IS_UNREAD = sa.text("read_at IS NULL")


def upgrade() -> None:
    op.add_column("tickets", sa.Column("followers", JSON_VALUE))
    op.create_table(
        "notifications",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("recipient", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("message_id", sa.String(36)),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("read_at", UtcDateTime),
        sa.UniqueConstraint("id", name=op.f("uq_notifications_id")),
        sa.ForeignKeyConstraint(["case_id"], ["tickets.id"], ondelete="CASCADE", name=op.f("fk_notifications_case_id")),
    )
    op.create_index("ix_notifications_recipient_seq", "notifications", ["recipient", "seq"])
    op.create_index(
        "ix_notifications_unread",
        "notifications",
        ["recipient", "seq"],
        sqlite_where=IS_UNREAD,
        postgresql_where=IS_UNREAD,
    )
    op.create_index("ix_notifications_case_id", "notifications", ["case_id"])


def downgrade() -> None:
    op.drop_table("notifications")
    op.drop_column("tickets", "followers")
