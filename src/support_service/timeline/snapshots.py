"""Snapshots of the sources' last answers about a case, and their cache.

The snapshots of a case are one cached value: versioned JSON. It begins with its revision, so that a cache can compare
it with the revision that a writer has seen without reading the rest.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import uuid4
from zlib import crc32

import pydantic_core
from cachetools import LRUCache

from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import UpstreamService
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec
from support_service.timeline.cache import REVISION_PATTERN, CacheUnavailable, Lease, SnapshotStore
from support_service.timeline.merge import Entry
from support_service.timeline.source_client import TIMELINE_COLLECTION_FAILURES

FORMAT_VERSION = 2
DECODE_ERRORS = (ValueError, TypeError, KeyError, AttributeError, OverflowError)  # the errors of `decode_snapshots`
MAX_CLOCK_SKEW = 60.0  # seconds by which replica clocks may differ; a snapshot further in the future is ignored
MAX_WRITE_ATTEMPTS = 3  # attempts to write while other replicas write at the same time
MAX_DECODED_BYTES = 4 * 1024 * 1024  # encoded bytes of the snapshots that are kept decoded, in five times the memory

log = logging.getLogger(__name__)

CACHE_EVENTS = ("hit", "miss", "write", "invalidate", "error")
TIMELINE_CACHE_EVENTS = InstrumentSpec(
    "support.timeline.cache_events",
    "counter",
    "{event}",
    "Uses of the timeline cache; error counts failed operations",
    {"event": CACHE_EVENTS},
)


class Snapshot(NamedTuple):  # a frozen dataclass takes three times as long to create
    """The complete answer of one source, with the time of the request."""

    requested_at: float  # seconds since 1970
    references: SourceReferences  # the references asked for; the snapshot is invalid once the case has others
    epoch: int  # the case's epoch; an event that changes a source's data about the case starts a new one
    entries: list[Entry]
    note: str | None = None  # what was left out of an answer that was too long, and whether an id was rejected
    missing: bool = False  # something was not found, and may be created soon


Snapshots = dict[UpstreamService, Snapshot]


@dataclass(frozen=True, slots=True)
class CachedSnapshots:
    """The cached state of a case. An empty revision means that a writer has no stored value to compare with."""

    snapshots: Snapshots = field(default_factory=dict)
    revision: str = ""


def merge_snapshots(one: Mapping[UpstreamService, Snapshot], other: Mapping[UpstreamService, Snapshot]) -> Snapshots:
    """Merge two sets of snapshots: for each source, keep the newest epoch, and within an epoch the latest request."""
    return dict(one) | {
        name: known
        for name, known in other.items()
        if name not in one or (known.epoch, known.requested_at) >= (one[name].epoch, one[name].requested_at)
    }


def newer_snapshots(seen: Mapping[UpstreamService, Snapshot], now: Mapping[UpstreamService, Snapshot]) -> Snapshots:
    """Return the snapshots that another replica stored after `seen`.

    Compared by value, because replica clocks may disagree: a newer snapshot may have an older time.
    """
    return {name: known for name, known in now.items() if known != seen.get(name)}


def cache_key(case_id: str) -> str:
    return f"support:timeline:{case_id}"


def encode_snapshots(snapshots: Mapping[UpstreamService, Snapshot]) -> bytes:
    """Return the cached value for the snapshots, with a new revision."""
    sources = {
        name: {
            "at": known.requested_at,
            "ids": known.references.ids,
            "ofOrders": known.references.of_orders,
            "epoch": known.epoch,
            "note": known.note,
            "missing": known.missing,
            "entries": known.entries,
        }
        for name, known in snapshots.items()
    }
    document = {"revision": uuid4().hex, "version": FORMAT_VERSION, "sources": sources}
    return pydantic_core.to_json(document, inf_nan_mode="null")


def decode_snapshots(value: bytes) -> CachedSnapshots:
    """Return the snapshots of a cached value, with its revision; no snapshots if it has another version.

    Raises one of DECODE_ERRORS if the value has another form.
    """
    document: dict[str, Any] = pydantic_core.from_json(value)
    revision = _revision_of(value)
    if document["version"] != FORMAT_VERSION:
        return CachedSnapshots(revision=revision)
    snapshots = {
        name: Snapshot(
            float(source["at"]),
            SourceReferences(tuple(source["ids"]), tuple(source["ofOrders"])),
            int(source["epoch"]),
            _check_entries(source["entries"]),
            None if source["note"] is None else str(source["note"]),
            bool(source["missing"]),
        )
        for name, source in document["sources"].items()
    }
    return CachedSnapshots(snapshots, revision)


def _revision_of(value: bytes) -> str:
    """Return the revision of a value, in the same way as the cache reads it.

    It is read for any version: otherwise a writer could never replace the value of another version.
    """
    found = REVISION_PATTERN.match(value)
    return found[1].decode() if found else ""


def _check_entries(value: object) -> list[Entry]:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise TypeError("entries must be a list of objects")
    return value


class SnapshotSubject(NamedTuple):
    """The parts of a case that determine its snapshots: id, references for each source, and epoch."""

    id: str
    references: dict[UpstreamService, SourceReferences]  # of sources that are configured
    epoch: int


class SnapshotCache:
    """Reads snapshots, writes them merged with snapshots of other replicas, and invalidates them.

    Each operation counts its event in the metrics.
    """

    def __init__(self, cache: SnapshotStore, instruments: Instruments) -> None:
        self._cache = cache
        self._instruments = instruments
        self._events = {
            event: instruments.start_series(TIMELINE_CACHE_EVENTS, {"event": event}) for event in CACHE_EVENTS
        }
        # By case id, the last value that was read or written, and what it says: most reads get the value known here.
        self._decoded: LRUCache[str, tuple[bytes, CachedSnapshots]] = LRUCache(MAX_DECODED_BYTES, _bytes_of_value)

    async def read(self, case: SnapshotSubject) -> CachedSnapshots:
        """Return the cached snapshots for the case's present references. Raises CacheUnavailable, which is counted."""
        try:
            value = await self._cache.get(cache_key(case.id))
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
                snapshots = merge_snapshots(cached.snapshots | known, newer_snapshots(seen, cached.snapshots))
                value = encode_snapshots(snapshots)
                stored = await self._cache.compare_and_set(cache_key(case.id), value, ttl, cached.revision)
                if stored is None:
                    self._keep_decoded(case.id, value, CachedSnapshots(snapshots, _revision_of(value)))
                    self.count("write")
                    return
                cached = await self._decode(case, stored)
        except CacheUnavailable:
            self._count_failure()

    async def forget(self, case_id: str) -> None:
        """Delete the cached snapshots of a case; a fault is counted."""
        try:
            await self._cache.delete(cache_key(case_id))
        except CacheUnavailable:
            self._count_failure()
        else:
            self.count("invalidate")

    async def acquire_lease(self, case: SnapshotSubject, seconds: float) -> Lease | None:
        """Acquire the lease for asking the sources about the case; return None if another replica has it."""
        # The key includes references and epoch: a lease from before a change must not block reads after it.
        state = crc32(repr((sorted(case.references.items()), case.epoch)).encode())
        try:
            return await self._cache.acquire_lease(f"{cache_key(case.id)}:claim:{state:x}", seconds)
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
        self._events[event].record(1)

    async def _decode(self, case: SnapshotSubject, value: bytes | None) -> CachedSnapshots:
        if value is None:
            return CachedSnapshots()
        decoded = self._decoded.get(case.id)
        try:
            if decoded and decoded[0] == value:
                cached = decoded[1]
            else:
                cached = decode_snapshots(value)
                self._keep_decoded(case.id, value, cached)
        except DECODE_ERRORS as failure:
            log.warning("A cached timeline can't be read, and is removed: %s", failure)
            self._instruments.add(TIMELINE_COLLECTION_FAILURES, 1, {"stage": "cache_decode"})
            await self.forget(case.id)
            return CachedSnapshots()
        latest = time.time() + MAX_CLOCK_SKEW
        usable = {
            name: known
            for name, known in cached.snapshots.items()
            if known.references == case.references.get(name) and known.requested_at < latest
        }
        return cached if len(usable) == len(cached.snapshots) else CachedSnapshots(usable, cached.revision)

    def _keep_decoded(self, case_id: str, value: bytes, cached: CachedSnapshots) -> None:
        """Keep what a value says. Callers must not change its entries."""
        self._decoded.pop(case_id, None)
        if len(value) <= MAX_DECODED_BYTES:
            self._decoded[case_id] = value, cached

    def _count_failure(self) -> None:
        self.count("error")
        self._instruments.add(TIMELINE_COLLECTION_FAILURES, 1, {"stage": "cache"})


def _bytes_of_value(decoded: tuple[bytes, CachedSnapshots]) -> int:
    return len(decoded[0])
