"""SQL of the rows of attachments, staged files, deletion records and the ledger.

Staged files are hidden from everybody but their uploader until a message names them. Their bytes are on the garbage
list, and become due when the file expires. A message that names the file takes its bytes off the list. Otherwise the
garbage collection deletes them, also in a release without staged files.

The ledger counts the files and bytes of each storage. A transaction adds a row with its change, so that no two wait
for the same row. The changes are merged into the totals from time to time; the content of a storage is the sum of both.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from support_service.cases.model.files import FileTotals, StoredAttachment
from support_service.cases.sql import link_rows, visibility
from support_service.core.domain.principals import CaseOwnership, Principal
from support_service.platform.database import Database, Row, RowReader, Transaction
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import attachment_deletions, attachments, erased_values, garbage, tickets
from support_service.platform.database.tables import attachment_ledger as ledger
from support_service.platform.database.tables import attachment_ledger_changes as ledger_changes
from support_service.platform.database.tables import staged_attachments as staged

OWNER_FIELDS = [field.name for field in fields(CaseOwnership)]
ATTACHMENT_FIELDS = [field.name for field in fields(StoredAttachment)]
OWNER_COLUMNS = [tickets.c[name] for name in OWNER_FIELDS]
ATTACHMENT_COLUMNS = [attachments.c[name] for name in ATTACHMENT_FIELDS]


def _list_with_owner_statement(*, public_only: bool) -> sa.Select[Any]:
    case_id = sa.bindparam("case_id", type_=sa.String)
    duplicates = visibility.duplicates_of(case_id, public_only=public_only)
    cases = sa.union_all(sa.select(sa.cast(case_id, sa.String).label("id")), duplicates).cte("cases")
    rows = tickets.join(cases, sa.true()).outerjoin(attachments, attachments.c.ticket_id == cases.c.id)
    return (
        sa.select(*OWNER_COLUMNS, *ATTACHMENT_COLUMNS)
        .select_from(rows)
        .where(tickets.c.id == case_id)
        .order_by(attachments.c.created_at, attachments.c.seq)
    )


LIST_WITH_OWNER = {public_only: _list_with_owner_statement(public_only=public_only) for public_only in (False, True)}
LIST_BY_CASE = (
    sa.select(*ATTACHMENT_COLUMNS).where(attachments.c.ticket_id == sa.bindparam("case_id")).order_by(attachments.c.seq)
)
FIND_WITH_OWNER = compiled(
    sa.select(*OWNER_COLUMNS, *ATTACHMENT_COLUMNS)
    .join(tickets, tickets.c.id == attachments.c.ticket_id)
    .where(attachments.c.id == sa.bindparam("id"), attachments.c.ticket_id == sa.bindparam("case_id"))
)
FIND_MOVED = (
    sa.select(*OWNER_COLUMNS, *ATTACHMENT_COLUMNS)
    .join(tickets, tickets.c.id == attachments.c.ticket_id)
    .join(link_rows.CASES_SPLIT_FROM, link_rows.CASES_SPLIT_FROM.c.id == attachments.c.ticket_id)
    .where(attachments.c.id == sa.bindparam("id"))
)
FILE_COUNT = sa.select(sa.func.count()).select_from(attachments)
# The INSERT itself counts the files, so that it sees all files added while its transaction waited for the case.
ADD_IF_ROOM = compiled(
    attachments.insert()
    .from_select(
        ATTACHMENT_FIELDS,
        sa.select(*(sa.bindparam(name, type_=attachments.c[name].type) for name in ATTACHMENT_FIELDS)).where(
            FILE_COUNT.where(attachments.c.ticket_id == sa.bindparam("ticket_id")).scalar_subquery()
            < sa.bindparam("most")
        ),
        include_defaults=False,
    )
    .inline()
)
ADD_ALL = compiled(attachments.insert().inline())
OLDEST_CREATED_AT = sa.select(sa.func.min(attachments.c.created_at).label("created_at")).where(
    attachments.c.storage == sa.bindparam("of")
)
INSERT_GARBAGE = compiled(garbage.insert().inline())
# A staged file gets the visibility of its message. Before that, only the uploader sees it.
_STAGED_COLUMNS = [
    sa.literal("internal").label(name) if name == "visibility" else staged.c[name] for name in ATTACHMENT_FIELDS
]
_STAGED_FIELDS = [*(name for name in ATTACHMENT_FIELDS if name != "visibility"), "staged_by", "staged_until"]
_STAGED_COUNT = sa.select(sa.func.count()).where(staged.c.staged_by == sa.bindparam("staged_by")).scalar_subquery()
_ADD_STAGED = (
    staged.insert()
    .from_select(
        _STAGED_FIELDS,
        sa.select(*(sa.bindparam(name, type_=staged.c[name].type) for name in _STAGED_FIELDS)).where(
            sa.bindparam("most") > _STAGED_COUNT
        ),
        include_defaults=False,
    )
    .inline()
)
_FILES_ADDED, _BYTES_ADDED = (
    sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger)
    for column in (ledger_changes.c.files, ledger_changes.c.bytes)
)
LEDGER_TOTALS = (
    sa.select(
        ledger.c.storage, (ledger.c.files + _FILES_ADDED).label("files"), (ledger.c.bytes + _BYTES_ADDED).label("bytes")
    )
    .select_from(ledger.outerjoin(ledger_changes, ledger_changes.c.storage == ledger.c.storage))
    .group_by(ledger.c.storage, ledger.c.files, ledger.c.bytes)
)
READ_LEDGER = LEDGER_TOTALS.where(ledger.c.storage == sa.bindparam("of"))
ADD_TO_LEDGER = compiled(ledger_changes.insert().inline())
ANY_LEDGER_CHANGE = sa.select(ledger_changes.c.storage).limit(sa.literal_column("1"))
TAKE_LEDGER_CHANGES = ledger_changes.delete().returning(*ledger_changes.c)
UPDATE_LEDGER = (
    ledger.update()
    .where(ledger.c.storage == sa.bindparam("of"))
    .values(files=ledger.c.files + sa.bindparam("more_files"), bytes=ledger.c.bytes + sa.bindparam("more_bytes"))
)


@dataclass(frozen=True, slots=True)
class GarbageEntry:
    """An entry of the garbage list: bytes that no attachment names. `size` is in bytes."""

    storage: str
    key: str
    size: int


class OwnedAttachment(NamedTuple):
    """An attachment, and whose its case is."""

    owner: CaseOwnership
    attachment: StoredAttachment


class OwnedAttachments(NamedTuple):
    """The attachments of a case, oldest first, and whose the case is."""

    owner: CaseOwnership
    attachments: list[StoredAttachment]


async def list_by_case(reader: RowReader, case_id: str) -> list[StoredAttachment]:
    """Return all attachments of a case, oldest first."""
    return [to_attachment(row) for row in await reader.fetch_all(LIST_BY_CASE, {"case_id": case_id})]


async def list_with_owner(reader: RowReader, case_id: str, *, public_only: bool) -> OwnedAttachments | None:
    """Return the owner of a case, and the attachments of the case and of its duplicates; None without the case.

    With `public_only`, duplicates of another customer are left out; internal files are not.
    """
    rows = await reader.fetch_all(LIST_WITH_OWNER[public_only], {"case_id": case_id})
    # A case without attachments is a row without one.
    return OwnedAttachments(to_owner(rows[0]), [to_attachment(row) for row in rows if row.id]) if rows else None


async def list_by_cases(
    reader: RowReader, case_ids: Sequence[str], limit: int, *, public_only: bool
) -> list[StoredAttachment]:
    """Return at most `limit` attachments of these cases, newest first."""
    statement = (
        sa.select(*ATTACHMENT_COLUMNS).where(attachments.c.ticket_id.in_(case_ids)).order_by(attachments.c.seq.desc())
    )
    if public_only:
        statement = statement.where(attachments.c.visibility == "public")
    return [to_attachment(row) for row in await reader.fetch_all(statement.limit(limit))]


async def get(reader: RowReader, case_id: str, attachment_id: str) -> OwnedAttachment | None:
    """Return the owner of a case and one of its attachments; None if it does not exist."""
    row = await reader.fetch_now(FIND_WITH_OWNER, {"id": attachment_id, "case_id": case_id})
    return OwnedAttachment(to_owner(row), to_attachment(row)) if row else None


async def find_moved(reader: RowReader, case_id: str, attachment_id: str) -> OwnedAttachment | None:
    """Return an attachment that was moved out of a case by a split, with the owner of the case that has it now."""
    rows = await reader.fetch_all(FIND_MOVED, {"id": attachment_id, "case_id": case_id})
    return OwnedAttachment(to_owner(rows[0]), to_attachment(rows[0])) if rows else None


async def list_by_ids(reader: RowReader, case_id: str, ids: Collection[str]) -> list[StoredAttachment]:
    """Return those attachments of a case that have one of these ids."""
    named = sa.select(*ATTACHMENT_COLUMNS).where(attachments.c.ticket_id == case_id, attachments.c.id.in_(ids))
    return [to_attachment(row) for row in await reader.fetch_all(named)]


async def get_by_id(reader: RowReader, attachment_id: str) -> StoredAttachment | None:
    """Return one attachment of any case; None if it does not exist."""
    row = await reader.fetch_now(sa.select(*ATTACHMENT_COLUMNS).where(attachments.c.id == attachment_id))
    return to_attachment(row) if row else None


async def is_current(reader: RowReader, attachment_id: str, storage_key: str) -> bool:
    """Return whether an attachment still has its bytes under a key: it was neither deleted nor moved meanwhile."""
    current = await get_by_id(reader, attachment_id)
    return current is not None and current.storage_key == storage_key


async def is_referenced(reader: RowReader, storage: str, key: str) -> bool:
    """Return whether an attachment or the garbage list names the bytes under a key."""
    named = sa.exists().where(attachments.c.storage == storage, attachments.c.storage_key == key)
    listed = sa.exists().where(garbage.c.storage == storage, garbage.c.storage_key == key)
    row = await reader.fetch_now(sa.select(sa.or_(named, listed).label("referenced")))
    return bool(row and row.referenced)


async def read_oldest_created_at(reader: RowReader, storage: str) -> datetime | None:
    """Return the creation time of the oldest file on a storage; None for an empty storage."""
    row = await reader.fetch_now(OLDEST_CREATED_AT, {"of": storage})
    return row.created_at if row else None


async def add(tx: Transaction, attachment: StoredAttachment, max_files: int) -> bool:
    """Insert an attachment's row. `tx` must have locked the case. Return False if the case has `max_files` files.

    Count it with `add_to_ledger`.
    """
    values = {name: getattr(attachment, name) for name in ATTACHMENT_FIELDS}
    return await tx.change_one(ADD_IF_ROOM, values | {"most": max_files})


async def add_all(tx: Transaction, added: Sequence[StoredAttachment]) -> None:
    """Insert rows of attachments of new cases. Count them with `add_to_ledger`."""
    rows = [{name: getattr(attachment, name) for name in ATTACHMENT_FIELDS} for attachment in added]
    await tx.execute(ADD_ALL, rows)


async def remove(tx: Transaction, ids: Sequence[str], reason: str, at: datetime) -> list[StoredAttachment]:
    """Delete attachments' rows, record each deletion and put their bytes on the garbage list.

    Return the attachments that this call deleted, except any that another transaction deleted first. Pass them to
    `subtract_from_ledger`.
    """
    statement = attachments.delete().where(attachments.c.id.in_(ids)).returning(*ATTACHMENT_COLUMNS)
    removed = [to_attachment(row) for row in await tx.fetch_all(statement)]
    deletions = [
        {
            "attachment_id": attachment.id,
            "ticket_id": attachment.ticket_id,
            "filename": attachment.filename,
            "size_bytes": attachment.size_bytes,
            "sha256": attachment.sha256,
            "reason": reason,
            "deleted_at": at,
        }
        for attachment in removed
    ]
    if deletions:
        await tx.execute(attachment_deletions.insert().inline(), deletions)
    await add_garbage(tx, [garbage_entry_of(attachment) for attachment in removed], at)
    return removed


async def delete_of_cases(tx: Transaction, case_ids: Collection[str], at: datetime) -> list[StoredAttachment]:
    """Delete all rows about files of cases that the transaction deletes. Their bytes are garbage from `at`.

    Return the files without the staged ones. The ledger is up to date.
    """
    await _discard_where(tx, staged.c.ticket_id.in_(case_ids), at)
    statement = attachments.delete().where(attachments.c.ticket_id.in_(case_ids)).returning(*ATTACHMENT_COLUMNS)
    deleted = [to_attachment(row) for row in await tx.fetch_all(statement)]
    await tx.execute(attachment_deletions.delete().where(attachment_deletions.c.ticket_id.in_(case_ids)))
    await add_garbage(tx, [garbage_entry_of(each) for each in deleted], at)
    await subtract_from_ledger(tx, deleted)
    return deleted


async def read_unfinished_copies(tx: Transaction, case_ids: Collection[str]) -> list[GarbageEntry]:
    """Return the copies of files of cases that offload runs are writing, and lock the rows of the files.

    A run needs the lock to switch a file to its copy. A copy does not name its file. So copies of files of other cases
    are among them, if the same run moves these files and they have the same size.
    """
    claimed = sa.select(attachments.c.mover, attachments.c.size_bytes).where(
        attachments.c.ticket_id.in_(case_ids), attachments.c.mover.is_not(None)
    )
    sizes = {(row.mover, row.size_bytes) for row in await tx.fetch_all(claimed.with_for_update())}
    if not sizes:
        return []
    copies = sa.select(garbage).where(garbage.c.mover.in_({mover for mover, _ in sizes}))
    return [
        GarbageEntry(row.storage, row.storage_key, row.size_bytes)
        for row in await tx.fetch_all(copies)
        if (row.mover, row.size_bytes) in sizes
    ]


async def erase_deletions(tx: Transaction, case_id: str) -> None:
    """Erase the names and the hashes in the deletion records of a case."""
    of_case = attachment_deletions.c.ticket_id == case_id
    await tx.execute(attachment_deletions.update().where(of_case).values(erased_values(attachment_deletions)))


def to_attachment(row: Row) -> StoredAttachment:
    """Return the attachment in a row that has COLUMNS."""
    return StoredAttachment(*(getattr(row, name) for name in ATTACHMENT_FIELDS))


def to_owner(row: Row) -> CaseOwnership:
    """Return whose a case is, from a row that has OWNER."""
    return CaseOwnership(*(getattr(row, name) for name in OWNER_FIELDS))


def garbage_entry_of(attachment: StoredAttachment) -> GarbageEntry:
    """Return the garbage entry of an attachment's bytes."""
    return GarbageEntry(attachment.storage, attachment.storage_key, attachment.size_bytes)


