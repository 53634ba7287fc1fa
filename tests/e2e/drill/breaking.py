"""Faults of upstream services, Redis, events, processes and traffic, held for a block and repaired after it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import redis.asyncio as redis

from tests.e2e.drill.environment import DrillEnvironment

INBOUND = "support.inbound"


@asynccontextmanager
async def repeatedly(operation: Callable[[], Awaitable[object]], interval: float) -> AsyncIterator[None]:
    """Repeat an operation for the length of a block; let the last repetition finish."""
    done = asyncio.Event()

    async def repeat() -> None:
        while not done.is_set():
            await operation()
            await asyncio.sleep(interval)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        done.set()
        await task


@asynccontextmanager
async def order_hangs(environment: DrillEnvironment) -> AsyncIterator[None]:
    release = environment.orders.hang()
    yield
    release.set()
    environment.orders.heal()


@asynccontextmanager
async def order_takes_over_two_seconds(environment: DrillEnvironment) -> AsyncIterator[None]:
    release = environment.orders.delay(2.2)
    yield
    release.set()
    environment.orders.heal()


@asynccontextmanager
async def payment_fails(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.payments.fail_with(500)
    yield
    environment.payments.heal()


@asynccontextmanager
async def payment_answers_are_invalid(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.payments.answer_with_document({"nonsense": True})
    yield
    environment.payments.heal()


@asynccontextmanager
async def sources_are_down(environment: DrillEnvironment) -> AsyncIterator[None]:
    for source in environment.sources:
        source.drop()
    yield
    for source in environment.sources:
        source.heal()


@asynccontextmanager
async def redis_is_killed(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.redis.kill()
    yield
    await asyncio.to_thread(environment.redis.start)


@asynccontextmanager
async def redis_freezes(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.redis.freeze()
    yield
    environment.redis.thaw()


@asynccontextmanager
async def cache_is_corrupt(environment: DrillEnvironment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(environment.redis.url) as client:

        async def corrupt() -> None:
            async for key in client.scan_iter("support:timeline:*", count=1000):
                if not key.endswith(b"claim"):
                    await client.set(key, b"not a timeline", xx=True, keepttl=True)

        async with repeatedly(corrupt, 0.02):
            yield
        await client.flushdb()


@asynccontextmanager
async def cache_is_emptied(environment: DrillEnvironment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(environment.redis.url) as client, repeatedly(client.flushdb, 0.02):
        yield


@asynccontextmanager
async def event_loop_is_blocked(environment: DrillEnvironment) -> AsyncIterator[None]:
    async def block_loop() -> None:
        environment.service.freeze()
        try:
            await asyncio.sleep(0.38)  # shorter than the scrape timeout of 0.5 s
        finally:
            environment.service.thaw()

    async with repeatedly(block_loop, 0.2):
        yield


@asynccontextmanager
async def service_is_killed(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.service.kill()
    yield
    await environment.service.start()


@asynccontextmanager
async def case_volume_is_high(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.traffic.unread_cases = 45.0
    yield
    environment.traffic.unread_cases = 0.0


@asynccontextmanager
async def no_cases_are_opened(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.traffic.cases = 0.0
    yield
    environment.traffic.cases = 4.0


@asynccontextmanager
async def probe_stops(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.probe.kill()
    yield
    await environment.probe.start()


@asynccontextmanager
async def events_redis_is_down(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.events.kill()
    yield
    await asyncio.to_thread(environment.events.start)


@asynccontextmanager
async def streams_are_not_fed(environment: DrillEnvironment) -> AsyncIterator[None]:
    """Redis refuses the command that follows the published events, as after a wrong change of user permissions."""
    async with redis.Redis.from_url(environment.events_url) as client:
        await client.execute_command("ACL", "SETUSER", "default", "-xread")
        yield
        await client.execute_command("ACL", "SETUSER", "default", "+xread")


@asynccontextmanager
async def consumer_may_not_read(environment: DrillEnvironment) -> AsyncIterator[None]:
    """Redis refuses the command that reads events, as after a wrong change of user permissions."""
    async with redis.Redis.from_url(environment.events_url) as client:
        await client.execute_command("ACL", "SETUSER", "default", "-xreadgroup")
        yield
        await client.execute_command("ACL", "SETUSER", "default", "+xreadgroup")


@asynccontextmanager
async def consumer_is_stuck(environment: DrillEnvironment) -> AsyncIterator[None]:
    data = {"orderId": "ORD-1", "status": "in_transit"}
    event = {"specversion": "1.0", "source": "/fulfillment", "type": "fulfillment.shipment.updated.v1", "data": data}
    async with consumer_may_not_read(environment), redis.Redis.from_url(environment.events_url) as client:
        for number in range(300):
            await client.xadd(INBOUND, {"event": json.dumps(event | {"id": f"e-{number}"})})
        yield


@asynccontextmanager
async def event_is_invalid(environment: DrillEnvironment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(environment.events_url) as client:
        await client.xadd(INBOUND, {"event": "no event"})
    yield
    (letter,) = map(json.loads, (await environment.service.run("events", "dead-letters", "list")).splitlines())
    await environment.service.run("events", "dead-letters", "drop", letter["id"])


@asynccontextmanager
async def sealing_is_refused(environment: DrillEnvironment) -> AsyncIterator[None]:
    """The head of the audit chain can't be updated, as after a restore with other permissions; changes succeed."""
    await environment.service.change_database(
        "CREATE TRIGGER drill BEFORE UPDATE ON audit_head BEGIN SELECT RAISE(ABORT, 'a drill'); END"
    )
    yield
    await environment.service.change_database("DROP TRIGGER drill")


@asynccontextmanager
async def answers_come_late(environment: DrillEnvironment) -> AsyncIterator[None]:
    """Nobody answers cases in time; then all that wait are answered."""
    await environment.traffic.promise_answers()
    async with repeatedly(partial(environment.traffic.open_case, read=False, tags=["promised"]), 0.25):
        yield
    await environment.service.change_database("UPDATE case_clocks SET state = 'met' WHERE state = 'running'")


@asynccontextmanager
async def breaches_are_not_reported(environment: DrillEnvironment) -> AsyncIterator[None]:
    """The state of a clock can't be set to breached, as after a restore with other permissions."""
    await environment.service.change_database(
        "CREATE TRIGGER drill BEFORE UPDATE ON case_clocks WHEN new.state = 'breached' "
        "BEGIN SELECT RAISE(ABORT, 'a drill'); END"
    )
    await environment.traffic.promise_answers()
    await environment.traffic.open_case(tags=["promised"])
    yield
    await environment.service.change_database("DROP TRIGGER drill")


@asynccontextmanager
async def no_fault(_: DrillEnvironment) -> AsyncIterator[None]:
    yield
