"""Snapshots in the cache: read, kept beside those of other replicas, forgotten; each counted as the contract says."""

import logging
import time
from dataclasses import dataclass
from zlib import crc32

from support_service.core.references import Service, Wanted
from support_service.telemetry.instruments import Instruments
from support_service.timeline.cache import snapshots
from support_service.timeline.cache.memory import Cache, CacheFault, Claim
from support_service.timeline.cache.snapshots import Cached, Snapshots, arrived, newest

SKEW = 60.0  # seconds by which the clocks of replicas may differ; what is from later than that is nonsense
WRITES = 3  # attempts to write beside another replica that writes at the same moment

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Case:
    """A case as the sources see it."""

    id: str
    wanted: dict[Service, Wanted]  # of sources that are configured
    epoch: int

    @property
    def key(self) -> str:
        """Where its snapshots are cached."""
        return snapshots.key(self.id)


class SnapshotCache:
    """The cache as the timeline uses it."""

    def __init__(self, cache: Cache, instruments: Instruments) -> None:
        self._cache = cache
        self._instruments = instruments

    async def read(self, case: Case) -> Cached:
        """What is cached of a case, and is of what it wants now; raises CacheFault, which is counted."""
        try:
            value = await self._cache.get(case.key)
            return await self._readable(case, value)
        except CacheFault:
            self._failed()
            raise

    async def write(self, case: Case, known: Snapshots, cached: Cached, ttl: float) -> None:
        """Keep what is known beside what is there, in place of what was `cached` before it was asked for.

        Only what another replica has kept since then may be newer. A fault is counted.
        """
        seen = cached.snapshots
        try:
            for _ in range(WRITES):
                value = snapshots.encode(newest(cached.snapshots | known, arrived(seen, cached.snapshots)))
                there = await self._cache.set(case.key, value, ttl, cached.revision)
                if there is None:
                    self.count("write")
                    return
                cached = await self._readable(case, there)
        except CacheFault:
            self._failed()

    async def forget(self, case_id: str) -> None:
        """Forget what is cached of a case. A fault is counted."""
        try:
            await self._cache.delete(snapshots.key(case_id))
        except CacheFault:
            self._failed()
        else:
            self.count("invalidate")

    async def claim(self, case: Case, seconds: float) -> Claim | None:
        """The right to ask the sources about the case as it is now; raises CacheFault, which is counted."""
        # A claim for the case as it was before a change must not hold up those who read it as it is.
        state = crc32(repr((sorted(case.wanted.items()), case.epoch)).encode())
        try:
            return await self._cache.claim(f"{case.key}:claim:{state:x}", seconds)
        except CacheFault:
            self._failed()
            raise

    async def extend(self, claim: Claim, seconds: float) -> None:
        """Keep a claim; one that is lost costs a second question, and no more."""
        try:
            await self._cache.extend(claim, seconds)
        except CacheFault:
            log.debug("A claim could not be extended")

    async def release(self, claim: Claim) -> None:
        """Give a claim back; one that can't be given back ends by itself."""
        try:
            await self._cache.release(claim)
        except CacheFault:
            log.debug("A claim could not be given back")

    def count(self, event: str) -> None:
        """Count one of labels.CACHE_EVENTS."""
        self._instruments.timeline_cache_events.add(1, {"event": event})

    async def _readable(self, case: Case, value: bytes | None) -> Cached:
        if value is None:
            return Cached()
        try:
            cached = snapshots.decode(value)
        except snapshots.UNREADABLE as failure:
            log.warning("A cached timeline can't be read, and is removed: %s", failure)
            self._instruments.timeline_collection_failures.add(1, {"stage": "cache_decode"})
            await self.forget(case.id)
            return Cached()
        latest = time.time() + SKEW
        usable = {
            name: known
            for name, known in cached.snapshots.items()
            if known.wanted == case.wanted.get(name) and known.at < latest
        }
        return Cached(usable, cached.revision)

    def _failed(self) -> None:
        self.count("error")
        self._instruments.timeline_collection_failures.add(1, {"stage": "cache"})
