"""Bulk changes of cases and the outcome of each case."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import JSON_VALUE, UtcDateTime

revision = "0052"
down_revision = "0051"


def upgrade() -> None:
    op.create_table(
        "bulk_changes",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("idempotency_key", sa.String(64)),
        sa.Column("undoes", sa.String(36)),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("request", sa.String(64), nullable=False),
        sa.Column("case_ids", JSON_VALUE, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("finished_at", UtcDateTime),
        sa.Column("expires_at", UtcDateTime, nullable=False),
    )
    for column in ("idempotency_key", "undoes"):
        op.create_index(f"ix_bulk_changes_{column}", "bulk_changes", [column], unique=True)
    op.create_index("ix_bulk_changes_expires_at", "bulk_changes", ["expires_at"])
    op.create_table(
        "bulk_items",
        sa.Column("bulk_id", sa.String(36), primary_key=True),
        sa.Column("case_id", sa.String(36), primary_key=True),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("code", sa.String(64)),
        sa.Column("former", JSON_VALUE),
        sa.Column("version", sa.Integer),
        sa.ForeignKeyConstraint(
            ["bulk_id"], ["bulk_changes.id"], name=op.f("fk_bulk_items_bulk_id"), ondelete="CASCADE"
        ),
    )
    op.create_index("ix_bulk_items_case_id", "bulk_items", ["case_id"])


def downgrade() -> None:
    op.drop_table("bulk_items")
    op.drop_table("bulk_changes")
