"""Timeline aggregator: a case's entries from the upstream services, and how fresh each service's part is.

Entries come from the cache, or are fetched within a deadline.
"""

import asyncio
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cachetools import TTLCache

from support_service.core.clock import utc_now
from support_service.core.domain.principals import Principal
from support_service.core.domain.references import SourceReferences, SourceStatus
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES, UpstreamService
from support_service.core.part_state import OFF, OK, OncallCard
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec
from support_service.timeline.cache import CacheUnavailable, SnapshotStore
from support_service.timeline.merge import Entry
from support_service.timeline.overrides import TTL_OVERRIDE, Overrides
from support_service.timeline.single_flight import (
    FetchResult,
    ReadLimits,
    SingleFlight,
    SingleFlightTimings,
    SourceResult,
)
from support_service.timeline.snapshots import Snapshot, SnapshotCache, Snapshots, SnapshotSubject
from support_service.timeline.source_client import LATENCY_BUCKETS, SourceClient

NOT_REFERENCED = SourceStatus(status="none", ageSeconds=None, reason=None)
NOT_CONFIGURED = SourceStatus(status="off", ageSeconds=None, reason=None)

NOTHING_FETCHED = FetchResult()
SOURCE_UNAVAILABLE = "source_unavailable"
COMPLETENESS = ("complete", "stale", "partial")
TIMELINE_COLLECT = InstrumentSpec(
    "support.timeline.collect",
    "histogram",
    "s",
    "Time to collect a timeline; remote: called a service, cache: did not",
    {"source": ("cache", "remote")},
    LATENCY_BUCKETS,
)
TIMELINE_READ = InstrumentSpec(
    "support.timeline.read",
    "histogram",
    "s",
    "Time to collect a timeline, by completeness: complete, stale (an older answer replaces a failed service), "
    "partial (no answer of a service)",
    {"completeness": COMPLETENESS},
    LATENCY_BUCKETS,
)


@dataclass(frozen=True, slots=True)
class AggregatorTimings:
    """Times in seconds."""

    not_found_ttl: float = 30.0  # for which "not found" is cached: the object may be created soon
    # Share of its TTL after which a snapshot that is read is refreshed, at the earliest.
    refresh_ahead_from: float = 0.75
    refresh_ahead_to: float = 0.95  # the same, at the latest
    refresh_ahead_interval: float = 5.0  # between two refreshes ahead for one case, because the first may have failed
    single_flight: SingleFlightTimings = SingleFlightTimings()


@dataclass(slots=True)  # not frozen: one is created for each read, in a third of the time
class TimelineEntries:
    """A case's entries from the upstream services, in the order of UPSTREAM_SERVICES, and each service's freshness.

    Do not change the parts: reads share each while the cached answer is the same.
    """

    entries_by_service: dict[UpstreamService, list[Entry]]
    sources: dict[UpstreamService, SourceStatus]

    @property
    def entries(self) -> list[Entry]:
        return [entry for part in self.entries_by_service.values() for entry in part]

    @property
    def completeness(self) -> str:
        """How complete the entries are, a value of COMPLETENESS."""
        statuses = {source["status"] for source in self.sources.values()}
        return "partial" if "unavailable" in statuses else "stale" if "stale" in statuses else "complete"


