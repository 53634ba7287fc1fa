"""Whose case an event is that waits to be published or delivered, so that an erasure finds it without reading them all.

Existing rows go without. The erasure reads such rows, as it reads what an older release keeps while it still runs. They
are gone with their delivery or a while after it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

TABLES = ("outbox", "webhook_deliveries")  # in the order in which the relay locks them


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("case_id", sa.String(36)))
        op.create_index(f"ix_{table}_case_id", table, ["case_id"])


def downgrade() -> None:
    for table in TABLES:
        op.drop_index(f"ix_{table}_case_id", table)
        op.drop_column(table, "case_id")
