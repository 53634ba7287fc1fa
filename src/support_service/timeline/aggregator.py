"""TimelineAggregator: what the services know of a case, from the cache or asked within a deadline, and its worth."""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from cachetools import TTLCache

from support_service.references import SERVICE_OF, Service, SourceStatus, Wanted
from support_service.telemetry.instruments import Instruments
from support_service.timeline import snapshots
from support_service.timeline.cache import SKEW, Cache, CacheFault, Value
from support_service.timeline.levers import Levers
from support_service.timeline.merge import Entry
from support_service.timeline.snapshots import Snapshot
from support_service.timeline.sources import Allowance, Call, SourceClient

SERVICES = tuple(SERVICE_OF.values())
MAX_ENTRIES = 500  # of one source
MISSING_FOR = 30.0  # seconds for which "nothing there" is believed: what a case names may be about to come
AHEAD_FROM, AHEAD_TO = 0.75, 0.95  # of its time, where a snapshot that is read is renewed before it ends
AHEAD_EVERY = 5.0  # seconds between two such renewals of a case, as the first may have failed
WAIT_SHARE = 0.25  # of the deadline, for another replica that asks already
POLL = 0.02  # seconds between looks at what it has found

NONE = SourceStatus(status="none", ageSeconds=None, reason=None)
OFF = SourceStatus(status="off", ageSeconds=None, reason=None)

log = logging.getLogger(__name__)
Snapshots = dict[Service, Snapshot]


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
class Case:
    """A case as the sources see it."""

    id: str
    wanted: Mapping[Service, Wanted]  # of sources that are configured
    epoch: int


@dataclass(frozen=True, slots=True)
class Flight:
    """Sources being asked for a case; every reader who wants the same waits for it."""

    case: Case
    due: frozenset[Service]
    task: asyncio.Task[Found]


@dataclass(frozen=True, slots=True)
class Collected:
    """What the services know of a case: entries in the order of the services, and the worth of each service's."""

    entries: list[Entry]
    sources: dict[Service, SourceStatus]

    @property
    def completeness(self) -> str:
        """How much of what was wanted is there; of labels.COMPLETENESS."""
        statuses = {source["status"] for source in self.sources.values()}
        return "partial" if "unavailable" in statuses else "stale" if "stale" in statuses else "complete"


