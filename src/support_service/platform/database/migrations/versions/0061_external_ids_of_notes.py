"""External ids of notes are unique apart from public messages: a customer can't find out the id of a note.

The previous release finds a message by its external id before it adds one, and does so with both indexes. Its statement
uses the first two columns of the new index.

On PostgreSQL writers go on meanwhile, and an attempt that is interrupted is repeated. A downgrade removes the external
id of a note that a public message has, too.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0061"
down_revision = "0060"

OLD = ("ix_messages_ticket_id_external_id", ["ticket_id", "external_id"])
NEW = ("ix_messages_ticket_id_external_id_visibility", ["ticket_id", "external_id", "visibility"])
HAS_EXTERNAL_ID = sa.text("external_id IS NOT NULL")
FREE_IDS = """
UPDATE messages SET external_id = NULL WHERE visibility = 'internal' AND external_id IS NOT NULL AND EXISTS (
    SELECT 1 FROM messages AS public WHERE public.ticket_id = messages.ticket_id
    AND public.external_id = messages.external_id AND public.visibility = 'public'
)
"""


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        _create(NEW)
        op.drop_index(OLD[0], "messages")
        return
    with op.get_context().autocommit_block():
        # An interrupted attempt leaves an index that is not usable.
        op.drop_index(NEW[0], "messages", postgresql_concurrently=True, if_exists=True)
        _create(NEW, postgresql_concurrently=True)
        op.drop_index(OLD[0], "messages", postgresql_concurrently=True, if_exists=True)


def downgrade() -> None:
    op.execute(FREE_IDS)
    _create(OLD)
    op.drop_index(NEW[0], "messages")


def _create(index: tuple[str, list[str]], **options: Any) -> None:
    name, columns = index
    op.create_index(
        *(name, "messages", columns),
        unique=True,
        sqlite_where=HAS_EXTERNAL_ID,
        postgresql_where=HAS_EXTERNAL_ID,
        **options,
    )
