"""Mark messages without a search document: replicas of releases before 0014 add them, now or after a rollback.

Such a release leaves the column out, and so takes the default, false. The service writes true with the document of a
message, and a job makes the documents that are missing, which it finds by an index of these messages alone.

Existing messages have a document, unless such a replica has added them since 0014. Cases with fewer documents than
messages are marked as a whole. Erased cases have no documents.
"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"

INDEX = "ix_messages_without_document"
MISSING = sa.text("NOT has_document")
BATCH = 1000  # cases in one transaction
MARK = """
UPDATE messages SET has_document = false WHERE ticket_id IN (
    SELECT id FROM tickets AS t WHERE t.seq BETWEEN :first AND :last AND t.subject <> '[erased]'
    AND (SELECT count(*) FROM messages AS m WHERE m.ticket_id = t.id) > (
        SELECT count(*) FROM search_documents AS d WHERE d.id BETWEEN (t.seq << 20) + 1 AND (t.seq << 20) + 1048575
    )
)
"""


def upgrade() -> None:
    if op.get_context().dialect.name != "postgresql":
        op.add_column("messages", _column(default=sa.false()))
        op.execute("UPDATE messages SET has_document = true")
        op.create_index(INDEX, "messages", ["seq"], sqlite_where=MISSING)
        _mark(op.get_bind())
        return
    # In one transaction, so that a message that is added in between has neither value by chance.
    op.add_column("messages", _column(default=sa.true()), if_not_exists=True)
    op.alter_column("messages", "has_document", server_default=sa.false())
    # Writers go on meanwhile. What an interrupted attempt leaves of the index is not usable, and is made again.
    with op.get_context().autocommit_block():
        op.drop_index(INDEX, "messages", postgresql_concurrently=True, if_exists=True)
        op.create_index(INDEX, "messages", ["seq"], postgresql_where=MISSING, postgresql_concurrently=True)
        _mark(op.get_bind())


def _column(*, default: sa.ColumnElement[bool]) -> sa.Column[bool]:
    return sa.Column("has_document", sa.Boolean, nullable=False, server_default=default)


def _mark(connection: sa.Connection) -> None:
    last = connection.scalar(sa.text("SELECT max(seq) FROM tickets")) or 0
    for first in range(1, last + 1, BATCH):
        connection.execute(sa.text(MARK), {"first": first, "last": first + BATCH - 1})


def downgrade() -> None:
    op.drop_index(INDEX, "messages")
    op.drop_column("messages", "has_document")
