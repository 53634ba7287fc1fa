"""The circuit breaker with calls that end in any order: who is let through, and which result counts."""

import asyncio
from types import SimpleNamespace

import aiohttp
import pytest

from support_service.core.domain.upstream_services import SOURCES
from support_service.timeline.source_calls import SourceCall
from support_service.timeline.source_client import SourceClient, TimelineBudget
from support_service.timeline.source_health import FAILURES_TO_OPEN, WINDOW_CALLS, BreakerTimings, CircuitBreaker
from tests.support.callback_orders import expect_wrong_order, explore, with_bug

CALLS = 9
CONNECTIONS = 3
SENT_WHILE_OPEN = "a call is sent although the breaker is open"
TIMEOUT = 1.0  # seconds of one attempt
TIMINGS = BreakerTimings(open_for=2.0, max_open_for=4.0)
EARLIEST, LATEST = 0.8, 1.2  # shares of the time for which it is open: it is random between them


class Expected:
    """What the breaker promises, in the simplest form, beside a real one that it is compared with at each step."""

    def __init__(self, breaker, order):
        self._breaker = breaker
        self._order = order
        self._phase = 0  # changes with the state
        self._results = []
        self._open_for = 0.0
        self._opened_at = 0.0
        self._trials = set()
        self._admitted = {}  # phase of each call in progress

    @property
    def state(self):
        return self._breaker.state

    def admit(self):
        """Let a call through if the real breaker does, which must be right."""
        token = self._breaker.admit()
        age = self._order.time() - self._opened_at
        if not self._open_for:
            assert token is not None, "a closed breaker refuses a call"
        elif token is not None:
            assert age >= EARLIEST * self._open_for, "an open breaker lets a call through"
            assert not self._trials, "two trial calls at the same time"
        else:
            assert self._trials or age <= LATEST * self._open_for, "a breaker refuses calls for too long"
        if token is None:
            return None
        call = object()
        self._admitted[call] = token, self._phase
        if self._open_for:
            self._trials.add(call)
        return call

    def still_admits(self, call):
        return self._breaker.still_admits(self._admitted[call][0])

    def report(self, call, *, healthy):
        token, phase = self._admitted.pop(call)
        self._breaker.report(token, healthy=healthy)
        self._trials.discard(call)
        if healthy is not None and phase == self._phase:
            if self._open_for:
                self._change(0.0 if healthy else min(2 * self._open_for, TIMINGS.max_open_for))
            else:
                self._results = [*self._results, healthy][-WINDOW_CALLS:]
                if self._results.count(False) == FAILURES_TO_OPEN:
                    self._change(TIMINGS.open_for)
        assert (self._breaker.state == "closed") == (not self._open_for), f"{self._breaker.state} after {healthy}"

    def _change(self, open_for):
        self._phase += 1
        self._results = []
        self._open_for = open_for
        self._opened_at = self._order.time()


class Answer(SimpleNamespace):
    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        """Do nothing: there is no connection."""


def breaker_scenario(instruments, breaker=CircuitBreaker, client_class=SourceClient):
    """Calls that begin at different times, and succeed, fail, say nothing, hang, break off or are cancelled."""

    async def scenario(order):
        connections, is_healthy = 0, False

        async def get(_url, **_):
            nonlocal connections
            assert client.breaker.state != "open", SENT_WHILE_OPEN
            connections += 1
            assert connections <= CONNECTIONS, "more calls at once than the source has connections"
            try:
                await asyncio.sleep(0 if is_healthy else order.pick((0, 0, 0, TIMEOUT / 4, 2 * TIMEOUT)))
                status = 404 if is_healthy else order.pick((404, 403, 500, 500, 500, 500, 0))
                if not status:
                    raise aiohttp.ClientConnectionError
                return Answer(status=status)
            finally:
                connections -= 1

        session = SimpleNamespace(get=get)
        client = client_class(
            SOURCES["order"], "http://orders", session, instruments, timeout=TIMEOUT, connections=CONNECTIONS
        )
        client.breaker = Expected(breaker(TIMINGS, order.time), order)
        call = SourceCall("/orders/A", lambda _: [])

        async def fetch(delay):
            await asyncio.sleep(delay)
            budget = TimelineBudget(asyncio.Semaphore(CONNECTIONS))
            return await client.fetch(call, order.time() + 3 * TIMEOUT, budget)

        tasks = [asyncio.create_task(fetch(order.pick((0, 0, 0, 0, 3, 3, 6)))) for _ in range(CALLS)]
        await order.cancel_some(tasks, most=3, pauses=(0, 3, 3))
        await order.ends(tasks)
        is_healthy = True
        await asyncio.sleep(LATEST * TIMINGS.max_open_for)
        await fetch(0)  # the trial call, if the breaker was open
        assert client.breaker.state == "closed", "the breaker does not close again"
        ends = await asyncio.gather(*(fetch(0) for _ in range(CONNECTIONS)))
        assert {end.outcome for end in ends} == {"not_found"}, "a connection is not free again"

    return scenario


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level("CRITICAL")


def test_breaker_lets_the_right_calls_through_in_any_order(instruments):
    """An open one lets none through and a half-open one a single one; results from before it opened do not count."""
    explore(breaker_scenario(instruments))


@pytest.mark.parametrize(
    ("failure", "bug"),
    [
        ("two trial calls at the same time", ("admit", "self._trial_running or ", "")),
        ("refuses calls for too long", ("report", "if admission != self._generation:", "if False:")),
        ("open after False", ("_close", "self._recent_results.clear()", "pass")),
    ],
    ids=["two trial calls", "late results count", "failures from before count"],
)
def test_exploration_finds_bugs_of_the_breaker(instruments, failure, bug):
    expect_wrong_order(breaker_scenario(instruments, with_bug(CircuitBreaker, *bug)), failure)


CANCELLED_CALL = "finally:  # a call that is cancelled says nothing about the service"


@pytest.mark.parametrize(
    ("failure", "bug"),
    [
        (
            "the breaker does not close again",
            ("fetch", CANCELLED_CALL, "except KeyError:\n            raise\n        else:"),
        ),
        (SENT_WHILE_OPEN, ("_fetch_within_limits", "if not self.breaker.still_admits(admission):", "if False:")),
        (SENT_WHILE_OPEN, ("_fetch_with_retry", "if self.breaker.still_admits(admission):", "if True:")),
        ("more calls at once", ("_fetch_within_limits", "if not await _acquire(self._slots, deadline):", "if False:")),
    ],
    ids=["cancelled trial call", "sent after a wait", "sent again", "slot not taken"],
)
def test_exploration_finds_bugs_of_the_calls(instruments, failure, bug):
    expect_wrong_order(breaker_scenario(instruments, client_class=with_bug(SourceClient, *bug)), failure)
