"""A failover of Redis: the replica that takes over lacks what the primary confirmed last."""

import asyncio
import os
import time
from collections import defaultdict

import pytest
from redis.asyncio import Redis

from tests.support.calls import add_message, eventually, open_case
from tests.support.events.fixtures import outbox_is_empty, read_published
from tests.support.scrape import Scrape
from tests.support.sentinels import RedisWithSentinels
from tests.support.service import service_of

pytestmark = [pytest.mark.usefixtures("servers"), pytest.mark.long]

FAILOVERS = int(os.environ.get("FAILOVERS", "1"))
WRITES = int(os.environ.get("FAILOVER_WRITES", "20"))  # of each client before, without the replica, and afterwards
CLIENTS = 4
LONG = 120.0


@pytest.fixture(params=["redis", "valkey"])
def sentinels(request, tmp_path):
    """Redis, and Valkey, with Sentinels."""
    deployment = RedisWithSentinels(tmp_path, request.param)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.close()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_failover_of_redis_loses_no_event_of_an_acknowledged_change(make_client, sentinels):
    """The relay publishes again what the new primary lacks, in order. No change fails meanwhile."""
    client = await make_client(SUPPORT_REDIS_URL=sentinels.url)
    database, metrics = service_of(client).database, Scrape(service_of(client).metrics)
    cases = [await open_case(client) for _ in range(CLIENTS)]
    acknowledged = {case["id"]: [] for case in cases}
    seconds = []

    async def write(case):
        for _ in range(WRITES):
            acknowledged[case["id"]].append((await add_message(client, case))["id"])

    async def write_everywhere(*, until_published=True):
        await asyncio.gather(*map(write, cases))
        if until_published:
            await eventually(lambda: outbox_is_empty(database), LONG)

    for _ in range(FAILOVERS):
        await write_everywhere()
        await asyncio.to_thread(sentinels.wait_until_settled)
        primary, replica = sentinels.primary, sentinels.replica
        replica.freeze()
        await asyncio.to_thread(primary.run, "CLIENT", "KILL", "TYPE", "replica")
        await write_everywhere()  # published to the primary alone
        started = time.monotonic()
        primary.kill()
        replica.thaw()
        await write_everywhere(until_published=False)
        await eventually(lambda: outbox_is_empty(database), LONG)
        seconds.append(time.monotonic() - started)

        async def all_published():
            found = await published(sentinels.primary)
            return found if all({*ids} <= {*found[case]} for case, ids in acknowledged.items()) else None

        told = await eventually(all_published, LONG)
        primary.start()
        await asyncio.to_thread(sentinels.wait_until_settled)
    for case, ids in acknowledged.items():
        assert list(dict.fromkeys(told[case])) == ids
    repeated = metrics.value("support_events_published_total", type="support.case.updated.v1", outcome="repeated")
    assert repeated >= FAILOVERS * CLIENTS * WRITES
    print(  # noqa: T201 - the result of the long form
        f"{FAILOVERS} failovers, {sum(map(len, acknowledged.values()))} acknowledged messages, "
        f"{repeated:.0f} events lost by Redis and published again, 0 missing, "
        f"{sum(map(len, told.values())) - sum(map(len, acknowledged.values()))} doubled; "
        f"published again after {max(seconds):.1f} s at most"
    )


async def published(server):
    """Return the ids of the published messages of each case, in the order of the stream."""
    found = defaultdict(list)
    async with Redis.from_url(server.url) as stream:
        for event in await read_published(stream):
            if "conversation" in event["data"]:
                found[event["subject"]].append(event["data"]["conversation"]["id"])
    return found
