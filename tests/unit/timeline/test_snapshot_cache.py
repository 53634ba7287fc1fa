"""The snapshot cache when another replica writes concurrently, or when the cache is unavailable."""

import logging
import time

import pytest

from support_service.core.domain.references import SourceReferences
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource
from support_service.timeline import snapshots
from support_service.timeline.cache import CacheUnavailable, InProcessCache, Lease
from support_service.timeline.snapshots import MAX_WRITE_ATTEMPTS, CachedSnapshots, SnapshotCache, SnapshotSubject
from tests.support.each import each_row
from tests.support.scrape import Scrape

CASE = SnapshotSubject("case-1", {}, 0)


class ContestedCache:
    """A cache in which another replica has always stored a newer value."""

    def __init__(self):
        self.sets = 0

    async def compare_and_set(self, *_):
        self.sets += 1
        return snapshots.encode_snapshots({})


class UnavailableCache:
    async def extend_lease(self, *_):
        raise CacheUnavailable("down")

    release_lease = extend_lease


async def test_write_gives_up_after_repeated_conflicts():
    """After a few attempts the other replicas' value is kept; no failure and no write are counted."""
    metrics, cache = Metrics(("prometheus",), build_resource()), ContestedCache()
    await SnapshotCache(cache, Instruments(metrics.meter)).write(CASE, {}, CachedSnapshots(), 60)
    assert cache.sets == MAX_WRITE_ATTEMPTS
    assert Scrape(metrics).nonzero("support_timeline_cache_events_total") == {}
    metrics.close()


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (lambda cache, lease: cache.extend_lease(lease, 1), "A lease could not be extended"),
        (lambda cache, lease: cache.release_lease(lease), "A lease could not be released"),
    ],
)
async def test_lost_lease_is_logged_and_raises_nothing(instruments, caplog, operation, message):
    """A lease expires by itself, so an unavailable cache does not fail the reader."""
    with caplog.at_level(logging.DEBUG):
        await operation(SnapshotCache(UnavailableCache(), instruments), Lease("key", "token"))
    assert [record.message for record in caplog.records] == [message]


class ChangingCache:
    value: bytes | None = None

    async def get(self, _):
        return self.value

    async def delete(self, _):
        self.value = None


async def test_value_is_decoded_again_only_if_it_has_changed(instruments):
    """Reads of the same value share what it says; a value of another revision, or none, is seen at once."""
    stored, case = ChangingCache(), SnapshotSubject("case-1", {"order": SourceReferences((1,), ())}, 0)
    cache = SnapshotCache(stored, instruments)

    async def entries():
        found = (await cache.read(case)).snapshots
        return found["order"].entries if found else None

    for number in range(2):
        snapshot = snapshots.Snapshot(time.time(), case.references["order"], 0, [{"type": "order", "number": number}])
        stored.value = snapshots.encode_snapshots({"order": snapshot})
        first = await entries()
        assert first == snapshot.entries
        stored.value = bytes(bytearray(stored.value))  # equal, from another answer
        assert await entries() is first
    stored.value = b"{"
    assert [await entries(), await entries()] == [None, None]
    written = InProcessCache()
    cache = SnapshotCache(written, instruments)  # what is written is not decoded by the next read
    await cache.write(case, {"order": snapshot}, snapshots.CachedSnapshots(), 60)
    found = await cache.read(case)
    assert found.snapshots["order"].entries is snapshot.entries
    assert found == snapshots.decode_snapshots(await written.get(snapshots.cache_key(case.id)))


@each_row(
    "value",
    [
        *(b"", b"not JSON", b"\xff\xfe", b"[]", b"null", b'"text"', b"1", b"{}"),
        *(b'{"version": 2}', b'{"version": 2, "sources": null}', b'{"version": 2, "sources": []}'),
        *(b'{"version": 2, "sources": {"order": []}}', b'{"version": 2, "sources": {"order": {}}}'),
        b'{"version": 2, "sources": {"order": {"at": null, "ids": ["ORD-1"], "ofOrders": [], "entries": []}}}',
        snapshots.encode_snapshots({"order": snapshots.Snapshot(9e9, SourceReferences(("ORD-1",)), 0, ["x"])}),
    ],
)
def test_value_of_another_form_can_not_be_decoded(value):
    with pytest.raises(snapshots.DECODE_ERRORS):
        snapshots.decode_snapshots(value)
