"""Reconcile rows, files and ledger: repair differences where that is safe, and report the others.

It deletes no file that a row or the garbage list names. It deletes no recent file, because an upload stores its file
before its row is committed.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, NamedTuple

import sqlalchemy as sa

from support_service.attachments.garbage import GarbageCollector, WallClock
from support_service.attachments.storage.base import KEY_PATTERN, SHARDS, AttachmentStorage, FileInfo
from support_service.cases.model.files import FileTotals, StoredAttachment
from support_service.cases.sql.attachment_rows import (
    ATTACHMENT_COLUMNS,
    LEDGER_TOTALS,
    add_to_ledger,
    is_current,
    is_referenced,
    to_attachment,
)
from support_service.core.clock import utc_now
from support_service.core.errors import Unavailable
from support_service.platform.database import Database, RowReader, Transaction
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import attachment_ledger as ledger
from support_service.platform.database.tables import attachments
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec

# Minimum age of an unreferenced file before it is deleted. A large upload to S3 may take hours, and the time of its
# object is that of the beginning. An import may store files for hours before it commits their rows.
MIN_ORPHAN_AGE = timedelta(days=1)
FindingKind = Literal["unfinished", "orphan", "leftover", "ledger", "missing", "damaged", "young"]
REPAIRED_KINDS: tuple[FindingKind, ...] = ("unfinished", "orphan", "leftover", "ledger")
REPORTED_KINDS: tuple[FindingKind, ...] = ("missing", "damaged")
YOUNG: FindingKind = "young"  # an unreferenced file below MIN_ORPHAN_AGE; a dry run lists it
SELECT_BY_KEY_RANGE = compiled(  # read once for each shard
    sa.select(*ATTACHMENT_COLUMNS).where(
        attachments.c.storage == sa.bindparam("of"),
        attachments.c.storage_key >= sa.bindparam("first"),
        attachments.c.storage_key < sa.bindparam("end"),
    )
)
_ROW_TOTALS = (
    sa.select(
        attachments.c.storage, sa.func.count().label("files"), sa.func.sum(attachments.c.size_bytes).label("bytes")
    )
    .group_by(attachments.c.storage)
    .subquery()
)
_LEDGER = LEDGER_TOTALS.subquery()
_COMPARISON = (
    sa.select(
        *_LEDGER.c,
        sa.func.coalesce(_ROW_TOTALS.c.files, 0).label("row_files"),
        sa.func.coalesce(_ROW_TOTALS.c.bytes, 0).label("row_bytes"),
    )
    .select_from(_LEDGER.outerjoin(_ROW_TOTALS, _ROW_TOTALS.c.storage == _LEDGER.c.storage))
    .order_by(_LEDGER.c.storage)
)

ATTACHMENT_SWEEP_REPAIRS = InstrumentSpec(
    "support.attachment.sweep_repairs",
    "counter",
    "{repair}",
    "Repairs by the sweep, by kind",
    {"kind": ("unfinished", "orphan", "leftover", "ledger")},
)
ATTACHMENT_UNREPAIRED = InstrumentSpec(
    "support.attachment.unrepaired",
    "gauge",
    "{file}",
    "Files that the last sweep of this process found missing or with a size other than in their row; "
    "no value before the first sweep",
    {"kind": ("missing", "damaged")},
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference. `missing` and `damaged` files are only reported, `young` ones are kept; the others are repaired."""

    kind: FindingKind
    storage: str
    name: str
    number: int = 1


ReportFinding = Callable[[Finding], None]


class LedgerComparison(NamedTuple):
    """The content of a storage by the ledger and by the rows of its attachments."""

    storage: str
    ledger: FileTotals
    rows: FileTotals


