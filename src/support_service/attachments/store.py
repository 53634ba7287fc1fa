"""SQL of attachments and of the ledger, which counts files and bytes per storage."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from support_service.attachments.model import MAX_FILES_PER_CASE, Attachment, FileTotals
from support_service.core.principals import CaseOwnership
from support_service.database import Reader, Row, Transaction
from support_service.database.compiled import compiled
from support_service.database.tables import (
    attachment_deletions,
    attachment_ledger,
    attachment_leftovers,
    attachments,
    tickets,
)

OWNER = [tickets.c[field.name] for field in fields(CaseOwnership)]
FIELD_NAMES = [field.name for field in fields(Attachment)]
COLUMNS = [attachments.c[name] for name in FIELD_NAMES]
OF_CASE = sa.select(*COLUMNS).where(attachments.c.ticket_id == sa.bindparam("case_id")).order_by(attachments.c.seq)
BY_ID = compiled(
    sa.select(*OWNER, *COLUMNS)
    .join(tickets, tickets.c.id == attachments.c.ticket_id)
    .where(attachments.c.id == sa.bindparam("id"), attachments.c.ticket_id == sa.bindparam("case_id"))
)
_CASE_COLUMNS = (*OWNER, tickets.c.channel, tickets.c.status, tickets.c.version)
_CASE_BY_ID = tickets.c.id == sa.bindparam("case_id")
_FILE_COUNT = sa.select(sa.func.count()).select_from(attachments)
SELECT_CASE = compiled(
    sa.select(
        *_CASE_COLUMNS, _FILE_COUNT.where(attachments.c.ticket_id == tickets.c.id).scalar_subquery().label("files")
    ).where(_CASE_BY_ID)
)
LOCK_CASE = compiled(
    tickets.update()
    .where(_CASE_BY_ID)
    .values(version=tickets.c.version + sa.literal_column("1"))
    .returning(*_CASE_COLUMNS)
)
# The INSERT itself counts the files, so that it sees all files added while its transaction waited for the case.
ADD = compiled(
    attachments.insert()
    .from_select(
        FIELD_NAMES,
        sa.select(*(sa.bindparam(name, type_=attachments.c[name].type) for name in FIELD_NAMES)).where(
            _FILE_COUNT.where(attachments.c.ticket_id == sa.bindparam("ticket_id")).scalar_subquery()
            < sa.bindparam("most")
        ),
        include_defaults=False,
    )
    .inline()
)
INSERT_GARBAGE = compiled(attachment_leftovers.insert().inline())
LEDGER = sa.select(attachment_ledger.c.files, attachment_ledger.c.bytes).where(
    attachment_ledger.c.storage == sa.bindparam("of")
)
OLDEST = sa.select(sa.func.min(attachments.c.created_at).label("oldest")).where(
    attachments.c.storage == sa.bindparam("of")
)
UPDATE_LEDGER = compiled(
    attachment_ledger.update()
    .where(attachment_ledger.c.storage == sa.bindparam("of"))
    .values(
        files=attachment_ledger.c.files + sa.bindparam("more_files"),
        bytes=attachment_ledger.c.bytes + sa.bindparam("more_bytes"),
    )
    .returning(attachment_ledger.c.files, attachment_ledger.c.bytes)
)


class CaseForUpload(NamedTuple):
    """The fields of a case that attachment operations need."""

    owner: CaseOwnership
    channel: str
    status: str
    version: int
    files: int = 0  # set by `look_at_case` only; `touch_case` does not count files


async def get_case(reader: Reader, case_id: str) -> CaseForUpload | None:
    """Return a case with its number of files, without locking it; None if it does not exist."""
    return _to_look(await reader.fetch_one(SELECT_CASE, {"case_id": case_id}))


async def lock_case(tx: Transaction, case_id: str) -> CaseForUpload | None:
    """Increment a case's version and lock the case until `tx` ends. Return None if it does not exist."""
    return _to_look(await tx.fetch_one(LOCK_CASE, {"case_id": case_id}))


async def list_by_case(reader: Reader, case_id: str) -> list[Attachment]:
    """Return all attachments of a case, oldest first."""
    return [Attachment(**row._asdict()) for row in await reader.fetch_all(OF_CASE, {"case_id": case_id})]


