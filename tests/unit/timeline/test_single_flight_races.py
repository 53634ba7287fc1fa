"""Readers of one case at two replicas in any order: they share one call, and get nothing from before a change."""

import asyncio
from collections import deque
from types import SimpleNamespace

import pytest

from support_service.core.domain.principals import SYSTEM
from support_service.core.domain.references import SourceReferences
from support_service.timeline import aggregator
from support_service.timeline.aggregator import AggregatorTimings, TimelineAggregator
from support_service.timeline.cache import CacheUnavailable, InProcessCache, Lease
from support_service.timeline.single_flight import CACHE_POLL_INTERVAL, SingleFlight, SingleFlightTimings
from support_service.timeline.source_client import SourceAnswer
from tests.support.callback_orders import expect_wrong_order, explore, with_bug

REFERENCES = {"order": SourceReferences(("A",))}
READERS = 4
SEVERAL_CALLS, TOO_OLD = "readers do not share a call", "a reader gets what was before a change"
LATENCIES = (0, 0, 0, 3 * CACHE_POLL_INTERVAL)
TIMINGS = AggregatorTimings(single_flight=SingleFlightTimings(lease=0.05, lease_extend_interval=0.02))
NO_OVERRIDES = SimpleNamespace(in_effect=lambda _: None, ttl=lambda ttl: ttl)


class Store:
    """What replicas share in a Redis: the values and the leases."""

    def __init__(self, callback_order):
        self.callback_order = callback_order
        self.values = InProcessCache()
        self.leases = {}  # token and end of each
        self.fails = callback_order.happens(one_in=4)
        self.failed = False


class Connection:
    """A replica's connection with the store: commands take effect in the order in which they are sent."""

    def __init__(self, store):
        self._store = store
        self._commands = deque()
        self._sending = None

    async def get(self, key):
        return await self._send(lambda: self._store.values.get(key))

    async def compare_and_set(self, *arguments):
        return await self._send(lambda: self._store.values.compare_and_set(*arguments))

    async def delete(self, key):
        return await self._send(lambda: self._store.values.delete(key))

    async def acquire_lease(self, key, seconds):
        async def acquire():
            now = self._store.callback_order.time()
            if self._store.leases.get(key, ("", 0.0))[1] > now:
                return None
            token = str(self._store.callback_order.number(1_000_000))
            self._store.leases[key] = token, now + seconds
            return Lease(key, token)

        return await self._send(acquire)

    async def extend_lease(self, lease, seconds):
        async def extend():
            if self._holds(lease):
                self._store.leases[lease.key] = lease.token, self._store.callback_order.time() + seconds

        await self._send(extend)

    async def release_lease(self, lease):
        async def release():
            if self._holds(lease):
                del self._store.leases[lease.key]

        await self._send(release)

    def _holds(self, lease):
        return self._store.leases.get(lease.key, ("", 0.0))[0] == lease.token

    async def _send(self, command):
        answer = asyncio.get_running_loop().create_future()
        self._commands.append((command, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return await answer

    async def _send_all(self):
        callback_order = self._store.callback_order
        while self._commands:
            await callback_order.pause()
            command, answer = self._commands.popleft()
            fault = callback_order.number(10) if self._store.fails else -1
            value = None if fault == 0 else await command()
            if answer.done():  # the reader is gone
                continue
            if fault in {0, 1}:
                self._store.failed = True
                answer.set_exception(CacheUnavailable("reset"))
            else:
                answer.set_result(value)
        self._sending = None


class OrderService:
    """The order service: what it answers is the state at the moment of the call."""

    name = "order"

    def __init__(self, callback_order):
        self._callback_order = callback_order
        self.state = self.asked = 0

    def new_slots(self):
        """Do without: no call waits for a slot."""

    def calls(self, _):
        return [None], None

    async def fetch(self, _call, _deadline, _budget):
        self.asked += 1
        answer = SourceAnswer("ok", [{"type": "order", "timestamp": None, "state": self.state}])
        await asyncio.sleep(self._callback_order.pick(LATENCIES))
        return answer


class Readers:
    """Readers at two replicas, while the case changes. Some refresh, some leave, and the cache may fail."""

    def __init__(self, callback_order, instruments):
        self._callback_order = callback_order
        self._store = Store(callback_order)
        self._order_service = OrderService(callback_order)
        self._replicas = [
            TimelineAggregator(
                [self._order_service],
                Connection(self._store),
                NO_OVERRIDES,
                instruments,
                ttl=300,
                stale_ttl=60,
                deadline=3,
                timings=TIMINGS,
            )
            for _ in range(2)
        ]
        self._has_refreshes = callback_order.happens(one_in=2)
        self._epoch = 0
        self._asked_for = []  # the epoch of each read, and of each refresh something of its own

    async def _change(self):
        if self._callback_order.happens(one_in=2):
            await self._callback_order.pause(most=9)
            self._order_service.state = 1
            await self._callback_order.pause(most=9)
            self._epoch = 1  # an event tells of the new state

    async def _read(self):
        await asyncio.sleep(self._callback_order.pick(LATENCIES))
        refresh = self._has_refreshes and self._callback_order.happens(one_in=2)
        self._asked_for.append(object() if refresh else self._epoch)
        promised = self._order_service.state if refresh else self._epoch
        replica = self._callback_order.pick(self._replicas)
        found = await replica.collect(SYSTEM, "case", REFERENCES, epoch=self._epoch, refresh=refresh)
        (entry,) = found.entries
        assert entry["state"] >= promised, TOO_OLD

    async def run(self):
        tasks = [asyncio.create_task(self._read()) for _ in range(READERS)]
        changing = asyncio.create_task(self._change())
        await self._callback_order.cancel_some(tasks)
        await self._callback_order.ends([*tasks, changing])
        assert self._store.failed or self._order_service.asked <= len(set(self._asked_for)), SEVERAL_CALLS
        await asyncio.sleep(1)  # what cancelled readers have begun goes on
        for replica in self._replicas:
            await replica.close()
        assert self._store.failed or not self._store.leases, "a lease is not released"


def flight_scenario(instruments, monkeypatch, single_flight=SingleFlight):
    monkeypatch.setattr(aggregator, "SingleFlight", single_flight)
    return lambda callback_order: Readers(callback_order, instruments).run()


def test_readers_share_calls_in_any_order(instruments, monkeypatch):
    """One call for each state of the case, however readers come and leave; what they get is from after its change."""
    explore(flight_scenario(instruments, monkeypatch))


@pytest.mark.parametrize(
    ("failure", "bug"),
    [
        pytest.param(SEVERAL_CALLS, ("_fetch", "due - newer.keys()", "due"), id="no second look"),
        pytest.param(SEVERAL_CALLS, ("_acquire_or_wait", "if lease or found or", "if True or"), id="no wait"),
        pytest.param(SEVERAL_CALLS, ("_hold_lease", "await self._cache.extend_lease", "lambda *_:"), id="not extended"),
        pytest.param(TOO_OLD, ("start_or_join", "in_flight.case == case and ", ""), id="joins an older state"),
        pytest.param(TOO_OLD, ("start_or_join", "not force_new and ", ""), id="refresh joins"),
    ],
)
def test_exploration_finds_bugs_of_single_flight(instruments, monkeypatch, failure, bug):
    expect_wrong_order(flight_scenario(instruments, monkeypatch, with_bug(SingleFlight, *bug)), failure)