async def add_staged(
    tx: Transaction, attachment: StoredAttachment, uploader: Principal, until: datetime, max_files: int
) -> bool:
    """Insert a staged file. Return False if its uploader has `max_files` staged files."""
    values = {name: getattr(attachment, name) for name in ATTACHMENT_FIELDS if name != "visibility"}
    values |= {"staged_by": _uploader_name(uploader), "staged_until": until}
    if not await tx.execute(_ADD_STAGED, values | {"most": max_files}):
        return False
    await add_garbage(tx, [garbage_entry_of(attachment)], until)
    return True


async def list_staged(
    reader: RowReader, uploader: Principal, case_id: str, ids: Collection[str], now: datetime
) -> list[StoredAttachment]:
    """Return the files with these ids that the uploader has staged for a case, without expired ones."""
    rows = await reader.fetch_all(
        sa.select(*_STAGED_COLUMNS).where(*_is_staged_for(uploader, case_id, ids), staged.c.staged_until > now)
    )
    return [to_attachment(row) for row in rows]


async def get_staged(reader: RowReader, attachment_id: str) -> StoredAttachment | None:
    """Return one staged file of any uploader; None if it does not exist."""
    row = await reader.fetch_now(sa.select(*_STAGED_COLUMNS).where(staged.c.id == attachment_id))
    return to_attachment(row) if row else None


