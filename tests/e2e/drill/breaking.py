"""Faults that last for a block and are repaired after it: of upstream services, Redis, events, processes, traffic."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import redis.asyncio as redis

from tests.e2e.drill.stage import Stage

INBOUND = "support.inbound"


@asynccontextmanager
async def again_and_again(do: Callable[[], Awaitable[object]], every: float) -> AsyncIterator[None]:
    """Do something on and on for the length of a block, and end what is being done rather than break it off."""
    over = asyncio.Event()

    async def repeat() -> None:
        while not over.is_set():
            await do()
            await asyncio.sleep(every)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        over.set()
        await task


@asynccontextmanager
async def order_hangs(stage: Stage) -> AsyncIterator[None]:
    release = stage.orders.hang()
    yield
    release.set()
    stage.orders.heal()


@asynccontextmanager
async def order_is_slow(stage: Stage) -> AsyncIterator[None]:
    release = stage.orders.delay(2.5)
    yield
    release.set()
    stage.orders.heal()


@asynccontextmanager
async def payment_fails(stage: Stage) -> AsyncIterator[None]:
    stage.payments.fail_with(500)
    yield
    stage.payments.heal()


@asynccontextmanager
async def payment_talks_nonsense(stage: Stage) -> AsyncIterator[None]:
    stage.payments.answer_with_document({"nonsense": True})
    yield
    stage.payments.heal()


@asynccontextmanager
async def sources_are_down(stage: Stage) -> AsyncIterator[None]:
    for source in stage.sources:
        source.drop()
    yield
    for source in stage.sources:
        source.heal()


@asynccontextmanager
async def redis_is_killed(stage: Stage) -> AsyncIterator[None]:
    stage.redis.kill()
    yield
    await asyncio.to_thread(stage.redis.start)


@asynccontextmanager
async def redis_freezes(stage: Stage) -> AsyncIterator[None]:
    stage.redis.freeze()
    yield
    stage.redis.thaw()


@asynccontextmanager
async def cache_is_corrupt(stage: Stage) -> AsyncIterator[None]:
    async with redis.Redis.from_url(stage.redis.url) as client:

        async def spoil() -> None:
            async for key in client.scan_iter("support:timeline:*", count=1000):
                if not key.endswith(b"claim"):
                    await client.set(key, b"not a timeline", xx=True, keepttl=True)

        async with again_and_again(spoil, 0.02):
            yield
        await client.flushdb()


@asynccontextmanager
async def cache_forgets(stage: Stage) -> AsyncIterator[None]:
    async with redis.Redis.from_url(stage.redis.url) as client, again_and_again(client.flushdb, 0.02):
        yield


@asynccontextmanager
async def loop_is_held(stage: Stage) -> AsyncIterator[None]:
    async def hold() -> None:
        stage.service.freeze()
        try:
            await asyncio.sleep(0.38)  # a scrape waits 0.5 s
        finally:
            stage.service.thaw()

    async with again_and_again(hold, 0.2):
        yield


@asynccontextmanager
async def service_is_killed(stage: Stage) -> AsyncIterator[None]:
    stage.service.kill()
    yield
    await stage.service.start()


@asynccontextmanager
async def tickets_flood(stage: Stage) -> AsyncIterator[None]:
    stage.traffic.unread = 45.0
    yield
    stage.traffic.unread = 0.0


@asynccontextmanager
async def tickets_stop(stage: Stage) -> AsyncIterator[None]:
    stage.traffic.opened = 0.0
    yield
    stage.traffic.opened = 4.0


@asynccontextmanager
async def probe_stops(stage: Stage) -> AsyncIterator[None]:
    stage.probe.kill()
    yield
    await stage.probe.start()


@asynccontextmanager
async def events_redis_is_down(stage: Stage) -> AsyncIterator[None]:
    stage.events.kill()
    yield
    await asyncio.to_thread(stage.events.start)


@asynccontextmanager
async def consumer_may_not_read(stage: Stage) -> AsyncIterator[None]:
    """Redis refuses the one command that events are read with, as after a wrong change of its users' rights."""
    async with redis.Redis.from_url(stage.events_url) as client:
        await client.execute_command("ACL", "SETUSER", "default", "-xreadgroup")
        yield
        await client.execute_command("ACL", "SETUSER", "default", "+xreadgroup")


@asynccontextmanager
async def consumer_is_stuck(stage: Stage) -> AsyncIterator[None]:
    data = {"orderId": "ORD-1", "status": "in_transit"}
    event = {"specversion": "1.0", "source": "/fulfillment", "type": "fulfillment.shipment.updated.v1", "data": data}
    async with consumer_may_not_read(stage), redis.Redis.from_url(stage.events_url) as client:
        for number in range(300):
            await client.xadd(INBOUND, {"event": json.dumps(event | {"id": f"e-{number}"})})
        yield


@asynccontextmanager
async def event_is_poison(stage: Stage) -> AsyncIterator[None]:
    async with redis.Redis.from_url(stage.events_url) as client:
        await client.xadd(INBOUND, {"event": "no event"})
    yield
    (letter,) = map(json.loads, (await stage.service.run("events", "dead-letters", "list")).splitlines())
    await stage.service.run("events", "dead-letters", "drop", letter["id"])


@asynccontextmanager
async def sealing_is_refused(stage: Stage) -> AsyncIterator[None]:
    """The head of the chain can't be moved, as where someone restored it with other rights; changes go on."""
    await stage.service.change_database(
        "CREATE TRIGGER drill BEFORE UPDATE ON audit_head BEGIN SELECT RAISE(ABORT, 'a drill'); END"
    )
    yield
    await stage.service.change_database("DROP TRIGGER drill")


@asynccontextmanager
async def nothing(_: Stage) -> AsyncIterator[None]:
    yield
