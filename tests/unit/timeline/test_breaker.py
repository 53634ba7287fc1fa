"""The circuit breaker opens on failures, admits one trial call, and closes on success."""

import pytest

from support_service.timeline.source_health import FAILURES_TO_OPEN, WINDOW_CALLS, BreakerTimings, CircuitBreaker
from tests.support.clock import Clock

TIMINGS = BreakerTimings()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breaker(clock):
    return CircuitBreaker(TIMINGS, clock)


def call(breaker, *, healthy):
    admission = breaker.admit()
    assert admission is not None
    breaker.report(admission, healthy=healthy)


def test_circuit_stays_closed_below_the_failure_limit(breaker):
    """One failure less than the limit in each window keeps it closed. Calls without a result do not count."""
    for _ in range(20):
        for _ in range(FAILURES_TO_OPEN - 1):
            call(breaker, healthy=False)
            call(breaker, healthy=None)
        for _ in range(WINDOW_CALLS - FAILURES_TO_OPEN + 1):
            call(breaker, healthy=True)
    assert breaker.state == "closed"


def test_failed_trial_doubles_the_open_time_up_to_a_limit(clock, breaker):
    """While it is open no call is admitted. A trial without a result is followed by another."""
    for _ in range(FAILURES_TO_OPEN):
        call(breaker, healthy=False)
    expected = TIMINGS.open_for
    for _ in range(6):
        clock.now += expected * 0.79
        assert (breaker.state, breaker.admit()) == ("open", None)
        clock.now += expected * 0.42
        call(breaker, healthy=None)
        assert breaker.state == "half_open"
        call(breaker, healthy=False)
        expected = min(2 * expected, TIMINGS.max_open_for)
