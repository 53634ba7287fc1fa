"""SQL of attachments, their deletion records, and the cases that they belong to."""

from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from support_service.attachments.garbage_queries import GarbageEntry, add_garbage
from support_service.attachments.model import StoredAttachment
from support_service.core.domain.principals import CaseOwnership
from support_service.platform.database import Reader, Row, Transaction
from support_service.platform.database.compiled import compiled
from support_service.platform.database.erasure import erased_values
from support_service.platform.database.json_projections import IS_SYNTHETIC, LATEST_CHANGE
from support_service.platform.database.tables import attachment_deletions, attachments, tickets

OWNER_NAMES = [field.name for field in fields(CaseOwnership)]
FIELD_NAMES = [field.name for field in fields(StoredAttachment)]
OWNER = [tickets.c[name] for name in OWNER_NAMES]
COLUMNS = [attachments.c[name] for name in FIELD_NAMES]
LIST_WITH_OWNER = (
    sa.select(*OWNER, *COLUMNS)
    .select_from(tickets.outerjoin(attachments, attachments.c.ticket_id == tickets.c.id))
    .where(tickets.c.id == sa.bindparam("case_id"))
    .order_by(attachments.c.seq)
)
LIST_BY_CASE = sa.select(*COLUMNS).where(attachments.c.ticket_id == sa.bindparam("case_id")).order_by(attachments.c.seq)
BY_ID = compiled(
    sa.select(*OWNER, *COLUMNS)
    .join(tickets, tickets.c.id == attachments.c.ticket_id)
    .where(attachments.c.id == sa.bindparam("id"), attachments.c.ticket_id == sa.bindparam("case_id"))
)
_CASE_COLUMNS = (
    *OWNER,
    *(IS_SYNTHETIC.label("synthetic"), tickets.c.status, tickets.c.version, tickets.c.internal_changes),
    LATEST_CHANGE.label("latest"),
)
_CASE_BY_ID = tickets.c.id == sa.bindparam("case_id")
_FILE_COUNT = sa.select(sa.func.count()).select_from(attachments)
SELECT_CASE = compiled(
    sa.select(
        *_CASE_COLUMNS, _FILE_COUNT.where(attachments.c.ticket_id == tickets.c.id).scalar_subquery().label("files")
    ).where(_CASE_BY_ID)
)
HOLD_CASE = compiled(sa.select(*_CASE_COLUMNS).where(_CASE_BY_ID).with_for_update(read=True))
LOCK_CASE = compiled(
    tickets.update()
    .where(_CASE_BY_ID)
    .values(
        version=tickets.c.version + sa.literal_column("1"),
        internal_changes=tickets.c.internal_changes + sa.bindparam("internal", type_=sa.Integer()),
    )
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
ADD_ALL = compiled(attachments.insert().inline())
OLDEST = sa.select(sa.func.min(attachments.c.created_at).label("created_at")).where(
    attachments.c.storage == sa.bindparam("of")
)


class CaseForUpload(NamedTuple):
    """The fields of a case that attachment operations need.

    `internal_changes` is the number of changes that customers can't see, `latest` the time of the last change.
    """

    owner: CaseOwnership
    synthetic: bool
    status: str
    version: int
    internal_changes: int
    latest: datetime
    files: int = 0  # counted by `get_case` only


class OwnedAttachment(NamedTuple):
    """An attachment, and whose its case is."""

    owner: CaseOwnership
    attachment: StoredAttachment


class OwnedAttachments(NamedTuple):
    """The attachments of a case, oldest first, and whose the case is."""

    owner: CaseOwnership
    attachments: list[StoredAttachment]


class NumberedAttachment(NamedTuple):
    """An attachment of a page; the next page starts behind its `seq`."""

    seq: int
    attachment: StoredAttachment


async def get_case(reader: Reader, case_id: str) -> CaseForUpload | None:
    """Return a case with its number of files, without locking it; None if it does not exist."""
    row = await reader.fetch_one(SELECT_CASE, {"case_id": case_id})
    return _to_case(row, files=row.files) if row else None


async def hold_case(tx: Transaction, case_id: str) -> CaseForUpload | None:
    """Return a case that nobody else changes until `tx` ends; None if it does not exist."""
    row = await tx.fetch_one(HOLD_CASE, {"case_id": case_id})
    return _to_case(row) if row else None


async def lock_case_and_bump_version(tx: Transaction, case_id: str, *, internal: bool = False) -> CaseForUpload | None:
    """Increment a case's version and lock the case until `tx` ends. Return None if it does not exist.

    `internal` says that the change concerns internal files only, so that customers see no new version.
    """
    row = await tx.fetch_one(LOCK_CASE, {"case_id": case_id, "internal": int(internal)})
    return _to_case(row) if row else None


async def list_by_case(reader: Reader, case_id: str) -> list[StoredAttachment]:
    """Return all attachments of a case, oldest first."""
    return [to_attachment(row) for row in await reader.fetch_all(LIST_BY_CASE, {"case_id": case_id})]


async def list_with_owner(reader: Reader, case_id: str) -> OwnedAttachments | None:
    """Return the owner of a case and all its attachments; None if the case does not exist."""
    rows = await reader.fetch_all(LIST_WITH_OWNER, {"case_id": case_id})
    # A case without attachments is a row without one.
    return OwnedAttachments(_to_owner(rows[0]), [to_attachment(row) for row in rows if row.id]) if rows else None


async def list_by_cases(
    reader: Reader, case_ids: Sequence[str], limit: int, *, public_only: bool
) -> list[StoredAttachment]:
    """Return at most `limit` attachments of these cases, newest first."""
    statement = sa.select(*COLUMNS).where(attachments.c.ticket_id.in_(case_ids)).order_by(attachments.c.seq.desc())
    if public_only:
        statement = statement.where(attachments.c.visibility == "public")
    return [to_attachment(row) for row in await reader.fetch_all(statement.limit(limit))]


async def get(reader: Reader, case_id: str, attachment_id: str) -> OwnedAttachment | None:
    """Return the owner of a case and one of its attachments; None if it does not exist."""
    row = await reader.fetch_one(BY_ID, {"id": attachment_id, "case_id": case_id})
    return OwnedAttachment(_to_owner(row), to_attachment(row)) if row else None


async def list_by_ids(reader: Reader, case_id: str, ids: Collection[str]) -> list[StoredAttachment]:
    """Return those attachments of a case that have one of these ids."""
    named = sa.select(*COLUMNS).where(attachments.c.ticket_id == case_id, attachments.c.id.in_(ids))
    return [to_attachment(row) for row in await reader.fetch_all(named)]


async def get_by_id(reader: Reader, attachment_id: str) -> StoredAttachment | None:
    """Return one attachment of any case; None if it does not exist."""
    row = await reader.fetch_one(sa.select(*COLUMNS).where(attachments.c.id == attachment_id))
    return to_attachment(row) if row else None


async def is_current(reader: Reader, attachment_id: str, storage_key: str) -> bool:
    """Return whether an attachment still has its bytes under a key: it was neither deleted nor moved meanwhile."""
    current = await get_by_id(reader, attachment_id)
    return current is not None and current.storage_key == storage_key


async def list_page(reader: Reader, after: int, limit: int) -> list[NumberedAttachment]:
    """Return at most `limit` attachments of all cases in the order of seq, starting behind `after`."""
    rows = await reader.fetch_all(
        sa.select(attachments.c.seq, *COLUMNS).where(attachments.c.seq > after).order_by(attachments.c.seq).limit(limit)
    )
    return [NumberedAttachment(row.seq, to_attachment(row)) for row in rows]


async def oldest_created_at(reader: Reader, storage: str) -> datetime | None:
    """Return the creation time of the oldest file on a storage; None for an empty storage."""
    row = await reader.fetch_one(OLDEST, {"of": storage})
    return row.created_at if row else None


async def add(tx: Transaction, attachment: StoredAttachment, max_files: int) -> bool:
    """Insert an attachment's row. `tx` must have locked the case. Return False if the case has `max_files` files.

    Count it with `ledger.add` at the end of the transaction.
    """
    values = {name: getattr(attachment, name) for name in FIELD_NAMES}
    return bool(await tx.execute(ADD, values | {"most": max_files}))


async def add_all(tx: Transaction, added: Sequence[StoredAttachment]) -> None:
    """Insert rows of attachments of new cases. Count them with `ledger.add` at the end of the transaction."""
    rows = [{name: getattr(attachment, name) for name in FIELD_NAMES} for attachment in added]
    await tx.execute(ADD_ALL, rows)


async def remove(tx: Transaction, ids: Sequence[str], reason: str, at: datetime) -> list[StoredAttachment]:
    """Delete attachments' rows, record each deletion and put their bytes on the garbage list.

    Return the attachments that this call deleted, except any that another transaction deleted first. Pass them to
    `ledger.subtract` at the end of the transaction.
    """
    statement = attachments.delete().where(attachments.c.id.in_(ids)).returning(*COLUMNS)
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
    await add_garbage(tx, [bytes_of(attachment) for attachment in removed], at)
    return removed


async def erase_deletions(tx: Transaction, case_id: str) -> None:
    """Erase the names and the hashes in the deletion records of a case."""
    of_case = attachment_deletions.c.ticket_id == case_id
    await tx.execute(attachment_deletions.update().where(of_case).values(erased_values(attachment_deletions)))


def to_attachment(row: Row) -> StoredAttachment:
    """Return the attachment in a row that has COLUMNS."""
    return StoredAttachment(*(getattr(row, name) for name in FIELD_NAMES))


def bytes_of(attachment: StoredAttachment) -> GarbageEntry:
    """Return the garbage entry of an attachment's bytes."""
    return GarbageEntry(attachment.storage, attachment.storage_key, attachment.size_bytes)


def _to_owner(row: Row) -> CaseOwnership:
    return CaseOwnership(*(getattr(row, name) for name in OWNER_NAMES))


def _to_case(row: Row, files: int = 0) -> CaseForUpload:
    return CaseForUpload(
        _to_owner(row), row.synthetic, row.status, row.version, row.internal_changes, row.latest, files
    )