class TimelineAggregator:
    """Collects a case's entries from the configured sources, through the cache.

    A source's last answer is current for `ttl` seconds. For `stale_ttl` more seconds it is used if the source fails.
    `deadline` is the time limit of a whole read in seconds.
    """

    def __init__(
        self,
        sources: Iterable[SourceClient],
        cache: SnapshotStore,
        overrides: Overrides,
        instruments: Instruments,
        *,
        ttl: float,
        stale_ttl: float,
        deadline: float,
        timings: AggregatorTimings = AggregatorTimings(),
    ) -> None:
        self.sources = {source.name: source for source in sources}
        self.overrides = overrides
        self._cache = SnapshotCache(cache, instruments)
        self._collected_from = {
            source: instruments.start_series(TIMELINE_COLLECT, {"source": source}) for source in ("cache", "remote")
        }
        self._reads = {each: instruments.start_series(TIMELINE_READ, {"completeness": each}) for each in COMPLETENESS}
        self._ttl = ttl
        self._stale_ttl = stale_ttl
        self._deadline = deadline
        self._timings = timings
        self._fetches = SingleFlight(
            self.sources.values(), self._cache, self._is_current, self._retention_seconds, timings.single_flight
        )
        self._refreshed_ahead: TTLCache[str, bool] = TTLCache(10_000, timings.refresh_ahead_interval)

    async def collect(
        self,
        principal: Principal,
        case_id: str,
        references: Mapping[UpstreamService, SourceReferences],
        *,
        only: Collection[UpstreamService] = UPSTREAM_SERVICES,
        epoch: int = 0,
        refresh: bool = False,
        limits: ReadLimits | None = None,
    ) -> TimelineEntries:
        """Return the case's entries from its sources among `only`; failures of a source or of the cache never raise.

        `references` names all references of the case, so that what is cached of the other services is kept.

        For a customer, the freshness omits the reason that on-call gave for an override.

        With `refresh`, these sources are asked, even if their answers are cached. A failing source affects its own
        entries only, and its last good answer is used instead. Answers from before the case's `epoch` are not current.

        Cases that are read together share the `limits` of one read.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        case = SnapshotSubject(
            case_id, {name: want for name, want in references.items() if name in self.sources}, epoch
        )
        wanted = case.references.keys() & only
        if not wanted:
            return self._combine_entries(wanted, {}, frozenset(), NOTHING_FETCHED, {})
        deadline = started + self._deadline
        try:
            cached = await self._cache.read(case)
        except CacheUnavailable:
            cached = None
        oldest = time.time() - self._retention_seconds()
        known = {name: each for name, each in cached.snapshots.items() if name in wanted} if cached else {}
        kept = {name: each for name, each in known.items() if each.requested_at > oldest}
        current = frozenset(name for name, snapshot in kept.items() if self._is_current(case, snapshot))
        switched_off = {
            name: override.text_shown_to(principal) for name in wanted if (override := self.overrides.in_effect(name))
        }
        in_use = wanted - switched_off.keys()
        due = frozenset(in_use if refresh else in_use - current)
        if cached or not refresh:
            self._cache.count("invalidate" if refresh else "hit" if current and not due else "miss")
        found = NOTHING_FETCHED
        if due:
            limits = limits or self._limits_until(deadline)
            fetch = self._fetches.start_or_join(case, due, cached, limits, force_new=refresh)
            found = await asyncio.shield(fetch)  # cancelling one reader must not cancel the fetch that others share
        elif cached and not self._fetches.is_in_flight(case_id) and case_id not in self._refreshed_ahead:
            share = self._refresh_ahead_share(case_id)
            expiring = frozenset(name for name in in_use if not self._is_current(case, kept[name], share))
            if expiring:  # refreshed in the background; the reader does not wait
                self._refreshed_ahead[case_id] = True
                self._fetches.start_or_join(case, expiring, cached, limits or self._limits_until(deadline))
        collected = self._combine_entries(wanted, kept, current, found, switched_off)
        elapsed = loop.time() - started
        self._collected_from["remote" if due else "cache"].record(elapsed)
        self._reads[collected.completeness].record(elapsed)
        return collected

    def new_limits(self) -> ReadLimits:
        return self._limits_until(asyncio.get_running_loop().time() + self._deadline)

    def status(self) -> dict[UpstreamService, str]:
        """Return of each service OK, `off`, or `source_unavailable` if its circuit breaker rejects calls."""
        return {service: self._source_status(service) for service in UPSTREAM_SERVICES}

    def _source_status(self, service: UpstreamService) -> str:
        source = self.sources.get(service)
        if source is None or self.overrides.in_effect(service):
            return OFF
        return OK if source.breaker.state == "closed" else SOURCE_UNAVAILABLE

    def card(self) -> OncallCard:
        """Return what on-call is shown of the sources as this replica sees them."""
        failing = [service for service, status in self.status().items() if status == SOURCE_UNAVAILABLE]
        error = f"The circuit breaker rejects calls to: {', '.join(failing)}." if failing else None
        items = [self._source_figures(service) for service in UPSTREAM_SERVICES]
        return OncallCard(utc_now(), {"items": items}, error, scope="replica")

    def _source_figures(self, service: UpstreamService) -> dict[str, object]:
        source = self.sources.get(service)
        recent = source.recent.summary() if source else None
        return {
            "service": service,
            "configured": source is not None,
            "breaker": source and source.breaker.state,
            "calls": recent.calls if recent else 0,
            "error_share": recent and recent.error_share,
            "p95_seconds": None if recent is None or recent.p95 is None else round(recent.p95, 3),
            "last_answer_at": recent and recent.last_answer_at,
            "override": self.overrides.in_effect(service),
        }

    def cache_card(self, error: str | None) -> OncallCard:
        """Return what on-call is shown of the cache; `error` says that it does not answer."""
        figures = {
            "ttl_seconds": self.overrides.ttl(self._ttl),
            "default_ttl_seconds": self._ttl,
            "override": self.overrides.in_effect(TTL_OVERRIDE),
        }
        return OncallCard(utc_now(), figures, error)

    async def invalidate(self, case_id: str) -> None:
        """Delete the cached snapshots of a case, for a change of its references."""
        await self._cache.forget(case_id)

    async def close(self) -> None:
        """Cancel the fetches in flight."""
        await self._fetches.close()

    def _limits_until(self, deadline: float) -> ReadLimits:
        return ReadLimits(deadline, {name: source.new_slots() for name, source in self.sources.items()})

    def _retention_seconds(self) -> float:
        """Return for how many seconds an answer is kept, including the time as a fallback for a failing source."""
        return self.overrides.ttl(self._ttl) + self._stale_ttl

    def _is_current(self, case: SnapshotSubject, snapshot: Snapshot, share: float = 1.0) -> bool:
        """Return whether a snapshot is of the case's present epoch and within a share of its TTL."""
        ttl = self.overrides.ttl(self._ttl)
        if snapshot.missing:
            ttl = min(ttl, self._timings.not_found_ttl)
        return snapshot.epoch >= case.epoch and time.time() - snapshot.requested_at < share * ttl

    def _refresh_ahead_share(self, case_id: str) -> float:
        """Return the share of a TTL after which the snapshots of a case that is read are refreshed ahead.

        It depends on the case, so that snapshots stored at the same time are not refreshed at the same time.
        """
        first, last = self._timings.refresh_ahead_from, self._timings.refresh_ahead_to
        return first + (last - first) * (hash(case_id) % 1024) / 1024

    def _combine_entries(
        self,
        wanted: Collection[UpstreamService],
        kept: Snapshots,
        current: frozenset[UpstreamService],
        found: FetchResult,
        switched_off: Mapping[UpstreamService, str],
    ) -> TimelineEntries:
        entries_by_service: dict[UpstreamService, list[Entry]] = {}
        sources: dict[UpstreamService, SourceStatus] = {}
        for name in UPSTREAM_SERVICES:
            if name not in wanted:
                sources[name] = NOT_REFERENCED if name in self.sources else NOT_CONFIGURED
                continue
            if name in found.from_other_replica:
                given, sources[name] = _entries_and_status(found.from_other_replica[name], None, None, is_current=True)
            else:
                given, sources[name] = _entries_and_status(
                    kept.get(name), found.fetched.get(name), switched_off.get(name), is_current=name in current
                )
            entries_by_service[name] = given
        return TimelineEntries(entries_by_service, sources)


def _entries_and_status(
    kept: Snapshot | None, asked: SourceResult | None, switched_off: str | None, *, is_current: bool
) -> tuple[list[Entry], SourceStatus]:
    if asked and asked.reason is None:
        return asked.snapshot.entries, {"status": "fresh", "ageSeconds": 0.0, "reason": asked.snapshot.note}
    reason = asked.reason if asked else switched_off
    if kept and kept.missing and not kept.entries and not is_current:
        kept = None  # an outdated "not found" says nothing about the present
    if kept is None:
        if asked:
            return asked.snapshot.entries, {"status": "unavailable", "ageSeconds": None, "reason": reason}
        return [], {"status": "off", "ageSeconds": None, "reason": reason}
    age = round(max(0.0, time.time() - kept.requested_at), 3)
    if asked is None and is_current:
        return kept.entries, {"status": "cached", "ageSeconds": age, "reason": kept.note}
    return kept.entries, {"status": "stale", "ageSeconds": age, "reason": reason}
