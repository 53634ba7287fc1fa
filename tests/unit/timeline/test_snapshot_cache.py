"""Snapshots beside a cache that another replica writes to, or that is out of order."""

import logging

import pytest

from support_service.telemetry.component import METRICS
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.provider import Metrics, build_resource
from support_service.timeline.cache import snapshots
from support_service.timeline.cache.base import CacheUnavailable, Lease
from support_service.timeline.cache.snapshot_cache import MAX_WRITE_ATTEMPTS, Case, SnapshotCache
from support_service.timeline.cache.snapshots import CachedSnapshots
from tests.support.scrape import Scrape

CASE = Case("case-1", {}, 0)


class Contested:
    """A cache to which another replica has always just written."""

    def __init__(self):
        self.sets = 0

    async def set(self, *_):
        """Give back what is there."""
        self.sets += 1
        return snapshots.encode({})


class Broken:
    """A cache that is out of order."""

    async def extend(self, *_):
        """Fail."""
        raise CacheUnavailable("down")

    release = extend


async def test_a_write_that_others_always_overtake_is_given_up():
    """After a few attempts the other replicas' value stays; that is no fault, and no write."""
    metrics, cache = Metrics(("prometheus",), build_resource()), Contested()
    await SnapshotCache(cache, Instruments(metrics.meter)).write(CASE, {}, CachedSnapshots(), 60)
    assert cache.sets == MAX_WRITE_ATTEMPTS
    assert Scrape({METRICS: metrics}).moved("support_timeline_cache_events_total") == {}
    metrics.close()


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda cache, claim: cache.extend(claim, 1), "A lease could not be extended"),
        (lambda cache, claim: cache.release(claim), "A lease could not be released"),
    ],
)
async def test_a_claim_that_is_lost_is_no_failure(instruments, caplog, act, told):
    """A claim ends by itself, so that a cache out of order costs no reader anything."""
    with caplog.at_level(logging.DEBUG):
        await act(SnapshotCache(Broken(), instruments), Lease("key", "token"))
    assert [record.message for record in caplog.records] == [told]
