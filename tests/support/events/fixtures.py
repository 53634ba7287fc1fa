"""Inbound and published events, and the brokers that carry them."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from redis.asyncio import Redis

from support_service.events.broker.base import Broker
from support_service.events.broker.memory import InMemoryBroker
from support_service.events.broker.redis import RedisBroker
from support_service.platform.database import Database
from support_service.platform.database.tables import outbox
from tests.support.calls import eventually
from tests.support.servers import RedisServer
from tests.support.timings import PATIENT_REDIS


def patient_broker(url: str) -> RedisBroker:
    """Return a broker with a generous Redis timeout."""
    return RedisBroker(url, timings=PATIENT_REDIS)


@pytest.fixture(params=["in-process", "redis"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    broker = InMemoryBroker() if request.param == "in-process" else patient_broker(request.getfixturevalue("redis").url)
    yield broker
    await broker.close()


@pytest.fixture
def durable_redis(servers: None, tmp_path: Path) -> Any:
    """A separate Redis that keeps its data when it is killed."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder, appendonly="yes")
    server.start()
    yield server
    server.close()


def shipment_event(event_id: str = "e-1", order: str = "order-456", **fields: Any) -> dict[str, Any]:
    """Return a fulfillment event as a structured CloudEvent."""
    data = {"orderId": order, "shipmentId": "SHP-9", "trackingNumber": "ZX123", "status": "in_transit"}
    data |= {"carrier": "VNPost", "occurredAt": "2026-01-02T03:04:05Z", **fields}
    envelope = {"specversion": "1.0", "id": event_id, "source": "/fulfillment", "time": "2026-01-02T03:04:05Z"}
    return envelope | {"type": "fulfillment.shipment.updated.v1", "data": data}


def hold_publications(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold what is published to Redis; return the events that say that something is held, and that let it go on."""
    held, resume, publish = asyncio.Event(), asyncio.Event(), RedisBroker.publish

    async def publish_later(*arguments: Any, **options: Any) -> int:
        held.set()
        await resume.wait()
        return await publish(*arguments, **options)

    monkeypatch.setattr(RedisBroker, "publish", publish_later)
    return held, resume


async def send_inbound(redis: Redis, event: Any, stream: str = "support.inbound") -> None:
    """Add an event to the inbound stream directly."""
    await redis.xadd(stream, {"event": event if isinstance(event, bytes | str) else json.dumps(event)})


async def read_published(redis: Redis, stream: str = "support.events") -> list[dict[str, Any]]:
    return [json.loads(fields[b"event"]) for _, fields in await redis.xrange(stream)]


async def wait_for_events(redis: Redis, number: int) -> list[dict[str, Any]]:
    """Wait until at least this number of events is published; return all of them, in order."""

    async def enough() -> list[dict[str, Any]] | None:
        events = await read_published(redis)
        return events if len(events) >= number else None

    return await eventually(enough)


async def outbox_is_empty(database: Database) -> bool:
    """Return whether every event of the outbox was published and removed."""
    return await database.fetch_now(sa.select(outbox.c.seq).limit(1)) is None
