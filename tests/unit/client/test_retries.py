"""When a call is repeated, and after which pause."""

import asyncio

import pytest

from support_service.client import (
    ClientTimings,
    Conflict,
    NoAnswer,
    RateLimited,
    ServiceFailed,
    Unavailable,
    ValidationFailed,
)
from support_service.client.errors import error_of_answer
from support_service.client.retries import Attempts
from support_service.core.clock import Backoff

TIMINGS = ClientTimings(backoff=Backoff(1.0, 4.0), deadline=60.0, attempts=5)


@pytest.fixture
def clock():
    """A clock on which time passes only while the client waits."""
    return Clock()


class Clock:
    def __init__(self):
        self.now, self.pauses = 100.0, []

    def attempts(self):
        return Attempts(TIMINGS, sleep=self.sleep, now=lambda: self.now)

    async def sleep(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds


def unavailable(retry_after=None):
    failure = Unavailable("overloaded", "Too many requests are in progress.")
    failure.retry_after = retry_after
    return failure


@pytest.mark.parametrize(
    "failure",
    [
        *(NoAnswer("the connection broke"), RateLimited("rate_limited", ""), unavailable()),
        *(error_of_answer(502, {}, b""), error_of_answer(504, {}, b""), Conflict("idempotency_key_in_use", "")),
    ],
    ids=str,
)
async def test_errors_that_pass_are_repeated_after_growing_pauses(clock, failure):
    attempts = clock.attempts()
    for _ in range(TIMINGS.attempts - 1):
        await attempts.wait_after(failure)
    bounds = [(0.5, 1), (1, 2), (2, 4), (2, 4)]  # jitter takes up to half of each
    assert all(low <= pause <= high for pause, (low, high) in zip(clock.pauses, bounds, strict=True)), clock.pauses
    with pytest.raises(type(failure)):
        await attempts.wait_after(failure)


@pytest.mark.parametrize(
    "failure",
    [
        NoAnswer("the certificate is not valid", may_pass=False),
        Conflict("case_closed", ""),
        ValidationFailed("invalid_request", ""),
        ServiceFailed("internal_error", ""),
    ],
    ids=str,
)
async def test_other_errors_are_raised_at_once(clock, failure):
    with pytest.raises(type(failure)):
        await clock.attempts().wait_after(failure)
    assert clock.pauses == []


async def test_pause_is_at_least_what_the_service_asks_for(clock):
    """No attempt begins after the deadline."""
    await clock.attempts().wait_after(unavailable(retry_after=7.0))
    (pause,) = clock.pauses
    assert 7.5 <= pause <= 8
    with pytest.raises(Unavailable):
        await clock.attempts().wait_after(unavailable(retry_after=60.0))
    assert clock.pauses == [pause]


async def test_last_attempt_gets_the_time_that_is_left(clock):
    attempts = clock.attempts()
    assert attempts.seconds_left == TIMINGS.attempt
    await asyncio.gather(attempts.wait_after(unavailable(retry_after=50.0)))
    assert 9 <= attempts.seconds_left <= 9.5
    clock.now += 60
    assert attempts.seconds_left == 0.001


async def test_progress_starts_the_deadline_and_the_pauses_again(clock):
    attempts = clock.attempts()
    for _ in range(3):
        await attempts.wait_after(unavailable(retry_after=50.0))
        attempts.note_progress()
    assert all(pause <= 51 for pause in clock.pauses)


async def test_last_answer_says_more_than_an_attempt_that_the_deadline_cut_short(clock):
    """The caller learns what the service has answered last. A connection that breaks with time left says most."""
    attempts = clock.attempts()
    await attempts.wait_after(unavailable())
    await attempts.wait_after(RateLimited("rate_limited", ""))
    clock.now += TIMINGS.deadline
    with pytest.raises(RateLimited):
        await attempts.wait_after(NoAnswer("no answer in time"))
    with pytest.raises(Unavailable):
        await attempts.wait_after(unavailable())
    broken = clock.attempts()
    for _ in range(TIMINGS.attempts - 1):
        await broken.wait_after(unavailable())
    with pytest.raises(NoAnswer):
        await broken.wait_after(NoAnswer("the connection broke"))
