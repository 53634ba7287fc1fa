"""Since when a customer waits, and when an agent first answered."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import UtcDateTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("tickets", sa.Column("waiting_since", UtcDateTime))
    op.add_column("tickets", sa.Column("answered_at", UtcDateTime))
    op.create_index("ix_tickets_status_waiting_since", "tickets", ["status", "waiting_since"])
    # What the conversations so far say: the agents' first messages, and the customers' first words after the last ones.
    op.execute("""
        UPDATE tickets SET answered_at = (
            SELECT min(created_at) FROM messages WHERE ticket_id = tickets.id AND author_type = 'agent')
    """)
    op.execute("""
        UPDATE tickets SET waiting_since = (
            SELECT min(m.created_at) FROM messages m WHERE m.ticket_id = tickets.id AND m.author_type = 'customer'
            AND m.seq > coalesce(
                (SELECT max(a.seq) FROM messages a WHERE a.ticket_id = tickets.id AND a.author_type = 'agent'), 0))
    """)


def downgrade() -> None:
    op.drop_index("ix_tickets_status_waiting_since", "tickets")
    op.drop_column("tickets", "answered_at")
    op.drop_column("tickets", "waiting_since")