async def take_staged(tx: Transaction, files: Sequence[StoredAttachment]) -> bool:
    """Delete the rows of staged files that become files of their case, and take their bytes off the garbage list.

    Return False if one of them was deleted, or if its bytes are being deleted.
    """
    deleted = await tx.execute(staged.delete().where(staged.c.id.in_([each.id for each in files])))
    taken = await take_from_garbage(tx, [garbage_entry_of(each) for each in files])
    return deleted == taken == len(files)


async def discard_staged(
    tx: Transaction, uploader: Principal, case_id: str, attachment_id: str, at: datetime
) -> list[StoredAttachment]:
    """Delete a staged file of an uploader; return it, or nothing if there is none. Its bytes are garbage from `at`."""
    return await _discard_where(tx, sa.and_(*_is_staged_for(uploader, case_id, [attachment_id])), at)


async def discard_staged_of_case(tx: Transaction, case_id: str, at: datetime) -> list[StoredAttachment]:
    """Delete all staged files of a case, and return them. Their bytes are garbage from `at`."""
    return await _discard_where(tx, staged.c.ticket_id == case_id, at)


async def _discard_where(tx: Transaction, condition: sa.ColumnElement[bool], at: datetime) -> list[StoredAttachment]:
    rows = await tx.fetch_all(staged.delete().where(condition).returning(*_STAGED_COLUMNS))
    discarded = [to_attachment(row) for row in rows]
    for each in discarded:
        entry = (garbage.c.storage == each.storage, garbage.c.storage_key == each.storage_key)
        await tx.execute(garbage.update().where(*entry, ~garbage.c.removing).values(due_at=at))
    return discarded


