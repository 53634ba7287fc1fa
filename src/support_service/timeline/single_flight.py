"""Single-flight fetches: one fetch per case at a time, shared by all readers in one process and across replicas."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from support_service.core.domain.upstream_services import UpstreamService
from support_service.platform.background import run_in_background
from support_service.timeline.cache import CacheUnavailable, Lease
from support_service.timeline.merge import Entry
from support_service.timeline.snapshots import (
    CachedSnapshots,
    Snapshot,
    SnapshotCache,
    Snapshots,
    SnapshotSubject,
    newer_snapshots,
)
from support_service.timeline.source_calls import SourceCall
from support_service.timeline.source_client import SourceClient, TimelineBudget

MAX_ENTRIES_PER_SOURCE = 500  # entries of one source


CACHE_POLL_INTERVAL = 0.02  # seconds between reads of the cache while another replica fetches


@dataclass(frozen=True, slots=True)
class SingleFlightTimings:
    """Times in seconds."""

    lease: float = 0.8  # another replica may take over this long after the holder of a lease has died
    lease_extend_interval: float = 0.1  # between extensions of a held lease


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """The limits of one read, of one case or of several: a time of the event loop's clock, and calls at a time."""

    deadline: float
    slots: Mapping[UpstreamService, asyncio.Semaphore]  # of each source


@dataclass(frozen=True, slots=True)
class SourceResult:
    """The result of asking a source. `reason` says why it is incomplete; None means that it is complete."""

    snapshot: Snapshot
    reason: str | None


@dataclass(frozen=True, slots=True)
class FetchResult:
    """The result of a fetch: by source, what this replica fetched, and what another one stored meanwhile."""

    fetched: dict[UpstreamService, SourceResult] = field(default_factory=dict)
    from_other_replica: Snapshots = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InFlightFetch:
    """A fetch in flight: sources being asked about a case. Readers with the same needs share it."""

    case: SnapshotSubject
    due: frozenset[UpstreamService]
    task: asyncio.Task[FetchResult]


