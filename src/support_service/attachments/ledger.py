"""SQL of the ledger, which counts the files and bytes of each storage."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa

from support_service.attachments.model import FileTotals, StoredAttachment
from support_service.platform.database import ContendedRow, Reader, Row, Transaction
from support_service.platform.database.compiled import compiled
from support_service.platform.database.tables import attachment_ledger as ledger
from support_service.platform.database.tables import attachments

# Every upload and every removal changes the same row.
LEDGER_ROW = ContendedRow("attachment_ledger", at_once=4)
LEDGER = sa.select(ledger.c.files, ledger.c.bytes).where(ledger.c.storage == sa.bindparam("of"))
UPDATE_LEDGER = compiled(
    ledger.update()
    .where(ledger.c.storage == sa.bindparam("of"))
    .values(files=ledger.c.files + sa.bindparam("more_files"), bytes=ledger.c.bytes + sa.bindparam("more_bytes"))
    .returning(ledger.c.files, ledger.c.bytes)
)
_ROW_TOTALS = (
    sa.select(
        attachments.c.storage, sa.func.count().label("files"), sa.func.sum(attachments.c.size_bytes).label("bytes")
    )
    .group_by(attachments.c.storage)
    .subquery()
)
_COMPARISON = (
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


class LedgerComparison(NamedTuple):
    """The content of a storage by its ledger row and by the rows of its attachments."""

    storage: str
    ledger: FileTotals
    rows: FileTotals


async def totals(reader: Reader, storage: str) -> FileTotals:
    """Return the content of a storage according to the ledger. Raises LookupError if the ledger has no such row."""
    return _to_totals(await reader.fetch_one(LEDGER, {"of": storage}))


async def add(tx: Transaction, storage: str, files: int, size: int) -> FileTotals:
    """Add `files` and `size` (bytes), which may be negative, to a storage's ledger row. Return its new content.

    Call this last in a transaction: every upload updates this row, so its lock must be held as briefly as possible.
    """
    return _to_totals(await tx.fetch_one(UPDATE_LEDGER, {"of": storage, "more_files": files, "more_bytes": size}))


async def subtract(tx: Transaction, removed: Sequence[StoredAttachment]) -> None:
    """Subtract removed attachments. This must be the last step of the transaction that removed them."""
    for storage in sorted({each.storage for each in removed}):
        sizes = [each.size_bytes for each in removed if each.storage == storage]
        await add(tx, storage, -len(sizes), -sum(sizes))


async def compare(reader: Reader) -> list[LedgerComparison]:
    """Compare the ledger of each storage with its attachments, in one statement."""
    return [
        LedgerComparison(row.storage, FileTotals(row.files, row.bytes), FileTotals(row.row_files, int(row.row_bytes)))
        for row in await reader.fetch_all(_COMPARISON)
    ]


async def correct(tx: Transaction) -> None:
    """Set the ledger to the totals of the rows. Concurrent uploads wait for the lock and are counted afterwards."""
    await tx.fetch_all(sa.select(ledger.c.storage).order_by(ledger.c.storage).with_for_update())
    for each in await compare(tx):
        values = {"files": each.rows.files, "bytes": each.rows.bytes}
        await tx.execute(ledger.update().where(ledger.c.storage == each.storage).values(values))


def _to_totals(row: Row | None) -> FileTotals:
    if row is None:
        raise LookupError("The ledger has no row for a storage; the migrations create it")
    return FileTotals(files=row.files, bytes=row.bytes)