def _is_staged_for(uploader: Principal, case_id: str, ids: Collection[str]) -> tuple[sa.ColumnElement[bool], ...]:
    return (staged.c.ticket_id == case_id, staged.c.staged_by == _uploader_name(uploader), staged.c.id.in_(ids))


def _uploader_name(uploader: Principal) -> str:
    """Return the name of an uploader in rows. It is the id of a person, so that a new token finds the files."""
    return f"{uploader.role} {uploader.id}"


async def add_garbage(
    tx: Transaction, entries: Sequence[GarbageEntry], due_at: datetime, *, mover: str | None = None
) -> None:
    """Put bytes that no attachment names on the garbage list, to be deleted at `due_at`.

    `mover` is the offload run that still writes these bytes, if any.
    """
    rows = [
        {
            "storage": entry.storage,
            "storage_key": entry.key,
            "size_bytes": entry.size,
            "due_at": due_at,
            "mover": mover,
            "removing": False,
        }
        for entry in entries
    ]
    if rows:
        await tx.execute(INSERT_GARBAGE, rows)


async def take_from_garbage(tx: Transaction, entries: Sequence[GarbageEntry]) -> int:
    """Delete entries from the garbage list because a row names their bytes from now on.

    Return how many were deleted; an entry whose bytes are being deleted stays.
    """
    named = sa.or_(
        *(sa.and_(garbage.c.storage == entry.storage, garbage.c.storage_key == entry.key) for entry in entries)
    )
    return await tx.execute(garbage.delete().where(named, ~garbage.c.removing))


