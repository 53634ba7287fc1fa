"""Events that were published stay in a table of their own, to be published again after a failover of Redis.

Not in the outbox: the relay of the previous release publishes and deletes every row of it. That relay deletes what it
has published, as before, so that its events can't be published again.
"""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import UtcDateTime

revision = "0046"
down_revision = "0045"


def upgrade() -> None:
    op.create_table(
        "published_events",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("publication", sa.BigInteger, nullable=False),
        sa.Column("published_at", UtcDateTime, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("case_id", sa.String(36)),
    )
    op.create_index("ix_published_events_publication_seq", "published_events", ["publication", "seq"])
    op.create_index("ix_published_events_case_id", "published_events", ["case_id"])


def downgrade() -> None:
    op.drop_table("published_events")