class TimelineAggregator:
    """Collects a case's entries from the sources that are configured, through the cache.

    A source's last answer counts as current for `ttl` seconds, and for `stale_ttl` more it stands in where the source
    fails. The `deadline`, in seconds, bounds a whole read.
    """

    def __init__(
        self,
        sources: Iterable[SourceClient],
        cache: Cache,
        levers: Levers,
        instruments: Instruments,
        *,
        ttl: float,
        stale_ttl: float,
        deadline: float,
    ) -> None:
        self._sources = {source.name: source for source in sources}
        self._cache = cache
        self._levers = levers
        self._instruments = instruments
        self._ttl = ttl
        self._stale_ttl = stale_ttl
        self._deadline = deadline
        self._flights: dict[str, Flight] = {}
        self._running: set[asyncio.Task[Found]] = set()
        self._renewed: TTLCache[str, bool] = TTLCache(10_000, AHEAD_EVERY)

    async def collect(
        self, case_id: str, references: Mapping[Service, Wanted], *, epoch: int = 0, refresh: bool = False
    ) -> Collected:
        """What every source knows of a case; never raises for what a source or the cache does.

        A refresh asks every source, whatever is cached. A source that fails costs its own entries and nothing else; its
        last good answer stands in for it. Answers from before the case's `epoch` don't count as current.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        case = Case(case_id, {name: want for name, want in references.items() if name in self._sources}, epoch)
        if not case.wanted:
            return self._collected(case, {}, Found())
        kept = await self._read(case, refresh=refresh)
        due = frozenset(name for name in self._in_use(case) if refresh or not self._is_current(case, kept.get(name)))
        found = Found()
        if due:
            flight = self._flight(case, due, kept, started + self._deadline, alone=refresh)
            found = await asyncio.shield(flight.task)  # a reader that leaves must not take it away from the others
        else:
            self._renew_ahead(case, kept)
        collected = self._collected(case, kept, found)
        took = loop.time() - started
        self._instruments.timeline_collect.record(took, {"source": "remote" if due else "cache"})
        self._instruments.timeline_read.record(took, {"completeness": collected.completeness})
        return collected

    async def invalidate(self, case_id: str) -> None:
        """Forget what is cached of a case: its references changed."""
        try:
            await self._cache.delete(snapshots.key(case_id))
        except CacheFault:
            self._cache_failed()
        else:
            self._count("invalidate")

    async def close(self) -> None:
        """Give up what is being asked."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _in_use(self, case: Case) -> list[Service]:
        return [name for name in case.wanted if self._levers.degraded(name) is None]

    def _is_current(self, case: Case, snapshot: Snapshot | None, share: float = 1.0) -> bool:
        """Whether a snapshot answers the case as it is now, and is younger than this share of its time."""
        if snapshot is None or snapshot.epoch < case.epoch:
            return False
        ttl = self._levers.ttl(self._ttl)
        return time.time() - snapshot.at < share * (min(ttl, MISSING_FOR) if snapshot.missing else ttl)

    async def _read(self, case: Case, *, refresh: bool) -> Snapshots:
        """The snapshots that may be used, current or not; counts what the cache was good for."""
        try:
            kept = await self._kept(case)
        except CacheFault:
            self._cache_failed()
            if not refresh:
                self._count("miss")
            return {}
        if refresh:
            self._count("invalidate")
        else:
            hit = all(self._is_current(case, kept.get(name)) for name in self._in_use(case))
            self._count("hit" if hit else "miss")
        return kept

    async def _kept(self, case: Case) -> Snapshots:
        """The cached snapshots that are of what the case wants and not too old even for a failure."""
        value = await self._cache.get(snapshots.key(case.id))
        if value is None:
            return {}
        try:
            cached = snapshots.decode(value)
        except snapshots.UNREADABLE as failure:
            log.warning("The cached timeline of case %s can't be read, and is removed: %s", case.id, failure)
            self._instruments.timeline_collection_failures.add(1, {"stage": "cache_decode"})
            await self.invalidate(case.id)
            return {}
        now = time.time()
        oldest = now - self._levers.ttl(self._ttl) - self._stale_ttl
        return {
            name: snapshot
            for name, snapshot in cached.items()
            if snapshot.wanted == case.wanted.get(name) and oldest < snapshot.at < now + SKEW
        }

    def _flight(
        self, case: Case, due: frozenset[Service], kept: Snapshots, deadline: float, *, alone: bool = False
    ) -> Flight:
        """The flight that asks for what is due: one in the air that does, or a new one; `alone` takes no other's."""
        flying = self._flights.get(case.id)
        if flying and not alone and flying.case == case and flying.due >= due:
            return flying
        task = asyncio.create_task(self._fly(case, due, kept, deadline, alone=alone))
        flight = self._flights[case.id] = Flight(case, due, task)
        self._running.add(task)

        def land(_: asyncio.Task[Found]) -> None:
            self._running.discard(task)
            if self._flights.get(case.id) is flight:
                del self._flights[case.id]

        task.add_done_callback(land)
        return flight

    async def _fly(
        self, case: Case, due: Collection[Service], kept: Snapshots, deadline: float, *, alone: bool
    ) -> Found:
        """Ask for what is due, unless another replica does so first, and keep what was good."""
        claim: str | None = None
        news: Snapshots = {}
        if not alone:
            claim, news = await self._claim(case, due, kept, deadline)
            due = frozenset(due) - news.keys()
        at = time.time()
        asked = await self._ask(case, due, at, deadline)
        good = {name: answer.snapshot for name, answer in asked.items() if answer.reason is None}
        if good:
            await self._write(case, at, kept | news, good, claim, complete=len(good) == len(asked))
        elif claim:
            await self._release(case, claim)
        return Found(asked, news)

    async def _claim(
        self, case: Case, due: Collection[Service], kept: Snapshots, deadline: float
    ) -> tuple[str | None, Snapshots]:
        """The right to ask, for this replica alone, and what another has found since `kept` was read.

        Whoever waits in vain for the other asks without it. So does everyone while the cache is out of order.
        """
        loop = asyncio.get_running_loop()
        until = min(deadline, loop.time() + self._deadline * WAIT_SHARE)
        news: Snapshots = {}
        try:
            while True:
                claim = await self._cache.claim(snapshots.key(case.id), self._deadline)
                now_kept = await self._kept(case)
                for name in due:
                    now, before = now_kept.get(name), kept.get(name)
                    if now and self._is_current(case, now) and (before is None or now.at > before.at):
                        news[name] = now
                if claim is not None or len(news) == len(due) or loop.time() >= until:
                    return claim, news
                await asyncio.sleep(POLL)
        except CacheFault:
            return None, news  # not counted: the read before it, or the write to come, tells of the same fault

    async def _ask(self, case: Case, due: Iterable[Service], at: float, deadline: float) -> dict[Service, Asked]:
        """What each source has to say; all calls go out at once."""
        calls: list[tuple[Service, Call, Allowance]] = []
        notes: dict[Service, str | None] = {}
        for name in due:
            allowance = Allowance()
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

    async def _write(
        self, case: Case, asked: float, kept: Snapshots, good: Snapshots, claim: str | None, *, complete: bool
    ) -> None:
        """Keep what was good beside what was there; a source that failed leaves its last good answer as it is."""
        ttl = self._levers.ttl(self._ttl) + self._stale_ttl
        try:
            if not complete:  # another replica may have written since, and what it has must not be lost
                kept = await self._kept(case)
            value = Value(snapshots.encode(asked, kept | good), asked, ttl)
            await self._cache.set(snapshots.key(case.id), value, claim)
        except CacheFault:
            self._cache_failed()
        else:
            self._count("write")

    async def _release(self, case: Case, claim: str) -> None:
        try:
            await self._cache.release(snapshots.key(case.id), claim)
        except CacheFault:
            log.debug("The claim on case %s ends by itself", case.id)

    def _renew_ahead(self, case: Case, kept: Snapshots) -> None:
        """Ask in time for what is read and about to end, so that no reader waits for it."""
        # Drawn for each case, so that those which were filled together don't end together.
        share = AHEAD_FROM + (AHEAD_TO - AHEAD_FROM) * (hash(case.id) % 1024) / 1024
        due = frozenset(name for name in self._in_use(case) if not self._is_current(case, kept.get(name), share))
        if due and case.id not in self._renewed and case.id not in self._flights:
            self._renewed[case.id] = True
            self._flight(case, due, kept, asyncio.get_running_loop().time() + self._deadline)

    def _count(self, event: str) -> None:
        self._instruments.timeline_cache_events.add(1, {"event": event})

    def _cache_failed(self) -> None:
        self._count("error")
        self._instruments.timeline_collection_failures.add(1, {"stage": "cache"})

    def _collected(self, case: Case, kept: Snapshots, found: Found) -> Collected:
        entries: list[Entry] = []
        sources: dict[Service, SourceStatus] = {}
        for name in SERVICES:
            if name not in case.wanted:
                sources[name] = NONE if name in self._sources else OFF
                continue
            given, sources[name] = self._worth(
                case, found.kept.get(name) or kept.get(name), found.asked.get(name), name
            )
            entries += given
        return Collected(entries, sources)

    def _worth(
        self, case: Case, kept: Snapshot | None, asked: Asked | None, name: Service
    ) -> tuple[list[Entry], SourceStatus]:
        """What to show of one source, and what that is worth."""
        if asked and asked.reason is None:
            return asked.snapshot.entries, {"status": "fresh", "ageSeconds": 0.0, "reason": asked.snapshot.note}
        reason = asked.reason if asked else self._levers.degraded(name)
        if kept is None:
            if asked:
                return asked.snapshot.entries, {"status": "unavailable", "ageSeconds": None, "reason": reason}
            return [], {"status": "off", "ageSeconds": None, "reason": reason}
        age = round(max(0.0, time.time() - kept.at), 3)
        if asked is None and self._is_current(case, kept):
            return kept.entries, {"status": "cached", "ageSeconds": age, "reason": kept.note}
        return kept.entries, {"status": "stale", "ageSeconds": age, "reason": reason}


def _newest(entries: list[Entry]) -> tuple[list[Entry], str | None]:
    """As many entries as one source may have, and a note where that is not all."""
    if len(entries) <= MAX_ENTRIES:
        return entries, None
    newest = sorted(entries, key=lambda entry: entry["timestamp"] or "", reverse=True)[:MAX_ENTRIES]
    return newest, f"only the newest {MAX_ENTRIES} entries"
