"""Asking the sources: one flight a case however many readers wait for it, in one process or in many replicas."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from support_service.core.background import beside
from support_service.core.references import Service
from support_service.timeline.cache.memory import CacheFault, Claim
from support_service.timeline.cache.snapshot_cache import Case, SnapshotCache
from support_service.timeline.cache.snapshots import Cached, Snapshot, Snapshots, arrived
from support_service.timeline.merge import Entry
from support_service.timeline.sources.calls import Call
from support_service.timeline.sources.client import Allowance, SourceClient

MAX_ENTRIES = 500  # of one source
CLAIM_FOR = 0.8  # seconds until another replica may take over from one that died
EXTEND_EVERY = 0.1  # seconds
POLL = 0.02  # seconds between looks at what another replica has found


@dataclass(frozen=True, slots=True)
class Asked:
    """What a source gave just now, and why it is not all; without a reason it is."""

    snapshot: Snapshot
    reason: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a flight: what was asked, and what another replica had found meanwhile."""

    asked: dict[Service, Asked] = field(default_factory=dict)
    kept: Snapshots = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flight:
    """Sources being asked for a case; every reader who wants the same waits for it."""

    case: Case
    due: frozenset[Service]
    task: asyncio.Task[Found]


class Flights:
    """Those that are in the air in this process.

    `is_current` says whether a snapshot still answers a case, and `keep_for` for how many seconds one is cached.
    """

    def __init__(
        self,
        sources: Iterable[SourceClient],
        cache: SnapshotCache,
        is_current: Callable[[Case, Snapshot], bool],
        keep_for: Callable[[], float],
    ) -> None:
        self._sources = {source.name: source for source in sources}
        self._cache = cache
        self._is_current = is_current
        self._keep_for = keep_for
        self._of_case: dict[str, Flight] = {}
        self._running: set[asyncio.Task[Found]] = set()
        self._releasing: set[asyncio.Future[None]] = set()

    def take(
        self, case: Case, due: frozenset[Service], cached: Cached | None, deadline: float, *, alone: bool = False
    ) -> asyncio.Task[Found]:
        """The flight that asks for what is due: one in the air that does, or a new one.

        `alone` takes none that another began. `cached` is what a reader has seen, None where the cache is out of order.
        """
        flying = self._of_case.get(case.id)
        if flying and not alone and flying.case == case and flying.due >= due:
            return flying.task
        task = asyncio.create_task(self._fly(case, due, cached, deadline, alone=alone))
        flight = self._of_case[case.id] = Flight(case, due, task)
        self._running.add(task)

        def land(_: asyncio.Task[Found]) -> None:
            self._running.discard(task)
            if self._of_case.get(case.id) is flight:
                del self._of_case[case.id]

        task.add_done_callback(land)
        return task

    def is_flying(self, case_id: str) -> bool:
        """Whether a case's sources are being asked."""
        return case_id in self._of_case

    async def close(self) -> None:
        """Give up what is being asked."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await asyncio.gather(*self._releasing)

    async def _fly(
        self, case: Case, due: frozenset[Service], cached: Cached | None, deadline: float, *, alone: bool
    ) -> Found:
        """Ask for what is due, unless another replica does so first, and keep what was good."""
        seen = cached or Cached()
        if alone or cached is None:
            return Found(await self._ask_and_keep(case, due, seen, deadline))
        claim, cached = await self._claim(case, due, seen, deadline)
        news = self._news(case, due, seen.snapshots, cached.snapshots)
        async with self._holding(claim):
            return Found(await self._ask_and_keep(case, due - news.keys(), cached, deadline), news)

    async def _claim(
        self, case: Case, due: frozenset[Service], cached: Cached, deadline: float
    ) -> tuple[Claim | None, Cached]:
        """The right to ask, for this replica alone; and what is cached once there is nobody to wait for any more."""
        before = cached.snapshots
        loop = asyncio.get_running_loop()
        with suppress(CacheFault):
            while True:
                claim, cached = await asyncio.gather(self._cache.claim(case, CLAIM_FOR), self._cache.read(case))
                found = len(self._news(case, due, before, cached.snapshots)) == len(due)
                if claim or found or loop.time() + POLL >= deadline:
                    return claim, cached
                await asyncio.sleep(POLL)
        return None, cached

    def _news(self, case: Case, due: Collection[Service], before: Snapshots, now: Snapshots) -> Snapshots:
        """What another replica has found of what is due."""
        return {
            name: known for name, known in arrived(before, now).items() if name in due and self._is_current(case, known)
        }

    @asynccontextmanager
    async def _holding(self, claim: Claim | None) -> AsyncIterator[None]:
        """Keep a claim for the length of a block."""
        if claim is None:
            yield
            return

        async def extend(claim: Claim) -> None:
            while True:
                await asyncio.sleep(EXTEND_EVERY)
                await self._cache.extend(claim, CLAIM_FOR)

        try:
            async with beside(extend(claim)):
                yield
        finally:
            releasing = asyncio.ensure_future(self._cache.release(claim))  # no reader waits for it
            self._releasing.add(releasing)
            releasing.add_done_callback(self._releasing.discard)

    async def _ask_and_keep(
        self, case: Case, due: Collection[Service], cached: Cached, deadline: float
    ) -> dict[Service, Asked]:
        if not due:
            return {}
        asked = await self._ask(case, due, deadline)
        good = {name: answer.snapshot for name, answer in asked.items() if answer.reason is None}
        if good:
            await self._cache.write(case, good, cached, self._keep_for())
        return asked

    async def _ask(self, case: Case, due: Collection[Service], deadline: float) -> dict[Service, Asked]:
        """What each source has to say; all calls go out at once."""
        at = time.time()
        calls: list[tuple[Service, Call, Allowance]] = []
        notes: dict[Service, str | None] = {}
        for name in due:
            allowance = self._sources[name].allowance()
            of_source, notes[name] = self._sources[name].calls(case.wanted[name])
            calls += ((name, call, allowance) for call in of_source)
        answers = await asyncio.gather(
            *(self._sources[name].fetch(call, deadline, allowance) for name, call, allowance in calls)
        )
        entries: dict[Service, list[Entry]] = {name: [] for name in due}
        reasons: dict[Service, str] = {}
        missing: set[Service] = set()
        for (name, _, _), answer in zip(calls, answers, strict=True):
            entries[name] += answer.entries
            if answer.failure:
                reasons.setdefault(name, answer.failure.reason)
            elif answer.outcome == "not_found":
                missing.add(name)
        found: dict[Service, Asked] = {}
        for name in due:
            newest, note = _newest(entries[name])
            note = note or notes[name]
            snapshot = Snapshot(at, case.wanted[name], case.epoch, newest, note, missing=name in missing)
            found[name] = Asked(snapshot, reasons.get(name))
        return found


def _newest(entries: list[Entry]) -> tuple[list[Entry], str | None]:
    """As many entries as one source may have, and a note where that is not all."""
    if len(entries) <= MAX_ENTRIES:
        return entries, None
    newest = sorted(entries, key=lambda entry: entry["timestamp"] or "", reverse=True)[:MAX_ENTRIES]
    return newest, f"only the newest {MAX_ENTRIES} entries"
