"""The attachment backlog: files on local storage that wait for the offload, and their gauges."""

import asyncio
from collections import deque
from contextlib import suppress
from datetime import datetime, timedelta

from support_service.attachments.storage.base import AttachmentStorage
from support_service.cases.case_files import CaseFiles
from support_service.cases.model.files import FileTotals
from support_service.cases.sql import attachment_rows
from support_service.core.clock import age_in_seconds, utc_now
from support_service.core.part_state import OncallCard
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec, Observations

LOCAL = "local"
GROWTH_SPAN = timedelta(hours=1)  # of the backlog, from which the time until the disk is full follows
LOW_SPACE_SHARE = 0.2  # of the disk; with more free space, a trend of one hour says little about when it is full
READING_STEP = timedelta(seconds=10)  # between readings that are kept; each deletion of an attachment reads it again

ATTACHMENT_BACKLOG = InstrumentSpec(
    "support.attachment.backlog", "gauge", "By", "Bytes on local storage that are neither deleted nor offloaded"
)
ATTACHMENT_BACKLOG_FILES = InstrumentSpec(
    "support.attachment.backlog_files",
    "gauge",
    "{file}",
    "Files on local storage that are neither deleted nor offloaded",
)
ATTACHMENT_BACKLOG_AGE = InstrumentSpec(
    "support.attachment.backlog_age", "gauge", "s", "Age of the oldest file on local storage; 0 if there is none"
)
ATTACHMENT_DISK_FREE = InstrumentSpec(
    "support.attachment.disk_free", "gauge", "By", "Free bytes on the disk of local storage"
)
ATTACHMENT_DISK_INODES = InstrumentSpec(
    "support.attachment.disk_inodes_free",
    "gauge",
    "{share}",
    "Free share of the inodes of the disk of local storage, of which each file needs one; no value where their number "
    "has no limit",
)
ATTACHMENT_VOLUME = InstrumentSpec(
    "support.attachment.volume",
    "gauge",
    "{volume}",
    "A number that names the volume of local storage, the same for all replicas that share it; 0 without files",
)
ATTACHMENT_DISK_SIZE = InstrumentSpec(
    "support.attachment.disk_size", "gauge", "By", "Bytes of the disk of local storage, used and free"
)


class AttachmentBacklog:
    """The last known content of the local storage, for gauges. The gauges have no value before the first refresh.

    `local` is None if this process has no local storage.
    """

    def __init__(
        self, database: Database, local: AttachmentStorage | None, instruments: Instruments, files: CaseFiles
    ) -> None:
        self._database = database
        self._files = files
        self._local = local
        self._oldest: datetime | None = None
        self._disk_free: int | None = None
        self._free_inodes: float | None = None
        self._volume: int | None = None
        self._disk_size: int | None = None
        self.history: deque[tuple[datetime, int]] = deque()  # bytes of the backlog in the last hour
        self._read_at: datetime | None = None
        instruments.observe(ATTACHMENT_BACKLOG, lambda: [(self._totals.bytes, {})] if self._totals else [])
        instruments.observe(ATTACHMENT_BACKLOG_FILES, lambda: [(self._totals.files, {})] if self._totals else [])
        instruments.observe(ATTACHMENT_BACKLOG_AGE, self._observe_age)
        instruments.observe(ATTACHMENT_DISK_FREE, lambda: [] if self._disk_free is None else [(self._disk_free, {})])
        instruments.observe(
            ATTACHMENT_DISK_INODES, lambda: [] if self._free_inodes is None else [(self._free_inodes, {})]
        )
        instruments.observe(ATTACHMENT_VOLUME, self._observe_volume)
        instruments.observe(ATTACHMENT_DISK_SIZE, lambda: [] if self._disk_size is None else [(self._disk_size, {})])

    async def refresh(self) -> None:
        """Update the gauges: free disk space, then the local ledger and the time of the oldest local file.

        The disk is read first because it needs no database. The ledger is read again because other replicas change it.
        """
        if self._local is not None:
            try:
                self._disk_free = await asyncio.to_thread(self._local.free_bytes)
                self._free_inodes = await asyncio.to_thread(self._local.free_inodes)
                self._disk_size = await asyncio.to_thread(self._local.disk_bytes)
            except OSError:
                self._disk_free = self._disk_size = self._free_inodes = None  # the disk is missing
            self._volume = None
            with suppress(OSError):
                self._volume = await asyncio.to_thread(self._local.volume_number)
        totals = self._files.totals[LOCAL] = await attachment_rows.read_ledger_totals(self._database, LOCAL)
        self._oldest = await attachment_rows.read_oldest_created_at(self._database, LOCAL) if totals.files else None
        self._read_at = utc_now()
        self._keep(self._read_at, totals.bytes)

    async def refresh_and_merge(self) -> None:
        """Update the gauges, and merge the changes of the ledger into its totals."""
        await self.refresh()
        await attachment_rows.merge_ledger_changes(self._database)

    @property
    def _totals(self) -> FileTotals | None:
        return self._files.totals.get(LOCAL)

    def card(self) -> OncallCard:
        """Return what on-call is shown of the files on local storage."""
        totals = self._totals if self._read_at else None
        return OncallCard(
            self._read_at if totals else None,
            {
                "files": totals and totals.files,
                "bytes": totals and totals.bytes,
                "oldest_age_seconds": age_in_seconds(self._oldest) if totals else None,
                "disk_free_bytes": self._disk_free if totals else None,
                "full_in_seconds": self._seconds_until_full() if totals else None,
            },
        )

    def _keep(self, at: datetime, size: int) -> None:
        """Keep a reading, and of older ones as many as the last hour needs. The first is an hour old, or older."""
        if not self.history or at - self.history[-1][0] >= READING_STEP:
            self.history.append((at, size))
        while len(self.history) > 1 and self.history[1][0] <= at - GROWTH_SPAN:
            self.history.popleft()

    def _seconds_until_full(self) -> float | None:
        """Return the seconds until the backlog fills the disk, at its growth of the last hour.

        None if it does not grow, if much space is free, or if it was not watched for an hour. What other programs
        write is no trend of this service.
        """
        if not self.history or self._disk_free is None or not self._disk_size:
            return None
        (first_at, first), (last_at, last) = self.history[0], self.history[-1]
        if last_at - first_at < GROWTH_SPAN or last <= first or self._disk_free / self._disk_size >= LOW_SPACE_SHARE:
            return None
        return self._disk_free * (last_at - first_at).total_seconds() / (last - first)

    def _observe_volume(self) -> Observations:
        """Return the number of the volume. Without files on it, replicas may each have a folder of their own."""
        if self._volume is None:
            return []
        return [(self._volume if self._totals and self._totals.files else 0, {})]

    def _observe_age(self) -> Observations:
        if self._totals is None:
            return []
        return [(age_in_seconds(self._oldest), {})]
