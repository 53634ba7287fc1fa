"""The sealer: gives entries their position soon after their change, so changes do not wait for each other.

Every replica runs one. The row of the head is locked while a batch of entries is sealed, so positions have no gaps.
"""

import os
from dataclasses import dataclass
from datetime import datetime

from support_service.core.clock import age_in_seconds, utc_now
from support_service.platform.audit import chain, store
from support_service.platform.audit.chain import ChainHead
from support_service.platform.database import Database, Transaction
from support_service.platform.telemetry.instruments import Instruments, Observations
from support_service.platform.telemetry.instruments.access import AUDIT_SEALED, AUDIT_UNSEALED_AGE


@dataclass(frozen=True, slots=True)
class SealerTimings:
    """Interval and batches of the sealer."""

    seal_interval: float = 1.0  # seconds
    batch_size: int = 100  # entries per transaction, which on SQLite blocks all other writers
    batch_bytes: int = store.MAX_PAGE_BYTES  # of changes in a batch, plus the last entry


@dataclass(frozen=True, slots=True)
class SealerStatus:
    """What this replica last read of the chain."""

    read_at: datetime
    length: int
    oldest_unsealed: datetime | None
    last_sealed_at: datetime | None  # when this replica last saw the chain grow


class Sealer:
    """Background sealing of entries, with metrics: the length of the chain and the age of the oldest unsealed entry."""

    def __init__(self, database: Database, instruments: Instruments, timings: SealerTimings = SealerTimings()) -> None:
        self._database = database
        self._timings = timings
        self._length: int | None = None
        self.status: SealerStatus | None = None
        self._oldest: datetime | None = None
        instruments.observe(AUDIT_SEALED, lambda: [] if self._length is None else [(self._length, {})])
        instruments.observe(AUDIT_UNSEALED_AGE, self._age)

    async def refresh_gauges(self) -> None:
        """Read the length of the chain and the time of the oldest unsealed entry."""
        head, self._oldest = await store.read_head_and_oldest_unsealed(self._database)
        last, now = self.status, utc_now()
        grown = last is not None and head.position > last.length
        sealed_at = now if grown else last.last_sealed_at if last else None
        self.status = SealerStatus(now, head.position, self._oldest, sealed_at)
        self._length = head.position

    async def run(self) -> None:
        """Seal all unsealed entries, in batches."""
        while True:
            await self.refresh_gauges()
            if self._oldest is None:
                return
            async with self._database.transaction() as tx:
                await _seal_batch(tx, self._timings)

    def _age(self) -> Observations:
        if self._length is None:
            return []
        return [(age_in_seconds(self._oldest), {})]


async def seal_all(tx: Transaction, timings: SealerTimings = SealerTimings()) -> None:
    """Seal every entry visible to this transaction, including its own. Other sealers wait for its end."""
    while await _seal_batch(tx, timings):
        pass


async def _seal_batch(tx: Transaction, timings: SealerTimings) -> int:
    head = await store.lock_head(tx)
    sealed = []
    for entry in await store.read_unsealed(tx, timings.batch_size, timings.batch_bytes):
        sealed.append(chain.seal_entry(head, entry, os.urandom(chain.SALT_BYTES)))
        assert sealed[-1].position is not None and sealed[-1].hash is not None  # noqa: S101, PT018 - `seal_entry` sets them
        head = ChainHead(sealed[-1].position, sealed[-1].hash)
    if sealed:
        await store.store_seals(tx, sealed)
    return len(sealed)
