"""The circuit breaker opens on failures, admits one trial call, and closes on success."""

import pytest

from support_service.timeline.source_health import FAILURES_TO_OPEN, WINDOW_CALLS, BreakerTimings, CircuitBreaker

TIMINGS = BreakerTimings()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


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


def open_breaker(breaker):
    for _ in range(FAILURES_TO_OPEN):
        call(breaker, healthy=False)
    assert breaker.state == "open"
    return breaker


def test_circuit_stays_closed_below_the_failure_limit(breaker):
    """One failure less than the limit in each window of calls keeps the circuit closed."""
    for _ in range(20):
        for _ in range(FAILURES_TO_OPEN - 1):
            call(breaker, healthy=False)
        for _ in range(WINDOW_CALLS - FAILURES_TO_OPEN + 1):
            call(breaker, healthy=True)
    assert breaker.state == "closed"


def test_calls_without_a_result_do_not_count(breaker):
    """A call that was cut off, or that the service refused to this client, neither opens nor closes the circuit."""
    for _ in range(50):
        call(breaker, healthy=None)
    assert breaker.state == "closed"


def test_open_circuit_admits_one_trial_call_after_a_while(breaker, clock):
    """While open no call is admitted; then one trial call is, and its success closes the circuit."""
    open_breaker(breaker)
    clock.now += TIMINGS.open_for * 0.79
    assert breaker.admit() is None
    clock.now += TIMINGS.open_for * 0.42
    assert breaker.state == "half_open"
    trial = breaker.admit()
    assert trial is not None
    assert breaker.admit() is None
    breaker.report(trial, healthy=True)
    assert breaker.state == "closed"
    for _ in range(FAILURES_TO_OPEN - 1):
        call(breaker, healthy=False)  # the old failures are forgotten
    assert breaker.state == "closed"


def test_failed_trial_doubles_the_open_time_up_to_a_limit(breaker, clock):
    """Each failed trial doubles the open time up to a maximum; a trial without a result is followed by another."""
    open_breaker(breaker)
    expected = TIMINGS.open_for
    for _ in range(6):
        clock.now += expected * 1.21
        call(breaker, healthy=None)
        assert breaker.state == "half_open"
        call(breaker, healthy=False)
        assert breaker.state == "open"
        expected = min(2 * expected, TIMINGS.max_open_for)
        clock.now += expected * 0.79
        assert breaker.state == "open"


def test_results_of_calls_admitted_before_the_circuit_opened_are_ignored(breaker, clock):
    """A call admitted before the circuit opened neither closes it nor ends the trial of another call."""
    early = [breaker.admit() for _ in range(4)]
    open_breaker(breaker)
    breaker.report(early[0], healthy=True)
    assert breaker.state == "open"
    clock.now += TIMINGS.open_for * 1.21
    trial = breaker.admit()
    breaker.report(early[1], healthy=True)
    breaker.report(early[2], healthy=False)
    assert breaker.admit() is None
    breaker.report(trial, healthy=True)
    breaker.report(early[3], healthy=False)
    assert breaker.state == "closed"
