"""TimelineAggregator: asks every service at once for what the cache does not have, within a deadline."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic_core

from support_service.references import SERVICE_OF, Service, SourceStatus, Wanted
from support_service.telemetry.instruments import Instruments
from support_service.timeline.cache import Cache, CacheFault
from support_service.timeline.merge import Entry
from support_service.timeline.sources import Failure, SourceClient

VERSION = 1  # of the cached value
SERVICES = tuple(SERVICE_OF.values())
FRESH = SourceStatus(status="fresh", ageSeconds=0.0, reason=None)
NONE = SourceStatus(status="none", ageSeconds=None, reason=None)
OFF = SourceStatus(status="off", ageSeconds=None, reason=None)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a source gave, and when; `reason` says why it is not all, and None that it is."""

    at: float  # seconds since the epoch
    wanted: Wanted  # once the case wants something else, the snapshot answers it no more
    entries: list[Entry]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """What the services know of a case: entries in the order of the services, and the worth of each service's."""

    entries: list[Entry]
    sources: dict[Service, SourceStatus]


class TimelineAggregator:
    """Collects a case's entries from the sources that are configured, through the cache."""

    def __init__(
        self, sources: Iterable[SourceClient], cache: Cache, instruments: Instruments, *, ttl: float, deadline: float
    ) -> None:
        self._sources = {source.name: source for source in sources}
        self._cache = cache
        self._instruments = instruments
        self._ttl = ttl
        self._deadline = deadline

    async def collect(self, case_id: str, references: Mapping[Service, Wanted], *, refresh: bool = False) -> Collected:
        """What every source knows of a case; never raises for what a source or the cache does.

        A refresh asks every source, whatever is cached. A source that fails costs its own entries and nothing else, and
        its failure is not cached.
        """
        started = time.perf_counter()
        wanted = {name: want for name, want in references.items() if name in self._sources}
        known: dict[Service, Snapshot] = {}
        if wanted:
            known = await self._refreshed(case_id) if refresh else await self._read(case_id, wanted)
        missing = {name: want for name, want in wanted.items() if name not in known}
        asked = await self._ask(missing) if missing else {}
        whole = {name: snapshot for name, snapshot in asked.items() if snapshot.reason is None}
        if whole:
            await self._write(case_id, known | whole)
        if wanted:
            origin = "remote" if missing else "cache"
            self._instruments.timeline_collect.record(time.perf_counter() - started, {"source": origin})
        return self._collected(known, asked)

    async def invalidate(self, case_id: str) -> None:
        """Forget what is cached of a case: its references or a service's data changed."""
        try:
            await self._cache.delete(_key(case_id))
        except CacheFault as fault:
            self._cache_failed(fault)
        else:
            self._instruments.timeline_cache_events.add(1, {"event": "invalidate"})

    async def _refreshed(self, case_id: str) -> dict[Service, Snapshot]:
        await self.invalidate(case_id)
        return {}

    async def _ask(self, wanted: Mapping[Service, Wanted]) -> dict[Service, Snapshot]:
        """One snapshot for each source; all calls go out at once."""
        at = time.time()
        deadline = asyncio.get_running_loop().time() + self._deadline
        calls = [(name, call) for name, want in wanted.items() for call in self._sources[name].calls(want)]
        answers = await asyncio.gather(*(self._sources[name].fetch(call, deadline) for name, call in calls))
        entries: dict[Service, list[Entry]] = {name: [] for name in wanted}
        reasons: dict[Service, str] = {}
        for (name, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, Failure):
                reasons.setdefault(name, answer.reason)
            else:
                entries[name] += answer
        return {name: Snapshot(at, want, entries[name], reasons.get(name)) for name, want in wanted.items()}

    async def _read(self, case_id: str, wanted: Mapping[Service, Wanted]) -> dict[Service, Snapshot]:
        """The snapshots that are current and of what is wanted now."""
        try:
            value = await self._cache.get(_key(case_id))
        except CacheFault as fault:
            self._cache_failed(fault)
            value = None
        try:
            cached = _decode(value) if value is not None else {}
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as failure:
            log.warning("The cached timeline of case %s can't be read, and is removed: %s", case_id, failure)
            self._instruments.timeline_collection_failures.add(1, {"stage": "cache_decode"})
            await self.invalidate(case_id)
            cached = {}
        oldest = time.time() - self._ttl
        known = {
            name: cached[name]
            for name, want in wanted.items()
            if name in cached and cached[name].at >= oldest and cached[name].wanted == want
        }
        self._instruments.timeline_cache_events.add(1, {"event": "hit" if len(known) == len(wanted) else "miss"})
        return known

    async def _write(self, case_id: str, snapshots: Mapping[Service, Snapshot]) -> None:
        try:
            await self._cache.set(_key(case_id), _encode(snapshots), self._ttl)
        except CacheFault as fault:
            self._cache_failed(fault)
        else:
            self._instruments.timeline_cache_events.add(1, {"event": "write"})

    def _cache_failed(self, fault: CacheFault) -> None:
        log.warning("The timeline cache failed: %s", fault)
        self._instruments.timeline_cache_events.add(1, {"event": "error"})
        self._instruments.timeline_collection_failures.add(1, {"stage": "cache"})

    def _collected(self, known: Mapping[Service, Snapshot], asked: Mapping[Service, Snapshot]) -> Collected:
        entries: list[Entry] = []
        sources: dict[Service, SourceStatus] = {}
        for name in SERVICES:
            snapshot = known.get(name) or asked.get(name)
            if snapshot is None:
                sources[name] = NONE if name in self._sources else OFF
                continue
            entries += snapshot.entries
            if snapshot.reason is not None:
                sources[name] = {"status": "unavailable", "ageSeconds": None, "reason": snapshot.reason}
            elif name in asked:
                sources[name] = FRESH
            else:
                age = round(max(0.0, time.time() - snapshot.at), 3)
                sources[name] = {"status": "cached", "ageSeconds": age, "reason": None}
        return Collected(entries, sources)


def _key(case_id: str) -> str:
    return f"support:timeline:{case_id}"


def _encode(snapshots: Mapping[Service, Snapshot]) -> bytes:
    sources = {
        name: {"at": known.at, "ids": known.wanted.ids, "ofOrders": known.wanted.of_orders, "entries": known.entries}
        for name, known in snapshots.items()
    }
    return pydantic_core.to_json({"version": VERSION, "sources": sources}, inf_nan_mode="null")


def _decode(value: bytes) -> dict[Service, Snapshot]:
    """The snapshots in a cached value; none in one of another version. Raises where it is no value of ours."""
    document: dict[str, Any] = pydantic_core.from_json(value)
    if document["version"] != VERSION:
        return {}
    return {
        name: Snapshot(
            float(source["at"]),
            Wanted(tuple(source["ids"]), tuple(source["ofOrders"])),
            [dict(entry) for entry in source["entries"]],
        )
        for name, source in document["sources"].items()
    }
