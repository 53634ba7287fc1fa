"""The cache of snapshots: reads, writes that merge with other replicas' snapshots, and invalidation.

Each operation counts its event in the metrics.
"""

import logging
import time
from dataclasses import dataclass
from zlib import crc32

from cachetools import LRUCache

from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import UpstreamService
from support_service.platform.telemetry.instruments import Instruments
from support_service.timeline.cache import snapshots
from support_service.timeline.cache.base import CacheUnavailable, Lease, SnapshotStore
from support_service.timeline.cache.snapshots import CachedSnapshots, Snapshots, merge_snapshots, newer_snapshots

MAX_CLOCK_SKEW = 60.0  # seconds by which replica clocks may differ; a snapshot further in the future is ignored
MAX_WRITE_ATTEMPTS = 3  # attempts to write while other replicas write at the same time

MAX_DECODED_BYTES = 4 * 1024 * 1024  # encoded bytes of the snapshots that are kept decoded, in five times the memory

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SnapshotSubject:
    """The parts of a case that determine its snapshots: id, references for each source, and epoch."""

    id: str
    wanted: dict[UpstreamService, SourceReferences]  # of sources that are configured
    epoch: int

    @property
    def key(self) -> str:
        """The cache key of the case's snapshots."""
        return snapshots.cache_key(self.id)


class SnapshotCache:
    """Reads and writes the snapshots of cases in a cache, and counts its events and failures."""

    def __init__(self, cache: SnapshotStore, instruments: Instruments) -> None:
        self._cache = cache
        self._instruments = instruments
        # By case id, the last value that was read, and what it says: most reads get the value that this process knows.
        self._decoded: LRUCache[str, tuple[bytes, CachedSnapshots]] = LRUCache(MAX_DECODED_BYTES, _size)

    async def read(self, case: SnapshotSubject) -> CachedSnapshots:
        """Return the cached snapshots for the case's present references. Raises CacheUnavailable, which is counted."""
        try:
            value = await self._cache.get(case.key)
            return await self._decode(case, value)
        except CacheUnavailable:
            self._count_failure()
            raise

    async def write(self, case: SnapshotSubject, known: Snapshots, cached: CachedSnapshots, ttl: float) -> None:
        """Store the `known` snapshots for `ttl` seconds, merged with the stored ones; a fault is counted.

        `cached` is the state of the cache before the sources were asked. `known` overrides `cached`; snapshots that
        another replica stored after `cached` win if they are newer. Gives up after `MAX_WRITE_ATTEMPTS` attempts.
        """
        seen = cached.snapshots
        try:
            for _ in range(MAX_WRITE_ATTEMPTS):
                value = snapshots.encode(
                    merge_snapshots(cached.snapshots | known, newer_snapshots(seen, cached.snapshots))
                )
                stored = await self._cache.set(case.key, value, ttl, cached.revision)
                if stored is None:
                    self.count("write")
                    return
                cached = await self._decode(case, stored)
        except CacheUnavailable:
            self._count_failure()

    async def forget(self, case_id: str) -> None:
        """Delete the cached snapshots of a case; a fault is counted."""
        try:
            await self._cache.delete(snapshots.cache_key(case_id))
        except CacheUnavailable:
            self._count_failure()
        else:
            self.count("invalidate")

    async def acquire_lease(self, case: SnapshotSubject, seconds: float) -> Lease | None:
        """Acquire the lease for asking the sources about the case; return None if another replica has it.

        Raises CacheUnavailable, which is counted.
        """
        # The key includes references and epoch: a lease from before a change must not block reads after it.
        state = crc32(repr((sorted(case.wanted.items()), case.epoch)).encode())
        try:
            return await self._cache.acquire_lease(f"{case.key}:claim:{state:x}", seconds)
        except CacheUnavailable:
            self._count_failure()
            raise

    async def extend_lease(self, lease: Lease, seconds: float) -> None:
        """Extend a lease; faults are ignored, because a lost lease only costs a second fetch."""
        try:
            await self._cache.extend_lease(lease, seconds)
        except CacheUnavailable:
            log.debug("A lease could not be extended")

    async def release_lease(self, lease: Lease) -> None:
        """Release a lease; faults are ignored, because the lease expires."""
        try:
            await self._cache.release_lease(lease)
        except CacheUnavailable:
            log.debug("A lease could not be released")

    def count(self, event: str) -> None:
        """Count an event of CACHE_EVENTS."""
        self._instruments.timeline_cache_events.add(1, {"event": event})

    async def _decode(self, case: SnapshotSubject, value: bytes | None) -> CachedSnapshots:
        if value is None:
            return CachedSnapshots()
        decoded = self._decoded.get(case.id)
        try:
            cached = decoded[1] if decoded and decoded[0] == value else self._keep(case.id, value)
        except snapshots.DECODE_ERRORS as failure:
            log.warning("A cached timeline can't be read, and is removed: %s", failure)
            self._instruments.timeline_collection_failures.add(1, {"stage": "cache_decode"})
            await self.forget(case.id)
            return CachedSnapshots()
        latest = time.time() + MAX_CLOCK_SKEW
        usable = {
            name: known
            for name, known in cached.snapshots.items()
            if known.wanted == case.wanted.get(name) and known.at < latest
        }
        return CachedSnapshots(usable, cached.revision)

    def _keep(self, case_id: str, value: bytes) -> CachedSnapshots:
        """Decode a value, and keep the result: nobody may change its entries. Raises one of DECODE_ERRORS."""
        self._decoded.pop(case_id, None)
        cached = snapshots.decode(value)
        if len(value) <= MAX_DECODED_BYTES:
            self._decoded[case_id] = value, cached
        return cached

    def _count_failure(self) -> None:
        self.count("error")
        self._instruments.timeline_collection_failures.add(1, {"stage": "cache"})


def _size(decoded: tuple[bytes, CachedSnapshots]) -> int:
    return len(decoded[0])
