"""Attachments move between storages: claims, leftovers, deletions, and the ledger of the object storage."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import STORAGE_KEY, UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("attachments", sa.Column("detected_type", sa.String(255)))
    op.add_column("attachments", sa.Column("mover", sa.String(36)))
    op.add_column("attachments", sa.Column("moving_until", UtcDateTime))
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("attachments", "storage_key", type_=sa.String(255, collation="C"))
    op.create_index("ix_attachments_storage_storage_key", "attachments", ["storage", "storage_key"], unique=True)
    op.create_index("ix_attachments_storage_created_at", "attachments", ["storage", "created_at"])
    op.create_table(
        "attachment_leftovers",
        sa.Column("storage", sa.String(16), primary_key=True),
        sa.Column("storage_key", STORAGE_KEY, primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("due_at", UtcDateTime, nullable=False),
        sa.Column("mover", sa.String(36)),
        sa.Column("removing", sa.Boolean, nullable=False),
    )
    op.create_index("ix_attachment_leftovers_due_at", "attachment_leftovers", ["due_at"])
    op.create_table(
        "attachment_deletions",
        sa.Column("attachment_id", sa.String(36), primary_key=True),
        sa.Column("ticket_id", sa.String(36), nullable=False),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(16), nullable=False),
        sa.Column("deleted_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_attachment_deletions_ticket_id", "attachment_deletions", ["ticket_id"])
    op.execute("INSERT INTO attachment_ledger (storage, files, bytes) VALUES ('s3', 0, 0)")


def downgrade() -> None:
    op.execute("DELETE FROM attachment_ledger WHERE storage = 's3'")
    op.drop_table("attachment_deletions")
    op.drop_table("attachment_leftovers")
    op.drop_index("ix_attachments_storage_created_at", "attachments")
    op.drop_index("ix_attachments_storage_storage_key", "attachments")
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("attachments", "storage_key", type_=sa.String(255, collation="default"))
    op.drop_column("attachments", "moving_until")
    op.drop_column("attachments", "mover")
    op.drop_column("attachments", "detected_type")
