"""SQL of the reconcile, scrub and retention jobs, which keep rows, files and ledger consistent."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from support_service.attachments.model import Attachment, FileTotals
from support_service.attachments.store import COLUMNS, to_attachment
from support_service.database import Reader, Transaction
from support_service.database.tables import attachment_deletions, attachments, tickets
from support_service.database.tables import attachment_ledger as ledger
from support_service.database.tables import attachment_leftovers as leftovers

_ROW_TOTALS = (
    sa.select(
        attachments.c.storage, sa.func.count().label("files"), sa.func.sum(attachments.c.size_bytes).label("bytes")
    )
    .group_by(attachments.c.storage)
    .subquery()
)
_LEDGER_AND_ROW_TOTALS = (
    sa.select(
        ledger.c.storage,
        ledger.c.files,
        ledger.c.bytes,
        sa.func.coalesce(_ROW_TOTALS.c.files, 0).label("row_files"),
        sa.func.coalesce(_ROW_TOTALS.c.bytes, 0).label("row_bytes"),
    )
    .select_from(ledger.outerjoin(_ROW_TOTALS, _ROW_TOTALS.c.storage == ledger.c.storage))
    .order_by(ledger.c.storage)
)


async def expired(
    reader: Reader, before: datetime, statuses: Sequence[str], after: int, limit: int, *, lock: bool = False
) -> list[tuple[int, Attachment]]:
    """Return (seq, attachment) pairs of cases in `statuses` where neither the case nor the file changed since `before`.

    Return at most `limit` pairs in the order of seq, starting behind `after`. With `lock`, the files and their cases
    are locked until the transaction ends; rows locked by others are skipped, so that several processes can run at once.
    """
    found = (
        sa.select(attachments.c.seq, *COLUMNS)
        .join(tickets, tickets.c.id == attachments.c.ticket_id)
        .where(
            tickets.c.status.in_(statuses),
            tickets.c.updated_at <= before,
            attachments.c.created_at <= before,
            attachments.c.seq > after,
        )
        .order_by(attachments.c.seq)
        .limit(limit)
    )
    rows = await reader.fetch_all(found.with_for_update(skip_locked=True) if lock else found)
    return [(row.seq, to_attachment(row)) for row in rows]


async def list_by_key_prefix(reader: Reader, storage: str, prefix: str) -> list[Attachment]:
    """Return the attachments on a storage whose keys start with `prefix`."""
    last = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    rows = await reader.fetch_all(
        sa.select(*COLUMNS).where(
            attachments.c.storage == storage, attachments.c.storage_key >= prefix, attachments.c.storage_key < last
        )
    )
    return [to_attachment(row) for row in rows]


async def list_page(reader: Reader, after: int, limit: int) -> list[tuple[int, Attachment]]:
    """Return at most `limit` (seq, attachment) pairs in the order of seq, starting behind `after`."""
    rows = await reader.fetch_all(
        sa.select(attachments.c.seq, *COLUMNS).where(attachments.c.seq > after).order_by(attachments.c.seq).limit(limit)
    )
    return [(row.seq, to_attachment(row)) for row in rows]


async def get_by_id(reader: Reader, attachment_id: str) -> Attachment | None:
    """Return one attachment of any case; None if it does not exist."""
    row = await reader.fetch_one(sa.select(*COLUMNS).where(attachments.c.id == attachment_id))
    return to_attachment(row) if row else None


async def anonymise_deletions(tx: Transaction, case_id: str, filename: str) -> None:
    """Replace the filenames in the deletion records of a case by `filename`, and clear their hashes."""
    of_case = attachment_deletions.c.ticket_id == case_id
    await tx.execute(attachment_deletions.update().where(of_case).values(filename=filename, sha256=""))


async def is_referenced(reader: Reader, storage: str, key: str) -> bool:
    """Return whether an attachment or the garbage list names the bytes under a key."""
    named = sa.exists().where(attachments.c.storage == storage, attachments.c.storage_key == key)
    listed = sa.exists().where(leftovers.c.storage == storage, leftovers.c.storage_key == key)
    row = await reader.fetch_one(sa.select(sa.or_(named, listed).label("referenced")))
    return bool(row and row.referenced)


async def ledger_and_row_totals(reader: Reader) -> dict[str, tuple[FileTotals, FileTotals]]:
    """Return the content of each storage by name: (by the ledger, by the rows), read in one statement."""
    rows = await reader.fetch_all(_LEDGER_AND_ROW_TOTALS)
    return {
        row.storage: (FileTotals(row.files, row.bytes), FileTotals(row.row_files, int(row.row_bytes))) for row in rows
    }


async def correct_ledger(tx: Transaction) -> None:
    """Set the ledger to the totals of the rows. Concurrent uploads wait for the lock and are counted afterwards."""
    await tx.fetch_all(sa.select(ledger.c.storage).order_by(ledger.c.storage).with_for_update())
    for storage, (_, rows) in (await ledger_and_row_totals(tx)).items():
        await tx.execute(ledger.update().where(ledger.c.storage == storage).values(files=rows.files, bytes=rows.bytes))
