"""Sign-in at a provider: sign-ins that have begun, and when the provider is asked again about a session.

The previous release reads and writes neither. It ends no session of the provider, and lets none in.
"""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import UtcDateTime

revision = "0044"
down_revision = "0043"

COLUMNS = ("refresh_at", "refreshing_until")


def upgrade() -> None:
    op.create_table(
        "console_sign_ins",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
    )
    op.create_index("ix_console_sign_ins_expires_at", "console_sign_ins", ["expires_at"])
    for column in COLUMNS:
        op.add_column("console_sessions", sa.Column(column, UtcDateTime))


def downgrade() -> None:
    op.execute("DELETE FROM console_sessions WHERE refresh_at IS NOT NULL")
    for column in COLUMNS:
        op.drop_column("console_sessions", column)
    op.drop_table("console_sign_ins")
