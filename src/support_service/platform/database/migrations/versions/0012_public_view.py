"""What customers may know of a case's changes: how many of them were internal, and when the last internal note came.

The version and `updated_at` of existing cases count internal notes too. That is harmless: from now on they do not move
with a new one. A previous release that still writes counts each of its changes as public.
"""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import UtcDateTime

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("tickets", sa.Column("internal_changes", sa.Integer, nullable=False, server_default="0"))
    op.add_column("tickets", sa.Column("internal_updated_at", UtcDateTime))


def downgrade() -> None:
    op.drop_column("tickets", "internal_updated_at")
    op.drop_column("tickets", "internal_changes")