class SingleFlight:
    """In-flight timeline fetches of this process; concurrent readers of a case share the result.

    `is_current` says whether a snapshot is still current for a case. `keep_for` gives the seconds for which a snapshot
    is cached.
    """

    def __init__(
        self,
        sources: Iterable[SourceClient],
        cache: SnapshotCache,
        is_current: Callable[[SnapshotSubject, Snapshot], bool],
        keep_for: Callable[[], float],
        timings: SingleFlightTimings = SingleFlightTimings(),
    ) -> None:
        self._timings = timings
        self._sources = {source.name: source for source in sources}
        self._cache = cache
        self._is_current = is_current
        self._keep_for = keep_for
        self._by_case: dict[str, InFlightFetch] = {}
        self._running: set[asyncio.Task[FetchResult]] = set()
        self._releasing: set[asyncio.Future[None]] = set()

    def start_or_join(
        self,
        case: SnapshotSubject,
        due: frozenset[UpstreamService],
        cached: CachedSnapshots | None,
        limits: ReadLimits,
        *,
        force_new: bool = False,
    ) -> asyncio.Task[FetchResult]:
        """Return the task that fetches the due sources: a fetch in flight that covers them, or a new one.

        With `force_new`, always start one. `cached` is the cached state that the reader has seen, None while the
        cache is unavailable.
        """
        in_flight = self._by_case.get(case.id)
        if in_flight and not force_new and in_flight.case == case and in_flight.due >= due:
            return in_flight.task
        task = asyncio.create_task(self._fetch(case, due, cached, limits, force_new=force_new))
        fetch = self._by_case[case.id] = InFlightFetch(case, due, task)
        self._running.add(task)

        def on_done(_: asyncio.Task[FetchResult]) -> None:
            self._running.discard(task)
            if self._by_case.get(case.id) is fetch:
                del self._by_case[case.id]

        task.add_done_callback(on_done)
        return task

    def is_in_flight(self, case_id: str) -> bool:
        return case_id in self._by_case

    async def close(self) -> None:
        """Cancel the fetches in flight, and wait for the release of their leases."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.gather(*self._releasing)

    async def _fetch(
        self,
        case: SnapshotSubject,
        due: frozenset[UpstreamService],
        cached: CachedSnapshots | None,
        limits: ReadLimits,
        *,
        force_new: bool,
    ) -> FetchResult:
        """Fetch the due sources unless another replica fetches them first, and cache the complete answers."""
        seen = cached or CachedSnapshots()
        if force_new or cached is None:
            return FetchResult(await self._ask_and_cache(case, due, seen, limits))
        lease, cached = await self._acquire_or_wait(case, due, seen, limits.deadline)
        newer = self._newer_snapshots(case, due, seen.snapshots, cached.snapshots)
        async with self._hold_lease(lease):
            return FetchResult(await self._ask_and_cache(case, due - newer.keys(), cached, limits), newer)

    async def _acquire_or_wait(
        self, case: SnapshotSubject, due: frozenset[UpstreamService], cached: CachedSnapshots, deadline: float
    ) -> tuple[Lease | None, CachedSnapshots]:
        """Acquire the lease to ask, or wait for the replica that holds it; return the lease and the cached state.

        Waits until the lease is acquired, the other replica has stored all due sources, the deadline is near, or the
        cache fails. The lease is None if it was not acquired.
        """
        before = cached.snapshots
        loop = asyncio.get_running_loop()
        with suppress(CacheUnavailable):
            while True:
                lease, cached = await asyncio.gather(
                    self._cache.acquire_lease(case, self._timings.lease), self._cache.read(case)
                )
                found = len(self._newer_snapshots(case, due, before, cached.snapshots)) == len(due)
                if lease or found or loop.time() + CACHE_POLL_INTERVAL >= deadline:
                    return lease, cached
                await asyncio.sleep(CACHE_POLL_INTERVAL)
        return None, cached

    def _newer_snapshots(
        self, case: SnapshotSubject, due: Collection[UpstreamService], before: Snapshots, now: Snapshots
    ) -> Snapshots:
        """Return the current snapshots of due sources that another replica has stored since `before`."""
        return {
            name: known
            for name, known in newer_snapshots(before, now).items()
            if name in due and self._is_current(case, known)
        }

    @asynccontextmanager
    async def _hold_lease(self, lease: Lease | None) -> AsyncIterator[None]:
        """Extend a lease for the duration of a block, and release it afterwards."""
        if lease is None:
            yield
            return

        async def extend(lease: Lease) -> None:
            while True:
                await asyncio.sleep(self._timings.lease_extend_interval)
                await self._cache.extend_lease(lease, self._timings.lease)

        try:
            async with run_in_background(extend(lease)):
                yield
        finally:
            releasing = asyncio.ensure_future(self._cache.release_lease(lease))  # no reader waits for it
            self._releasing.add(releasing)
            releasing.add_done_callback(self._releasing.discard)

    async def _ask_and_cache(
        self, case: SnapshotSubject, due: Collection[UpstreamService], cached: CachedSnapshots, limits: ReadLimits
    ) -> dict[UpstreamService, SourceResult]:
        if not due:
            return {}
        asked = await self._ask_sources(case, due, limits)
        good = {name: answer.snapshot for name, answer in asked.items() if answer.reason is None}
        if good:
            await self._cache.write(case, good, cached, self._keep_for())
        return asked

    async def _ask_sources(
        self, case: SnapshotSubject, due: Collection[UpstreamService], limits: ReadLimits
    ) -> dict[UpstreamService, SourceResult]:
        """Ask the due sources, with all calls at the same time, and return the result of each source."""
        at = time.time()
        calls: list[tuple[UpstreamService, SourceCall, TimelineBudget]] = []
        notes: dict[UpstreamService, list[str | None]] = {name: [] for name in due}
        for name in due:
            budget = TimelineBudget(limits.slots[name])
            of_source, note = self._sources[name].calls(case.references[name])
            notes[name].append(note)
            calls += ((name, call, budget) for call in of_source)
        answers = await asyncio.gather(
            *(self._sources[name].fetch(call, limits.deadline, budget) for name, call, budget in calls)
        )
        entries: dict[UpstreamService, list[Entry]] = {name: [] for name in due}
        reasons: dict[UpstreamService, str] = {}
        missing: set[UpstreamService] = set()
        for (name, _, _), answer in zip(calls, answers, strict=True):
            entries[name] += answer.entries
            notes[name].append(answer.note)
            if answer.failure:
                reasons.setdefault(name, answer.failure.reason)
            elif answer.outcome == "not_found":
                missing.add(name)
        found: dict[UpstreamService, SourceResult] = {}
        for name in due:
            newest, note = _limit_entries(entries[name])
            distinct = dict.fromkeys(text for text in (note, *notes[name]) if text)
            snapshot = Snapshot(
                at, case.references[name], case.epoch, newest, "; ".join(distinct) or None, missing=name in missing
            )
            found[name] = SourceResult(snapshot, reasons.get(name))
        return found


def _limit_entries(entries: list[Entry]) -> tuple[list[Entry], str | None]:
    """Return the newest `MAX_ENTRIES_PER_SOURCE` entries, and a note if entries were left out."""
    if len(entries) <= MAX_ENTRIES_PER_SOURCE:
        return entries, None
    newest = sorted(entries, key=lambda entry: entry["timestamp"] or "", reverse=True)[:MAX_ENTRIES_PER_SOURCE]
    return newest, f"only the newest {MAX_ENTRIES_PER_SOURCE} entries"
