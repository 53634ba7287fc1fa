"""Fill in existing rows: the length of conversations, and the visibility of files that only notes reference.

This is a separate revision that updates a few rows at a time, because the service reads and writes meanwhile. A lock of
the table, as in the revisions that add the columns, would block the service until the last row is filled in. The empty
values are never read, because a release that knows the columns does not start before this revision is done.
"""

from contextlib import nullcontext

import sqlalchemy as sa
from alembic import op

from support_service.platform.database.dialect import octets

revision = "0011"
down_revision = "0010"

BATCH = 1000  # rows in one transaction
BESIDE = 256  # bytes of a message as JSON beside what is measured: ids, author and time
TICKETS = sa.table("tickets", sa.column("seq"), sa.column("id"), sa.column("conversation_bytes"))
MESSAGES = sa.table(
    "messages", sa.column("ticket_id"), sa.column("message"), sa.column("attachment_uri"), sa.column("metadata")
)
MEASURED = (MESSAGES.c.message, MESSAGES.c.attachment_uri, MESSAGES.c.metadata)
SIZE = sum((sa.func.coalesce(octets(sa.cast(column, sa.Text)), 0) for column in MEASURED), start=sa.literal(BESIDE))
UNCOUNTED = sa.select(TICKETS.c.id).where(
    TICKETS.c.seq.between(sa.bindparam("first", type_=sa.BigInteger), sa.bindparam("last", type_=sa.BigInteger)),
    TICKETS.c.conversation_bytes == 0,
)
TEXT_SIZES = (
    sa.select(MESSAGES.c.ticket_id, sa.func.sum(SIZE).label("bytes"))
    .where(MESSAGES.c.ticket_id.in_(UNCOUNTED))
    .group_by(MESSAGES.c.ticket_id)
    .subquery("text_sizes")
)
COUNT = TICKETS.update().where(TICKETS.c.id == TEXT_SIZES.c.ticket_id).values(conversation_bytes=TEXT_SIZES.c.bytes)
# Ids hold no sign that LIKE takes for more than itself.
NAMED = """
SELECT 1 FROM messages WHERE ticket_id = attachments.ticket_id AND attachment_uri LIKE '%' || attachments.id || '%'
"""
HIDE = f"""
UPDATE attachments SET visibility = 'internal' WHERE seq BETWEEN :first AND :last
AND EXISTS ({NAMED} AND visibility = 'internal') AND NOT EXISTS ({NAMED} AND visibility = 'public')
"""  # noqa: S608 - our own literals


def upgrade() -> None:
    context = op.get_context()
    # SQLite runs all migrations in one transaction; its readers do not wait for it.
    with context.autocommit_block() if context.dialect.name == "postgresql" else nullcontext():
        connection = op.get_bind()
        for table, fill in (("tickets", COUNT), ("attachments", sa.text(HIDE))):
            last = connection.scalar(sa.select(sa.func.max(sa.column("seq"))).select_from(sa.table(table))) or 0
            for first in range(1, last + 1, BATCH):
                connection.execute(fill, {"first": first, "last": first + BATCH - 1})


def downgrade() -> None:
    pass  # the columns go with the revisions that added them
