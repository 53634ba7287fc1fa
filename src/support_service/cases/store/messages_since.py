"""SQL of the messages that were added to a case since a version of it.

Messages do not name the version that they made, but the documents of the search do, in the order of the messages.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

import sqlalchemy as sa

from support_service.cases.store.projections import MESSAGES_JSON, PUBLIC, PUBLIC_VERSION
from support_service.platform.database import Reader
from support_service.platform.database.search_dialect import POSITION_BITS
from support_service.platform.database.tables import messages, search_documents, tickets

_CASE = sa.select(tickets.c.seq).where(tickets.c.id == sa.bindparam("id")).scalar_subquery()
_FIRST = _CASE * sa.literal_column(str(1 << POSITION_BITS), sa.BigInteger())
_DOCUMENTS = (
    sa.select((search_documents.c.id - _FIRST).label("position"), search_documents.c.internal)
    .where(search_documents.c.id.between(_FIRST + 1, _FIRST + ((1 << POSITION_BITS) - 1)))
    .order_by(search_documents.c.id)
)


class NewMessages(NamedTuple):
    """The version of a case, and the JSON of its newest messages, oldest first."""

    version: int
    messages: str


def _newest(*, public_only: bool) -> sa.Select[Any]:
    found = messages.alias("found")
    newest = (
        sa.select(found.c.seq)
        .where(found.c.ticket_id == sa.bindparam("id"), found.c.visibility == PUBLIC if public_only else sa.true())
        .order_by(found.c.seq.desc())
        .limit(sa.bindparam("number"))
    )
    version = PUBLIC_VERSION if public_only else tickets.c.version
    return sa.select(
        version.label("version"),
        MESSAGES_JSON(messages.c.seq.in_(sa.select(newest.subquery().c.seq))).label("messages"),
    ).where(tickets.c.id == sa.bindparam("id"))


_NEWEST = {public_only: _newest(public_only=public_only) for public_only in (False, True)}


async def read_since(reader: Reader, case_id: str, version: int, most: int, *, public_only: bool) -> NewMessages | None:
    """Return at most `most` messages that a case got after a version; None for an unknown case.

    With `public_only` the version is one that customers see, and internal notes are left out. If the case has internal
    files or links, some messages before the version may be among them: their numbers are not known.
    """
    documents = await reader.fetch_all(_DOCUMENTS, {"id": case_id})
    number = _count_after([(row.position, bool(row.internal)) for row in documents], version, public_only=public_only)
    rows = await reader.fetch_all(_NEWEST[public_only], {"id": case_id, "number": min(number, most)})
    return NewMessages(rows[0].version, rows[0].messages) if rows else None


def _count_after(documents: Collection[tuple[int, bool]], version: int, *, public_only: bool) -> int:
    """Return the number of messages after a version; documents are (version, whether it is internal), oldest first."""
    if not public_only:
        return sum(position > version for position, _ in documents)
    number = notes = 0
    for position, internal in documents:
        notes += internal
        number += not internal and position - notes > version
    return number
