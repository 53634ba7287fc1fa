"""Reconcile rows, files and ledger: repair differences where that is safe, and report the others.

It deletes no file that a row or the garbage list names. It deletes no recent file, because an upload stores its file
before its row is committed.
"""

import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from support_service.attachments import ledger, store
from support_service.attachments.maintenance import reconcile_queries
from support_service.attachments.maintenance.garbage import GarbageCollector, WallClock
from support_service.attachments.storage.base import KEY_PATTERN, SHARDS, AttachmentStorage, FileInfo
from support_service.core.clock import utc_now
from support_service.core.errors import Unavailable
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments

# Minimum age of an unreferenced file before it is deleted. The upload of a large file to S3 may take hours, and its
# object's timestamp is the start of the upload.
MIN_ORPHAN_AGE = {"local": timedelta(hours=1), "s3": timedelta(days=1)}

FindingKind = Literal["unfinished", "orphan", "leftover", "ledger", "missing", "damaged"]
REPAIRED: tuple[FindingKind, ...] = ("unfinished", "orphan", "leftover", "ledger")
REPORTED: tuple[FindingKind, ...] = ("missing", "damaged")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference. `missing` and `damaged` files are only reported; all other kinds are repaired."""

    kind: FindingKind
    storage: str
    name: str
    number: int = 1


ReportFinding = Callable[[Finding], None]


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
        found: dict[str, int] = dict.fromkeys((*REPAIRED, *REPORTED), 0)

        def note(finding: Finding) -> None:
            found[finding.kind] += finding.number
            if finding.kind in REPAIRED and not dry_run:
                self._instruments.attachment_sweep_repairs.add(finding.number, {"kind": finding.kind})
            report(finding)

        if not dry_run and (deleted := await self._garbage.run()).files:
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
        self._unrepaired = {kind: found[kind] for kind in REPORTED}
        return found

    async def _check_storage(self, storage: AttachmentStorage, note: ReportFinding, *, dry_run: bool) -> None:
        before = self._clock() - MIN_ORPHAN_AGE[storage.name]
        if number := await storage.delete_unfinished(before, dry_run=dry_run):
            note(Finding("unfinished", storage.name, "uploads that were never finished", number))
        async for shard, files in _by_shard(storage):
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
        rows = await reconcile_queries.list_by_key_prefix(self._database, storage.name, f"{shard}/")
        named = {row.storage_key for row in rows}
        for key in files.keys() - named:
            if await self._is_orphan(storage, files[key]):
                if not dry_run:
                    await storage.delete(key)
                note(Finding("orphan", storage.name, key))
        for row in rows:
            found = files.get(row.storage_key) or await storage.stat(row.storage_key)
            if found is not None and found.size == row.size_bytes:
                continue
            if await store.is_current(self._database, row.id, row.storage_key):
                note(Finding("damaged" if found else "missing", storage.name, f"{row.id} ({row.filename})"))

    async def _is_orphan(self, storage: AttachmentStorage, found: FileInfo) -> bool:
        if found.changed_at > self._clock() - MIN_ORPHAN_AGE[storage.name]:
            return False
        return not await reconcile_queries.is_referenced(self._database, storage.name, found.key)

    async def _check_ledger(self, note: ReportFinding, *, dry_run: bool) -> None:
        differences = [each for each in await ledger.compare(self._database) if each.ledger != each.rows]
        if differences and not dry_run:
            async with self._database.transaction() as tx:
                await ledger.correct(tx)
        for storage, said, rows in differences:
            text = f"{said.files} files of {said.bytes} bytes, and the rows {rows.files} of {rows.bytes}"
            note(Finding("ledger", storage, f"the ledger said {text}"))


async def _by_shard(storage: AttachmentStorage) -> AsyncIterator[tuple[str, dict[str, FileInfo]]]:
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
