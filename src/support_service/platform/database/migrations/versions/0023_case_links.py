"""Links between cases. The previous release neither reads nor writes them."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import SEQUENCE, UtcDateTime

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_table(
        "case_links",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("case_id", sa.String(36), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("other_case_id", sa.String(36), nullable=False),
        sa.Column("previous_status", sa.String(16)),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["tickets.id"], name=op.f("fk_case_links_case_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["other_case_id"], ["tickets.id"], name=op.f("fk_case_links_other_case_id"), ondelete="CASCADE"
        ),
        sa.UniqueConstraint("id", name=op.f("uq_case_links_id")),
    )
    op.create_index(
        "ix_case_links_case_id_kind_other_case_id", "case_links", ["case_id", "kind", "other_case_id"], unique=True
    )
    op.create_index("ix_case_links_other_case_id_kind", "case_links", ["other_case_id", "kind"])


def downgrade() -> None:
    op.drop_table("case_links")
