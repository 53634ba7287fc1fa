"""Snoozed cases: until when, and in a duplicate's link the time that it had before the link closed it.

The previous release leaves `snoozed_until` as it is when it changes a status. A case is snoozed only while it is
pending, and the index has no other. A case that it makes pending again is snoozed until that time again.
"""

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import UtcDateTime

revision = "0055"
down_revision = "0054"

COLUMNS = (("tickets", "snoozed_until"), ("case_links", "previous_snoozed_until"))
INDEX, INDEXED = "ix_tickets_snoozed_until_seq", ["snoozed_until", "seq"]
ADD_LEASE = "INSERT INTO leases (name, holder, fence, expires_at) VALUES ('snoozes', '', 0, 0) ON CONFLICT DO NOTHING"
IS_SNOOZED = sa.text("snoozed_until IS NOT NULL AND status = 'pending'")


def upgrade() -> None:
    op.execute(ADD_LEASE)
    if op.get_context().dialect.name == "sqlite":
        for table, name in COLUMNS:
            op.add_column(table, sa.Column(name, UtcDateTime))
        op.create_index(INDEX, "tickets", INDEXED, sqlite_where=IS_SNOOZED)
        return
    with op.get_context().autocommit_block():
        for table, name in COLUMNS:
            op.add_column(table, sa.Column(name, UtcDateTime), if_not_exists=True)
        # An interrupted attempt leaves an index that is not usable.
        op.drop_index(INDEX, "tickets", postgresql_concurrently=True, if_exists=True)
        op.create_index(INDEX, "tickets", INDEXED, postgresql_where=IS_SNOOZED, postgresql_concurrently=True)


def downgrade() -> None:
    op.execute("DELETE FROM leases WHERE name = 'snoozes'")
    op.drop_index(INDEX, "tickets")
    for table, name in COLUMNS:
        op.drop_column(table, name)
