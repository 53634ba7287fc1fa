"""Rates that replicas share, and turns, in any order of events: nothing is given twice, lost or kept from who waits."""

import asyncio
from collections import Counter

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from support_service.core.errors import RateLimited
from support_service.guard import shared_rates
from support_service.guard.fair_turns import FairTurns, TurnLimits
from support_service.guard.rates import Rate, RateLimiter, RateSyncTimings
from support_service.guard.shared_rates import MICROSECONDS_PER_SECOND, SharedRateLimits
from tests.support.callback_orders import expect_wrong_order, explore, with_bug

REPLICAS = 2
RATE = Rate(4, 2)
SYNC, SYNCS = RateSyncTimings(interval=0.4, redis_timeout=0.3), 3
REQUESTS = 7  # of each replica
PAUSES = (0, 0, 0, 0.1, 0.4)  # seconds between two of them


class SharedCounts:
    """What `SYNC_SCRIPT` does in Redis, for one order: it may come late, or never, and so may its answer."""

    def __init__(self, order):
        self._order = order
        self._full_at = {}
        self._fails = order.happens(one_in=3)
        self.counted = Counter()
        self.failed = False

    async def eval(self, _script, number_of_keys, *values):
        """Add what a replica has spent, and return for each key the microseconds until its bucket is full."""
        keys, (interval, most, *spent) = values[:number_of_keys], values[number_of_keys:]
        await self._travel()
        now, answer = self._order.time() * MICROSECONDS_PER_SECOND, []
        for key, requests in zip(keys, spent, strict=True):
            self.counted[key] += requests
            full_at = max(self._full_at.get(key, now), now) + requests * interval
            self._full_at[key] = min(full_at, now + 10 * most)
            answer.append(self._full_at[key] - now)
        await self._travel()
        return answer

    async def _travel(self):
        if self._fails and self._order.happens(one_in=8):
            self.failed = True
            if self._order.happens(one_in=2):
                await asyncio.sleep(2 * SYNC.redis_timeout)
            raise RedisConnectionError("reset")
        await self._order.pause()


def rate_scenario(monkeypatch, limiter_class=RateLimiter):
    """Requests of one caller at replicas that synchronize meanwhile, with a Redis that may fail."""

    async def scenario(order):
        counts = SharedCounts(order)
        monkeypatch.setattr(Redis, "from_pool", lambda _: counts)
        limiters = [limiter_class("caller", RATE, order.time) for _ in range(REPLICAS)]
        admitted = Counter()

        async def ask(limiter):
            for _ in range(REQUESTS):
                await asyncio.sleep(order.pick(PAUSES))
                admitted[limiter] += limiter.consume("ann").admitted
                allowed = RATE.requests + order.time() / limiter.interval
                assert admitted[limiter] <= allowed, "a replica admits more than the rate"
            assert limiter.consume("bob").admitted, "a caller pays for another one"

        async def synchronize(shared):
            for _ in range(SYNCS):
                await asyncio.sleep(SYNC.interval)
                await shared.synchronize()

        shared = [SharedRateLimits("redis://127.0.0.1:1", [limiter], timings=SYNC) for limiter in limiters]
        await asyncio.gather(*map(ask, limiters), *map(synchronize, shared))
        await asyncio.gather(*(each.synchronize() for each in shared))
        counted, total = counts.counted["support:rate:caller:ann"], sum(admitted.values())
        if counts.failed:
            assert counted <= total, "a request is counted twice"
        else:
            assert counted == total, "a request is not counted once"
            refill = (order.time() + REPLICAS * SYNC.interval) / limiters[0].interval
            assert total <= REPLICAS * RATE.requests + refill, "the replicas together admit too much"

    return scenario


@pytest.fixture(autouse=True)
def quiet(caplog, monkeypatch):
    caplog.set_level("CRITICAL")
    monkeypatch.setattr(shared_rates, "create_pool", lambda *_, **__: None)


def test_shared_rates_hold_in_any_order(monkeypatch):
    """No replica exceeds the rate, all of them together stay within the stated bound, and each request counts once."""
    explore(rate_scenario(monkeypatch))


NEVER_LESS = "max(self._full_at.get(key, 0.0), now + seconds + not_synchronized)"


@pytest.mark.parametrize(
    ("failure", "bug"),
    [
        (
            "not counted once",
            ("pop_consumed", "self._consumed = self._consumed or {}, {}", "_ = self._consumed or {}, {}"),
        ),
        ("admits more than the rate", ("apply_shared", NEVER_LESS, "now + seconds")),
    ],
    ids=["counted twice", "forgets what was spent during the call"],
)
def test_exploration_finds_bugs_of_shared_rates(monkeypatch, failure, bug):
    expect_wrong_order(rate_scenario(monkeypatch, with_bug(RateLimiter, *bug)), failure)


LIMITS = TurnLimits(total=2, per_caller=1, max_wait=2.5)  # no turn ends at the moment at which a wait does


def turns_scenario(turns_class=FairTurns):
    """Requests of three callers, of which some wait too long and some are cancelled."""

    async def scenario(order):
        turns, running = turns_class(LIMITS), Counter()

        async def work(caller, hold):
            await order.pause()
            try:
                async with turns.occupy(caller):
                    running[caller] += 1
                    assert running[caller] <= LIMITS.per_caller, "a caller has two turns"
                    assert running.total() <= LIMITS.total, "too many turns at once"
                    try:
                        await asyncio.sleep(hold)
                    finally:
                        running[caller] -= 1
            except RateLimited:
                is_free = running.total() < LIMITS.total and running[caller] < LIMITS.per_caller
                assert not is_free, "a caller waits although a turn is free"

        tasks = [asyncio.create_task(work(order.pick("abc"), order.pick((0, 1, 2)))) for _ in range(6)]
        await order.cancel_some(tasks, most=3, pauses=(0, 1))
        await order.ends(tasks)
        before = order.time()
        await asyncio.gather(work("a", 0), work("b", 0))
        assert order.time() == before, "a turn is not free again"

    return scenario


def test_turns_are_given_in_any_order():
    """None is given twice, none is lost, and nobody waits while one is free."""
    explore(turns_scenario())


@pytest.mark.parametrize(
    ("failure", "bug"),
    [
        ("although a turn is free", ("_wait_for_turn", "if turn.cancelled():", "if True:")),
        ("InvalidStateError", ("_give_turn", "if not turn.cancelled():", "if True:")),
        ("a caller has two turns", ("_end_turn", "self._may_begin(following) and ", "")),
    ],
    ids=["lost with its request", "given to a cancelled one", "given to a caller that has one"],
)
def test_exploration_finds_bugs_of_turns(failure, bug):
    expect_wrong_order(turns_scenario(with_bug(FairTurns, *bug)), failure)