class Reconciler:
    """One pass over all storages and the ledger. Several processes may run at once."""

    def __init__(
        self,
        database: Database,
        storages: Mapping[str, AttachmentStorage],
        garbage: GarbageCollector,
        instruments: Instruments,
        clock: WallClock = utc_now,
    ) -> None:
        self._database = database
        self._storages = storages
        self._garbage = garbage
        self._instruments = instruments
        self._clock = clock
        self._unrepaired: dict[str, int] = {}

    def unrepaired(self) -> dict[str, int]:
        """Return the unrepaired findings by kind of this process's last complete run; empty before the first."""
        return self._unrepaired

    async def run(self, *, dry_run: bool = False, report: ReportFinding = lambda _: None) -> dict[str, int]:
        """Reconcile everything. Return the number of findings by kind.

        With `dry_run`, only report. Raises Unavailable if the database or a storage can't be reached; a storage that
        fails does not stop the others from being reconciled.
        """
        found: dict[str, int] = dict.fromkeys((*REPAIRED_KINDS, *REPORTED_KINDS, YOUNG), 0)

        def note(finding: Finding) -> None:
            found[finding.kind] += finding.number
            if finding.kind in REPAIRED_KINDS and not dry_run:
                self._instruments.add(ATTACHMENT_SWEEP_REPAIRS, finding.number, {"kind": finding.kind})
            report(finding)

        if not dry_run and (deleted := (await self._garbage.run()).deleted).files:
            note(Finding("leftover", "", "bytes that no attachment names", deleted.files))
        failed: Unavailable | None = None
        for storage in self._storages.values():
            try:
                await self._check_storage(storage, note, dry_run=dry_run)
            except Unavailable as failure:
                failed = failure  # the other storages are still reconciled
        await self._check_ledger(note, dry_run=dry_run)
        if failed is not None:
            raise failed
        self._unrepaired = {kind: found[kind] for kind in REPORTED_KINDS}
        return found

    async def _check_storage(self, storage: AttachmentStorage, note: ReportFinding, *, dry_run: bool) -> None:
        before = self._clock() - MIN_ORPHAN_AGE
        if number := await storage.delete_unfinished(before, dry_run=dry_run):
            note(Finding("unfinished", storage.name, "uploads that were never finished", number))
        async for shard, files in _list_by_shard(storage):
            await self._check_shard(storage, shard, files, note, dry_run=dry_run)

    async def _check_shard(
        self,
        storage: AttachmentStorage,
        shard: str,
        files: Mapping[str, FileInfo],
        note: ReportFinding,
        *,
        dry_run: bool,
    ) -> None:
        # The files were listed before this query, so each listed file has its row by now or was uploaded recently.
        rows = await list_by_key_prefix(self._database, storage.name, f"{shard}/")
        named = {row.storage_key for row in rows}
        for key in files.keys() - named:
            young = files[key].changed_at > self._clock() - MIN_ORPHAN_AGE
            if (young and not dry_run) or await is_referenced(self._database, storage.name, key):
                continue
            if not dry_run:
                await storage.delete(key)
            note(Finding(YOUNG if young else "orphan", storage.name, key))
        for row in rows:
            found = files.get(row.storage_key)
            if found is None or found.size != row.size_bytes:  # it may have been listed while it was written
                found = await storage.stat(row.storage_key)
            if found is not None and found.size == row.size_bytes:
                continue
            if await is_current(self._database, row.id, row.storage_key):
                note(Finding("damaged" if found else "missing", storage.name, f"{row.id} ({row.filename})"))

    async def _check_ledger(self, note: ReportFinding, *, dry_run: bool) -> None:
        differences = [each for each in await compare_ledger(self._database) if each.ledger != each.rows]
        if differences and not dry_run:
            async with self._database.transaction() as tx:
                await correct_ledger(tx)
        for storage, ledger_totals, rows in differences:
            text = (
                f"{ledger_totals.files} files of {ledger_totals.bytes} bytes, and the rows {rows.files} of {rows.bytes}"
            )
            note(Finding("ledger", storage, f"the ledger said {text}"))


async def _list_by_shard(storage: AttachmentStorage) -> AsyncIterator[tuple[str, dict[str, FileInfo]]]:
    """Yield (shard, files by key) for every shard, from one listing in the order of keys.

    Files whose name is not an attachment key belong to other programs and are ignored.
    """
    shards = deque(SHARDS)
    files: dict[str, FileInfo] = {}
    async for found in storage.list():
        while shards and shards[0] < found.key[:2]:
            yield shards.popleft(), files
            files = {}
        if KEY_PATTERN.fullmatch(found.key):
            files[found.key] = found
    for shard in shards:
        yield shard, files
        files = {}


async def list_by_key_prefix(reader: RowReader, storage: str, prefix: str) -> list[StoredAttachment]:
    """Return the attachments on a storage whose keys start with `prefix`."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    rows = await reader.fetch_all(SELECT_BY_KEY_RANGE, {"of": storage, "first": prefix, "end": end})
    return [to_attachment(row) for row in rows]


async def compare_ledger(reader: RowReader) -> list[LedgerComparison]:
    """Compare the ledger of each storage with its attachments, in one statement."""
    return [
        LedgerComparison(row.storage, FileTotals(row.files, row.bytes), FileTotals(row.row_files, int(row.row_bytes)))
        for row in await reader.fetch_all(_COMPARISON)
    ]


async def correct_ledger(tx: Transaction) -> None:
    """Add to the ledger what the totals of the rows have more or less.

    The comparison sees both as of one moment, so that uploads need not wait. The lock keeps a second sweep from adding
    the same difference.
    """
    await tx.fetch_all(sa.select(ledger.c.storage).order_by(ledger.c.storage).with_for_update())
    for storage, counted, rows in await compare_ledger(tx):
        if counted != rows:
            await add_to_ledger(tx, storage, rows.files - counted.files, rows.bytes - counted.bytes)
