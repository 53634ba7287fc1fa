"""The outbox and its lease, the events that came in, webhook deliveries, and the epoch of a case's timeline."""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import SEQUENCE, UtcDateTime

revision = "0005"
down_revision = "0004"


AGENTS = "ix_tickets_assigned_agent_id_status_seq"
UNTOLD = sa.text("NOT fanned_out")
ASSIGNED = sa.text("assigned_agent_id IS NOT NULL")


def upgrade() -> None:
    # A case without an agent, as most are when they are opened, need not be in the index of agents.
    op.drop_index(AGENTS, "tickets")
    columns = ["assigned_agent_id", "status", "seq"]
    op.create_index(AGENTS, "tickets", columns, sqlite_where=ASSIGNED, postgresql_where=ASSIGNED)
    op.add_column("tickets", sa.Column("timeline_epoch", sa.Integer, nullable=False, server_default="0"))
    op.create_table(
        "outbox",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("fanned_out", sa.Boolean, nullable=False, server_default=sa.false()),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_to_fan_out", "outbox", ["seq"], sqlite_where=UNTOLD, postgresql_where=UNTOLD)
    leases = op.create_table(
        "leases",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(36), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(leases, [{"name": "relay", "holder": "", "fence": 0, "expires_at": 0}])
    op.create_table(
        "inbound_events",
        sa.Column("source", sa.String(255), primary_key=True),
        sa.Column("id", sa.String(255), primary_key=True),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("reached", sa.BigInteger, nullable=False),
        sa.Column("done", sa.Boolean, nullable=False),
    )
    op.create_index("ix_inbound_events_at", "inbound_events", ["at"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("seq", SEQUENCE, sa.Identity(), primary_key=True),
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("since", UtcDateTime, nullable=False),
        sa.Column("due", UtcDateTime, nullable=False),
        sa.Column("reason", sa.String(255)),
    )
    op.create_index("ix_webhook_deliveries_state_due", "webhook_deliveries", ["state", "due"])
    columns = ["endpoint", "state", "due"]
    op.create_index("ix_webhook_deliveries_endpoint_state_due", "webhook_deliveries", columns)


def downgrade() -> None:
    for table in ("webhook_deliveries", "inbound_events", "leases", "outbox"):
        op.drop_table(table)
    op.drop_column("tickets", "timeline_epoch")
    op.drop_index(AGENTS, "tickets")
    op.create_index(AGENTS, "tickets", ["assigned_agent_id", "status", "seq"])
