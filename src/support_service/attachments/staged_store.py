"""SQL of staged files, which are hidden from everybody but their uploader until a message names them.

The bytes of a staged file are on the garbage list and become due when the file expires. A message that names the file
takes its bytes off the list. Otherwise the garbage collection deletes them, also in a release without staged files.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

import sqlalchemy as sa

from support_service.attachments.garbage_queries import add_garbage, take_from_garbage
from support_service.attachments.model import StoredAttachment
from support_service.attachments.store import FIELD_NAMES, bytes_of, to_attachment
from support_service.core.domain.principals import Principal
from support_service.platform.database import Reader, Transaction
from support_service.platform.database.tables import attachment_leftovers as garbage
from support_service.platform.database.tables import staged_attachments as staged

# A staged file gets the visibility of its message. Before that, only the uploader sees it.
_COLUMNS = [sa.literal("internal").label(name) if name == "visibility" else staged.c[name] for name in FIELD_NAMES]
_INSERTED = [*(name for name in FIELD_NAMES if name != "visibility"), "staged_by", "staged_until"]
_COUNT = sa.select(sa.func.count()).where(staged.c.staged_by == sa.bindparam("staged_by")).scalar_subquery()
_ADD = (
    staged.insert()
    .from_select(
        _INSERTED,
        sa.select(*(sa.bindparam(name, type_=staged.c[name].type) for name in _INSERTED)).where(
            sa.bindparam("most") > _COUNT
        ),
        include_defaults=False,
    )
    .inline()
)


async def add(
    tx: Transaction, attachment: StoredAttachment, uploader: Principal, until: datetime, max_files: int
) -> bool:
    """Insert a staged file. Return False if its uploader has `max_files` staged files."""
    values = {name: getattr(attachment, name) for name in FIELD_NAMES if name != "visibility"}
    values |= {"staged_by": _name(uploader), "staged_until": until}
    if not await tx.execute(_ADD, values | {"most": max_files}):
        return False
    await add_garbage(tx, [bytes_of(attachment)], until)
    return True


async def list_by_ids(
    reader: Reader, uploader: Principal, case_id: str, ids: Collection[str], now: datetime
) -> list[StoredAttachment]:
    """Return the files with these ids that the uploader has staged for a case, without expired ones."""
    rows = await reader.fetch_all(sa.select(*_COLUMNS).where(*_of(uploader, case_id, ids), staged.c.staged_until > now))
    return [to_attachment(row) for row in rows]


async def get_by_id(reader: Reader, attachment_id: str) -> StoredAttachment | None:
    """Return one staged file of any uploader; None if it does not exist."""
    row = await reader.fetch_one(sa.select(*_COLUMNS).where(staged.c.id == attachment_id))
    return to_attachment(row) if row else None


async def take(tx: Transaction, files: Sequence[StoredAttachment]) -> bool:
    """Delete the rows of staged files that become files of their case, and take their bytes off the garbage list.

    Return False if one of them was deleted, or if its bytes are being deleted.
    """
    deleted = await tx.execute(staged.delete().where(staged.c.id.in_([each.id for each in files])))
    taken = await take_from_garbage(tx, [bytes_of(each) for each in files])
    return deleted == taken == len(files)


async def discard(
    tx: Transaction, uploader: Principal, case_id: str, attachment_id: str, at: datetime
) -> list[StoredAttachment]:
    """Delete a staged file of an uploader; return it, or nothing if there is none. Its bytes are garbage from `at`."""
    return await _discard(tx, sa.and_(*_of(uploader, case_id, [attachment_id])), at)


async def discard_of_case(tx: Transaction, case_id: str, at: datetime) -> list[StoredAttachment]:
    """Delete all staged files of a case, and return them. Their bytes are garbage from `at`."""
    return await _discard(tx, staged.c.ticket_id == case_id, at)


async def delete_expired(tx: Transaction, now: datetime, limit: int) -> int:
    """Delete at most `limit` expired rows and return their number. Their bytes are due on the garbage list."""
    expired = (
        sa.select(staged.c.id)
        .where(staged.c.staged_until <= now)
        .order_by(staged.c.staged_until)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return await tx.execute(staged.delete().where(staged.c.id.in_(expired)))


async def _discard(tx: Transaction, condition: sa.ColumnElement[bool], at: datetime) -> list[StoredAttachment]:
    rows = await tx.fetch_all(staged.delete().where(condition).returning(*_COLUMNS))
    discarded = [to_attachment(row) for row in rows]
    for each in discarded:
        entry = (garbage.c.storage == each.storage, garbage.c.storage_key == each.storage_key)
        await tx.execute(garbage.update().where(*entry, ~garbage.c.removing).values(due_at=at))
    return discarded


def _of(uploader: Principal, case_id: str, ids: Collection[str]) -> tuple[sa.ColumnElement[bool], ...]:
    return (staged.c.ticket_id == case_id, staged.c.staged_by == _name(uploader), staged.c.id.in_(ids))


def _name(uploader: Principal) -> str:
    """Return the name of an uploader in rows. It is the id of a person, so that a new token finds the files."""
    return f"{uploader.role} {uploader.subject or uploader.name}"
