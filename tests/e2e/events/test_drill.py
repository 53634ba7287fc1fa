"""Faults while events flow: nothing is lost, nothing happens twice."""

import asyncio
import json
import os
import random
from collections import Counter

import aiohttp
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from support_service.events.consumer import EventConsumer
from support_service.platform.background import run_in_background
from tests.conftest import both_databases
from tests.support.calls import add_message, eventually, open_case, read_case
from tests.support.constants import with_constants
from tests.support.events.fixtures import patient_broker, read_published, send_inbound, shipment_event
from tests.support.events.inbound import database_answers
from tests.support.process import running
from tests.support.servers import free_port

pytestmark = pytest.mark.usefixtures("processes")

KILLS = int(os.environ.get("DRILL_KILLS", "1"))
EVENTS = int(os.environ.get("DRILL_EVENTS", "50"))
OUTAGE = float(os.environ.get("DRILL_OUTAGE", "0.5"))  # seconds without Redis
CASES = 10
LONG = 120.0  # seconds that the rest may take after the last fault


@pytest.mark.long
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_killed_consumer_applies_each_event_once(environment, durable_redis, tmp_path):
    """The consumer is killed again and again, and a fifth of the events are sent twice."""
    draw = random.Random(6)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    variables = environment | {"SUPPORT_PORT": str(port), "SUPPORT_REDIS_URL": durable_redis.url}
    variables |= with_constants({"service.CLAIM_AFTER": 0.5})
    ids = [f"e-{number}" for number in range(EVENTS)]
    repeats = draw.sample(ids, EVENTS // 5)
    waiting = ids + repeats
    draw.shuffle(waiting)
    cases = []
    share = -(-len(waiting) // KILLS)
    async with Redis.from_url(durable_redis.url) as stream:
        for life in range(KILLS + 1):
            async with running("serve", cwd=tmp_path, **variables) as service:
                await service.wait_until_ready(address)
                async with aiohttp.ClientSession(address) as session:
                    while len(cases) < CASES:
                        context = {"type": "order", "orderId": f"order-{len(cases)}"}
                        cases.append(await open_case(session, context=context))
                    for event in waiting[life * share : (life + 1) * share]:
                        await send_inbound(
                            stream, shipment_event(event, f"order-{int(event[2:]) % CASES}", trackingNumber=event)
                        )
                    if life < KILLS:
                        await eventually(lambda: _begun(stream))
                        await asyncio.sleep(draw.uniform(0, 0.2) if KILLS > 1 else 0)  # one kill comes at once
                        continue  # `running` kills
                    await eventually(lambda: _idle(stream), LONG)
                    read = [await read_case(session, case) for case in cases]
        told = [message["metadata"]["eventId"] for case in read for message in case["messages"]]
        assert await stream.xlen("support.inbound.dead") == 0
    assert Counter(told) == Counter(ids)


async def _begun(stream):
    """Whether the group is at work, or has nothing before it any more."""
    (group,) = await stream.xinfo_groups("support.inbound")
    return group["pending"] or group["lag"] == 0


async def _idle(stream):
    """Whether the group has nothing before it."""
    (group,) = await stream.xinfo_groups("support.inbound")
    return group["lag"] == 0 and group["pending"] == 0


@pytest.mark.long
@both_databases
async def test_changes_under_load_are_published_after_redis_was_killed(make_client, durable_redis):
    """While Redis is down every change succeeds; afterwards each is published in the order of its case."""
    client = await make_client(SUPPORT_REDIS_URL=durable_redis.url)
    cases = [await open_case(client) for _ in range(4)]
    stopping = asyncio.Event()

    async def work(case):
        number = 0
        while not stopping.is_set():
            await add_message(client, case, str(number))
            number += 1
            await asyncio.sleep(0.02)  # the pace of an agent
        return number

    working = [asyncio.create_task(work(case)) for case in cases]
    await asyncio.sleep(0.3)  # of work before and after the outage
    durable_redis.kill()
    await asyncio.sleep(OUTAGE)
    durable_redis.start()
    await asyncio.sleep(0.3)  # of work before and after the outage
    stopping.set()
    total = sum(await asyncio.gather(*working)) + len(cases)
    async with Redis.from_url(durable_redis.url) as stream:

        async def all_published():
            try:
                events = await read_published(stream)
            except RedisError:
                return None
            return events if len({event["id"] for event in events}) >= total else None

        events = await eventually(all_published, LONG)
    for case in cases:
        mine = {event["id"]: event for event in events if event["subject"] == case["id"]}  # the first of each id leads
        told = [event["data"]["conversation"]["id"] for event in mine.values() if "conversation" in event["data"]]
        assert told == [message["id"] for message in (await read_case(client, case))["messages"]]


async def test_event_that_kills_its_consumer_is_a_dead_letter(redis, instruments):
    """After ten deliveries without an end. The other events are consumed."""
    broker = patient_broker(redis.url)
    await broker.publish("s", [json.dumps(shipment_event("bad"))], max_length=10)
    await broker.receive("s", "dead", count=1, wait=0.1)
    for _ in range(9):
        assert len(await broker.claim("s", "dead", count=9, min_idle=0, isolate_after=5)) == 1
    applied = []

    async def apply(event):
        applied.append(event.id)
        return "applied"

    consumer = EventConsumer(broker, apply, instruments, stream="s", claim_after=0.01, ping=database_answers)
    await broker.publish("s", [json.dumps(shipment_event("good"))], max_length=10)
    async with run_in_background(consumer.run()):
        letters = await eventually(lambda: broker.dead_letters("s", 9))
        await eventually(lambda: applied)
    assert "delivered 10 times" in letters[0].reason
    assert applied == ["good"]
    await broker.close()
