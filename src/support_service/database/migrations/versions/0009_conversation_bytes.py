"""How much the conversation of a case has: what is there already counts with the length of its texts."""

import sqlalchemy as sa
from alembic import op

from support_service.database.dialect import octets

revision = "0009"
down_revision = "0008"

BESIDE = 256  # bytes of a message as JSON beside what is measured: ids, author and time
TICKETS = sa.table("tickets", sa.column("id"), sa.column("conversation_bytes"))
MESSAGES = sa.table(
    "messages", sa.column("ticket_id"), sa.column("message"), sa.column("attachment_uri"), sa.column("metadata")
)
MEASURED = (MESSAGES.c.message, MESSAGES.c.attachment_uri, MESSAGES.c.metadata)
SIZE = sum((sa.func.coalesce(octets(sa.cast(column, sa.Text)), 0) for column in MEASURED), start=sa.literal(BESIDE))
SAID = sa.select(MESSAGES.c.ticket_id, sa.func.sum(SIZE).label("bytes")).group_by(MESSAGES.c.ticket_id).subquery("said")
COUNT = TICKETS.update().where(TICKETS.c.id == SAID.c.ticket_id).values(conversation_bytes=SAID.c.bytes)


def upgrade() -> None:
    op.add_column("tickets", sa.Column("conversation_bytes", sa.BigInteger, nullable=False, server_default="0"))
    op.execute(COUNT)


def downgrade() -> None:
    op.drop_column("tickets", "conversation_bytes")
