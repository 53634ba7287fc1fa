"""A bucket for each key: what it lets through, what it tells, and that its memory is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_service.guard.rates import Rate, RateLimiter
from tests.support.clock import Clock


@pytest.fixture
def clock():
    return Clock()


def test_bucket_refills_evenly(clock):
    """A burst up to its size, then one request per interval. A refused request uses no token."""
    limiter = RateLimiter("address", Rate(5, 10), clock)
    assert limiter.policy == '"address";q=5;w=10'
    assert [limiter.consume("a").remaining for _ in range(5)] == [4, 3, 2, 1, 0]
    refused = limiter.consume("a")
    assert (refused.admitted, refused.remaining) == (False, 0)
    assert (refused.retry_after, refused.seconds_until_full) == (pytest.approx(2), pytest.approx(10))
    clock.now += 1.9
    assert not any(limiter.consume("a").admitted for _ in range(100))
    clock.now += 0.1
    assert [limiter.consume("a").admitted for _ in range(2)] == [True, False]
    assert limiter.consume("b").remaining == 4  # another key has a bucket of its own
    clock.now += 100
    assert limiter.consume("a").remaining == 4


def test_response_may_cost_more_than_the_bucket_holds(clock):
    """The key owes the difference until the bucket has refilled. A response to a change adds to the debt."""
    limiter = RateLimiter("principal", Rate(10, 10), clock)
    limiter.start_recording()
    assert limiter.consume("a").admitted
    assert [limiter.consume_many("a", number).remaining for number in (3, 29)] == [6, 0]
    refused = limiter.consume_many("a", 1)
    assert (refused.admitted, refused.retry_after) == (False, pytest.approx(24))
    assert not limiter.consume("a").admitted
    assert limiter.pop_consumed(10) == {"a": 33}  # what was refused costs nothing
    assert all(limiter.consume_many("b", number, may_owe=True).admitted for number in (20, 5))
    assert limiter.consume_many("b", 1).retry_after == pytest.approx(16)
    clock.now += 23.5
    assert not limiter.consume("a").admitted
    clock.now += 0.5
    assert limiter.consume("a").admitted


@given(
    requests=st.integers(1, 50),
    seconds=st.sampled_from([1, 60, 3600]),
    pauses=st.lists(st.floats(0, 100), min_size=1, max_size=200),
)
def test_admitted_requests_never_exceed_bucket_and_rate(requests, seconds, pauses):
    clock = Clock()
    limiter = RateLimiter("address", Rate(requests, seconds), clock)
    admitted = []
    for pause in pauses:
        clock.now += pause
        admitted.extend(clock.now for _ in range(3) if limiter.consume("a").admitted)
    for first in range(len(admitted)):
        took = admitted[-1] - admitted[first]
        assert len(admitted) - first <= requests + took * requests / seconds + 1e-3


def test_number_of_keys_is_limited(clock):
    """A key over its rate is not evicted. Neither are more keys exchanged."""
    limiter = RateLimiter("address", Rate(3, 3600), clock, max_keys=100)
    limiter.start_recording()
    for _ in range(3):
        limiter.consume("greedy")
    for number in range(10_000):
        assert limiter.consume(f"key {number}").remaining == 2
        if number % 10 == 0:
            limiter.pop_consumed(1)
    assert len(limiter.pop_consumed(10_000)) <= 100
    assert all(limiter.consume(f"key {number}").remaining == 2 for number in range(9_900))  # they were forgotten
    assert not limiter.consume("greedy").admitted


def test_requests_of_other_replicas_count(clock):
    """After an exchange fewer remain; requests since then are added, and none are forgotten."""
    limiter = RateLimiter("address", Rate(10, 10), clock)
    limiter.start_recording()
    for _ in range(3):
        limiter.consume("a")
    assert limiter.pop_consumed(10) == {"a": 3}
    limiter.consume("a")
    limiter.apply_shared({"a": 8.0})  # 3 from here and 5 from others
    assert limiter.consume("a").remaining == 0
    assert not limiter.consume("a").admitted
    assert limiter.pop_consumed(10) == {"a": 2}
    limiter.apply_shared({"a": 0.0})
    assert not limiter.consume("a").admitted


def test_largest_counts_are_exchanged_first(clock):
    """A turn exchanges a limited number of keys."""
    limiter = RateLimiter("address", Rate(10, 10), clock)
    limiter.start_recording()
    for key, number in {"a": 1, "b": 3, "c": 2}.items():
        for _ in range(number):
            limiter.consume(key)
    assert limiter.pop_consumed(2) == {"b": 3, "c": 2}
    assert limiter.pop_consumed(2) == {"a": 1}
    assert limiter.pop_consumed(2) == {}


def test_work_that_can_be_left_out_leaves_half_of_the_bucket(clock):
    """It is told how long to wait, and counts nothing then."""
    limiter = RateLimiter("principal", Rate(10, 10), clock)
    assert [limiter.consume_optional("a", 4) for _ in range(2)] == [0.0, 0.0]
    assert limiter.consume_optional("a", 1) == pytest.approx(3)
    assert limiter.consume("a").remaining == 1
    clock.now += 4
    assert limiter.consume_optional("a", 1) == 0.0
