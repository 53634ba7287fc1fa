"""A circuit breaker: opens on failures, tries with one call, closes on success."""

import pytest

from support_service.timeline.breaker import FAILURES_TO_OPEN, WINDOW_CALLS, BreakerTimings, CircuitBreaker

TIMINGS = BreakerTimings()


class Clock:
    """A clock that goes as far as a test says."""

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


def call(breaker, *, good):
    """A call that is admitted and reports."""
    admission = breaker.admit()
    assert admission is not None
    breaker.report(admission, good=good)


def opened(breaker):
    """The breaker after as many failures as open it."""
    for _ in range(FAILURES_TO_OPEN):
        call(breaker, good=False)
    assert breaker.state == "open"
    return breaker


def test_few_failures_among_the_last_calls_change_nothing(breaker):
    """One failure fewer than the limit in any window of calls keeps the circuit closed."""
    for _ in range(20):
        for _ in range(FAILURES_TO_OPEN - 1):
            call(breaker, good=False)
        for _ in range(WINDOW_CALLS - FAILURES_TO_OPEN + 1):
            call(breaker, good=True)
    assert breaker.state == "closed"


def test_answers_that_tell_nothing_do_not_count(breaker):
    """A call that was cut off or refused for its own sake neither opens nor closes."""
    for _ in range(50):
        call(breaker, good=None)
    assert breaker.state == "closed"


def test_an_open_circuit_admits_nobody_then_one(breaker, clock):
    """While open no call is made; then one at a time is, and its success closes the circuit."""
    opened(breaker)
    clock.now += TIMINGS.open_for * 0.79
    assert breaker.admit() is None
    clock.now += TIMINGS.open_for * 0.42
    assert breaker.state == "half_open"
    trial = breaker.admit()
    assert trial is not None
    assert breaker.admit() is None
    breaker.report(trial, good=True)
    assert breaker.state == "closed"
    for _ in range(FAILURES_TO_OPEN - 1):
        call(breaker, good=False)  # the old failures are forgotten
    assert breaker.state == "closed"


def test_a_trial_that_fails_opens_for_twice_as_long_up_to_a_limit(breaker, clock):
    """Each failed trial doubles the time, which has an end, and a trial that tells nothing is followed by another."""
    opened(breaker)
    expected = TIMINGS.open_for
    for _ in range(6):
        clock.now += expected * 1.21
        call(breaker, good=None)
        assert breaker.state == "half_open"
        call(breaker, good=False)
        assert breaker.state == "open"
        expected = min(2 * expected, TIMINGS.max_open_for)
        clock.now += expected * 0.79
        assert breaker.state == "open"


def test_reports_from_before_are_ignored(breaker, clock):
    """A call that was admitted before the circuit opened neither closes it nor ends the trial of another."""
    early = [breaker.admit() for _ in range(4)]
    opened(breaker)
    breaker.report(early[0], good=True)
    assert breaker.state == "open"
    clock.now += TIMINGS.open_for * 1.21
    trial = breaker.admit()
    breaker.report(early[1], good=True)
    breaker.report(early[2], good=False)
    assert breaker.admit() is None
    breaker.report(trial, good=True)
    breaker.report(early[3], good=False)
    assert breaker.state == "closed"
