"""A bucket for each key: what it lets through, what it tells, and that its memory is bounded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_service.limits.rates import Rate, RateLimiter


class Clock:
    """A clock that stands until it is turned."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """A clock of the test's own."""
    return Clock()


def test_a_bucket_is_spent_and_fills_evenly(clock):
    """So many at once, then one for each interval that has gone by; each answer tells what is left."""
    limiter = RateLimiter("address", Rate(5, 10), clock)
    assert limiter.policy == '"address";q=5;w=10'
    assert [limiter.take("a").left for _ in range(5)] == [4, 3, 2, 1, 0]
    refused = limiter.take("a")
    assert (refused.admitted, refused.left) == (False, 0)
    assert refused.retry_in == pytest.approx(2)
    assert refused.full_in == pytest.approx(10)
    clock.now += 1.9
    assert not limiter.take("a").admitted
    clock.now += 0.1
    assert limiter.take("a").admitted
    assert not limiter.take("a").admitted
    assert limiter.take("b").left == 4  # another key has a bucket of its own
    clock.now += 100
    assert limiter.take("a").left == 4


def test_a_refused_request_costs_nothing(clock):
    """Who goes on asking while refused is let in as soon as one who waited."""
    limiter = RateLimiter("address", Rate(2, 2), clock)
    for _ in range(2):
        limiter.take("a")
    for _ in range(100):
        assert not limiter.take("a").admitted
    clock.now += 1
    assert limiter.take("a").admitted


@given(
    requests=st.integers(1, 50),
    seconds=st.sampled_from([1, 60, 3600]),
    pauses=st.lists(st.floats(0, 100), min_size=1, max_size=200),
)
def test_never_more_than_a_bucket_and_the_rate(requests, seconds, pauses):
    """Whenever requests come, over any time no more get through than a bucket and what the rate gives back in it."""
    clock = Clock()
    limiter = RateLimiter("address", Rate(requests, seconds), clock)
    admitted = []
    for pause in pauses:
        clock.now += pause
        admitted.extend(clock.now for _ in range(3) if limiter.take("a").admitted)
    for first in range(len(admitted)):
        took = admitted[-1] - admitted[first]
        assert len(admitted) - first <= requests + took * requests / seconds + 1e-3


def test_memory_is_bounded(clock):
    """However many keys come, few are kept, and one that is over its rate is not forgotten for them."""
    limiter = RateLimiter("address", Rate(3, 3600), clock, max_keys=100)
    for _ in range(3):
        limiter.take("greedy")
    for number in range(10_000):
        limiter.take(f"key {number}")
        assert len(limiter._full_at) <= 100
    assert not limiter.take("greedy").admitted


def test_what_others_spent_counts_here(clock):
    """What is settled with others leaves less here; what was spent since then is added, and nothing is forgiven."""
    limiter = RateLimiter("address", Rate(10, 10), clock)
    limiter.share()
    for _ in range(3):
        limiter.take("a")
    assert limiter.spent(10) == {"a": 3}
    limiter.take("a")
    limiter.settle({"a": 8.0})  # 3 from here and 5 from others
    assert limiter.take("a").left == 0
    assert not limiter.take("a").admitted
    assert limiter.spent(10) == {"a": 2}
    limiter.settle({"a": 0.0})
    assert not limiter.take("a").admitted


def test_the_largest_are_settled_first(clock):
    """A turn settles a bounded number of keys; the others wait for the next."""
    limiter = RateLimiter("address", Rate(10, 10), clock)
    limiter.share()
    for key, number in {"a": 1, "b": 3, "c": 2}.items():
        for _ in range(number):
            limiter.take(key)
    assert limiter.spent(2) == {"b": 3, "c": 2}
    assert limiter.spent(2) == {"a": 1}
    assert limiter.spent(2) == {}


def test_what_waits_to_be_settled_is_bounded(clock):
    """More keys than are settled in time wait in no greater number than is remembered."""
    limiter = RateLimiter("address", Rate(3, 3600), clock, max_keys=100)
    limiter.share()
    for number in range(10_000):
        limiter.take(f"key {number}")
        if number % 10 == 0:
            limiter.spent(1)
    assert len(limiter.spent(10_000)) <= 100
