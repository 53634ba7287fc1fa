"""All SQL of attachments and of the ledger that counts them."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from support_service.attachments.model import MAX_FILES, Attachment, Backlog
from support_service.core.principals import Owner
from support_service.database import Reader, Row, Transaction
from support_service.database.compiled import hot
from support_service.database.tables import (
    attachment_deletions,
    attachment_ledger,
    attachment_leftovers,
    attachments,
    tickets,
)

OWNER = [tickets.c[field.name] for field in fields(Owner)]
NAMES = [field.name for field in fields(Attachment)]
COLUMNS = [attachments.c[name] for name in NAMES]
OF_CASE = sa.select(*COLUMNS).where(attachments.c.ticket_id == sa.bindparam("case_id")).order_by(attachments.c.seq)
BY_ID = hot(
    sa.select(*OWNER, *COLUMNS)
    .join(tickets, tickets.c.id == attachments.c.ticket_id)
    .where(attachments.c.id == sa.bindparam("id"), attachments.c.ticket_id == sa.bindparam("case_id"))
)
_CASE = (*OWNER, tickets.c.channel, tickets.c.status, tickets.c.version)
_OF_CASE = tickets.c.id == sa.bindparam("case_id")
_FILES = sa.select(sa.func.count()).select_from(attachments)
LOOK_AT_CASE = hot(
    sa.select(*_CASE, _FILES.where(attachments.c.ticket_id == tickets.c.id).scalar_subquery()).where(_OF_CASE)
)
TOUCH_CASE = hot(
    tickets.update().where(_OF_CASE).values(version=tickets.c.version + sa.literal_column("1")).returning(*_CASE)
)
# Counted by the statement that adds, which sees all that was added while its transaction waited for the case.
ADD = hot(
    attachments.insert()
    .from_select(
        NAMES,
        sa.select(*(sa.bindparam(name, type_=attachments.c[name].type) for name in NAMES)).where(
            _FILES.where(attachments.c.ticket_id == sa.bindparam("ticket_id")).scalar_subquery() < sa.bindparam("most")
        ),
        include_defaults=False,
    )
    .inline()
)
LEAVE = hot(attachment_leftovers.insert().inline())
LEDGER = sa.select(attachment_ledger.c.files, attachment_ledger.c.bytes).where(
    attachment_ledger.c.storage == sa.bindparam("of")
)
OLDEST = sa.select(sa.func.min(attachments.c.created_at)).where(attachments.c.storage == sa.bindparam("of"))
COUNT = hot(
    attachment_ledger.update()
    .where(attachment_ledger.c.storage == sa.bindparam("of"))
    .values(
        files=attachment_ledger.c.files + sa.bindparam("more_files"),
        bytes=attachment_ledger.c.bytes + sa.bindparam("more_bytes"),
    )
    .returning(attachment_ledger.c.files, attachment_ledger.c.bytes)
)


class Look(NamedTuple):
    """What attachments ask of their case."""

    owner: Owner
    channel: str
    status: str
    version: int
    files: int = 0  # where it was looked at; nothing of a case that is touched is counted


async def look_at_case(reader: Reader, case_id: str) -> Look | None:
    """A case as it is; None where there is none."""
    return _look(await reader.fetch_one(LOOK_AT_CASE, {"case_id": case_id}))


async def touch_case(tx: Transaction, case_id: str) -> Look | None:
    """Give a case its next version, which nobody else changes before this transaction ends; None without one."""
    return _look(await tx.fetch_one(TOUCH_CASE, {"case_id": case_id}))


async def of_case(reader: Reader, case_id: str) -> list[Attachment]:
    """A case's attachments, oldest first."""
    return [Attachment(*row) for row in await reader.fetch_all(OF_CASE, {"case_id": case_id})]


async def get(reader: Reader, case_id: str, attachment_id: str) -> tuple[Owner, Attachment] | None:
    """One attachment of a case, and whose that case is."""
    row = await reader.fetch_one(BY_ID, {"id": attachment_id, "case_id": case_id})
    return (Owner(*row[: len(OWNER)]), Attachment(*row[len(OWNER) :])) if row else None


async def add(tx: Transaction, attachment: Attachment) -> Backlog | None:
    """Keep an attachment's row and count it; returns what its storage holds now, None where the case has no room.

    The transaction is to have touched the case.
    """
    if not await tx.execute(ADD, {name: getattr(attachment, name) for name in NAMES} | {"most": MAX_FILES}):
        return None
    return await count(tx, attachment.storage, 1, attachment.size_bytes)


async def remove(tx: Transaction, ids: Sequence[str], reason: str, at: datetime) -> list[Attachment]:
    """Remove attachments' rows, record the deletion and list their bytes as left over.

    Returns those removed here, and not by someone else before: `count_out` is to count them, last in the transaction.
    """
    doomed = attachments.delete().where(attachments.c.id.in_(ids)).returning(*COLUMNS)
    removed = [Attachment(*row) for row in await tx.fetch_all(doomed)]
    for attachment in removed:
        await tx.execute(
            attachment_deletions.insert().inline(),
            {
                "attachment_id": attachment.id,
                "ticket_id": attachment.ticket_id,
                "filename": attachment.filename,
                "size_bytes": attachment.size_bytes,
                "sha256": attachment.sha256,
                "reason": reason,
                "deleted_at": at,
            },
        )
        await leave(tx, attachment.storage, attachment.storage_key, attachment.size_bytes, at)
    return removed


async def count_out(tx: Transaction, removed: Sequence[Attachment]) -> None:
    """Count attachments out of their storages: the last that a transaction does which has removed them."""
    for storage in sorted({each.storage for each in removed}):
        sizes = [each.size_bytes for each in removed if each.storage == storage]
        await count(tx, storage, -len(sizes), -sum(sizes))


async def leave(
    tx: Transaction, storage: str, key: str, size: int, due_at: datetime, *, mover: str | None = None
) -> None:
    """List bytes that no attachment names, to be removed when they are due."""
    await tx.execute(
        LEAVE,
        {
            "storage": storage,
            "storage_key": key,
            "size_bytes": size,
            "due_at": due_at,
            "mover": mover,
            "removing": False,
        },
    )


async def backlog(reader: Reader, storage: str) -> Backlog:
    """What a storage holds, by the ledger."""
    return _backlog(await reader.fetch_one(LEDGER, {"of": storage}))


async def oldest(reader: Reader, storage: str) -> datetime | None:
    """When the oldest file on a storage was kept."""
    row = await reader.fetch_one(OLDEST, {"of": storage})
    return row[0] if row else None


async def count(tx: Transaction, storage: str, files: int, size: int) -> Backlog:
    """Count files in or out of a storage; returns what it holds now."""
    # Last in its transaction: this row is every upload's, so its lock is held for as short as can be.
    return _backlog(await tx.fetch_one(COUNT, {"of": storage, "more_files": files, "more_bytes": size}))


def _backlog(row: Row | None) -> Backlog:
    if row is None:
        raise LookupError("the ledger has lost the row of a storage; the migrations make it")
    return Backlog(files=row[0], bytes=row[1])


def _look(row: Row | None) -> Look | None:
    return Look(Owner(*row[: len(OWNER)]), *row[len(OWNER) :]) if row else None
