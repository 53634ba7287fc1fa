"""Staged files, and the files that a message names."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, STORAGE_KEY, UtcDateTime

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    op.add_column("messages", sa.Column("attachment_ids", JSON_VALUE, nullable=False, server_default="[]"))
    op.create_table(
        "staged_attachments",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("ticket_id", sa.String(36), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("storage", sa.String(16), nullable=False),
        sa.Column("storage_key", STORAGE_KEY, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("detected_type", sa.String(255)),
        sa.Column("staged_by", sa.String(255), nullable=False),
        sa.Column("staged_until", UtcDateTime, nullable=False),
        sa.ForeignKeyConstraint(
            ["ticket_id"], ["tickets.id"], name=op.f("fk_staged_attachments_ticket_id"), ondelete="CASCADE"
        ),
    )
    for column in ("ticket_id", "staged_by", "staged_until"):
        op.create_index(f"ix_staged_attachments_{column}", "staged_attachments", [column])


def downgrade() -> None:
    op.drop_table("staged_attachments")
    op.drop_column("messages", "attachment_ids")