async def get(reader: Reader, case_id: str, attachment_id: str) -> tuple[CaseOwnership, Attachment] | None:
    """Return the owner of a case and one of its attachments; None if it does not exist."""
    row = await reader.fetch_one(BY_ID, {"id": attachment_id, "case_id": case_id})
    return (_owner(row), to_attachment(row)) if row else None


async def add(tx: Transaction, attachment: Attachment) -> FileTotals | None:
    """Insert an attachment's row and count it in the ledger.

    Return the new content of its storage, or None if the case already has MAX_FILES files. `tx` must have called
    `touch_case` for the case.
    """
    if not await tx.execute(
        ADD, {name: getattr(attachment, name) for name in FIELD_NAMES} | {"most": MAX_FILES_PER_CASE}
    ):
        return None
    return await add_to_ledger(tx, attachment.storage, 1, attachment.size_bytes)


async def remove(tx: Transaction, ids: Sequence[str], reason: str, at: datetime) -> list[Attachment]:
    """Delete attachments' rows, record each deletion and put their bytes on the garbage list.

    Return the attachments that this call deleted, except any that another transaction deleted first. Pass them to
    `count_out` at the end of the transaction.
    """
    statement = attachments.delete().where(attachments.c.id.in_(ids)).returning(*COLUMNS)
    removed = [Attachment(**row._asdict()) for row in await tx.fetch_all(statement)]
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
        await add_garbage(tx, attachment.storage, attachment.storage_key, attachment.size_bytes, at)
    return removed


async def subtract_from_ledger(tx: Transaction, removed: Sequence[Attachment]) -> None:
    """Subtract removed attachments from the ledger. This must be the last step of the transaction that removed them."""
    for storage in sorted({each.storage for each in removed}):
        sizes = [each.size_bytes for each in removed if each.storage == storage]
        await add_to_ledger(tx, storage, -len(sizes), -sum(sizes))


async def add_garbage(
    tx: Transaction, storage: str, key: str, size: int, due_at: datetime, *, mover: str | None = None
) -> None:
    """Put bytes that no attachment names on the garbage list, to be deleted at `due_at`.

    `size` is in bytes. `mover` is the offload run that still writes these bytes, if any.
    """
    await tx.execute(
        INSERT_GARBAGE,
        {
            "storage": storage,
            "storage_key": key,
            "size_bytes": size,
            "due_at": due_at,
            "mover": mover,
            "removing": False,
        },
    )


async def ledger_totals(reader: Reader, storage: str) -> FileTotals:
    """Return the content of a storage according to the ledger. Raises LookupError if the ledger has no such row."""
    return _to_backlog(await reader.fetch_one(LEDGER, {"of": storage}))


async def oldest_created_at(reader: Reader, storage: str) -> datetime | None:
    """Return the creation time of the oldest file on a storage; None for an empty storage."""
    row = await reader.fetch_one(OLDEST, {"of": storage})
    return row.oldest if row else None


async def add_to_ledger(tx: Transaction, storage: str, files: int, size: int) -> FileTotals:
    """Add `files` and `size` (bytes), which may be negative, to a storage's ledger row. Return its new content."""
    # Call this last in a transaction: every upload updates this row, so its lock must be held as briefly as possible.
    return _to_backlog(await tx.fetch_one(UPDATE_LEDGER, {"of": storage, "more_files": files, "more_bytes": size}))


def _to_backlog(row: Row | None) -> FileTotals:
    if row is None:
        raise LookupError("the ledger has lost the row of a storage; the migrations make it")
    return FileTotals(files=row.files, bytes=row.bytes)


def _to_look(row: Row | None) -> CaseForUpload | None:
    if row is None:
        return None
    return CaseForUpload(_owner(row), row.channel, row.status, row.version, getattr(row, "files", 0))


def _owner(row: Row) -> CaseOwnership:
    return CaseOwnership(row.customer_id, row.assigned_agent_id, row.team)


def to_attachment(row: Row) -> Attachment:
    """Return the attachment of a row that has all COLUMNS, and maybe others."""
    return Attachment(**{name: getattr(row, name) for name in FIELD_NAMES})