async def read_ledger_totals(reader: RowReader, storage: str) -> FileTotals:
    """Return the content of a storage according to the ledger. Raises LookupError if the ledger has no such row."""
    row = await reader.fetch_now(READ_LEDGER, {"of": storage})
    if row is None:
        raise LookupError("The ledger has no row for a storage; the migrations create it")
    return FileTotals(files=row.files, bytes=row.bytes)


async def add_to_ledger(tx: Transaction, storage: str, files: int, size: int) -> None:
    """Add `files` and `size` (bytes), which may be negative, to a storage in the ledger."""
    await tx.execute_later(ADD_TO_LEDGER, {"storage": storage, "files": files, "bytes": size})


async def subtract_from_ledger(tx: Transaction, removed: Sequence[StoredAttachment]) -> None:
    """Subtract removed attachments, in the transaction that removed them."""
    for storage in sorted({each.storage for each in removed}):
        sizes = [each.size_bytes for each in removed if each.storage == storage]
        await add_to_ledger(tx, storage, -len(sizes), -sum(sizes))


async def merge_ledger_changes(database: Database) -> None:
    """Move the changes of the ledger into its totals. Any number of replicas may do so at once."""
    if await database.fetch_now(ANY_LEDGER_CHANGE) is None:
        return
    files, sizes = Counter[str](), Counter[str]()
    async with database.transaction() as tx:
        for change in await tx.fetch_all(TAKE_LEDGER_CHANGES):
            files[change.storage] += change.files
            sizes[change.storage] += change.bytes
        for name in sorted(files):
            await tx.execute(UPDATE_LEDGER, {"of": name, "more_files": files[name], "more_bytes": sizes[name]})
