"""Opens what events pass through: the broker, the log, the relay with the webhooks, and the consumer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from support_service.events.broker.base import Broker, RedisBrokerTimings
from support_service.events.broker.log import EventLog
from support_service.events.broker.memory import InMemoryBroker
from support_service.events.consumer import PURGE_INTERVAL, ApplyEvent, ConsumerTimings, EventConsumer, delete_expired
from support_service.events.relay import OutboxRelay, RelayTimings
from support_service.events.webhook_sender import WebhookSender, WebhookTimings
from support_service.guard.overload import Readiness
from support_service.platform.background import Job, run_in_background
from support_service.platform.database import Database
from support_service.platform.http_client import limited_session
from support_service.platform.settings import Settings
from support_service.platform.settings.resources import EventSettings
from support_service.platform.telemetry.http import client_metrics
from support_service.platform.telemetry.stores import BROKER_OPERATIONS, monitored_redis
from support_service.platform.telemetry.telemetry import Telemetry

NOTE_TTL = 15.0  # seconds, of what replicas tell one another beside the log


@dataclass(frozen=True, slots=True)
class EventTimings:
    """Intervals and limits of events."""

    backlog_refresh_interval: float = 5.0  # seconds between refreshes of the gauges of outbox, stream and webhooks
    broker: RedisBrokerTimings = field(default_factory=RedisBrokerTimings)
    log: RedisBrokerTimings = field(default_factory=RedisBrokerTimings)
    relay: RelayTimings = field(default_factory=RelayTimings)
    consumer: ConsumerTimings = field(default_factory=ConsumerTimings)
    webhooks: WebhookTimings = field(default_factory=WebhookTimings)


@asynccontextmanager
async def open_broker(
    redis_url: str | None, telemetry: Telemetry, timings: RedisBrokerTimings
) -> AsyncIterator[Broker]:
    """Open the broker during a `with` block. Without a Redis URL, events stay in this process."""
    if redis_url is None:
        in_memory = InMemoryBroker()
        try:
            yield in_memory
        finally:
            await in_memory.close()
        return
    from support_service.events.broker.redis import RedisBroker

    measure = telemetry.operation_recorder("redis", BROKER_OPERATIONS)
    broker = RedisBroker(redis_url, measure, timings, telemetry.tracing.message_spans("redis"))
    telemetry.pools["events"] = broker.connections
    try:
        async with monitored_redis(telemetry.redis_servers, "events", broker.client):
            yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def open_log(
    settings: Settings, broker: Broker, telemetry: Telemetry, timings: EventTimings
) -> AsyncIterator[EventLog]:
    """Open the log of published events during a `with` block."""
    redis_url, stream = settings.events_redis_url, settings.events.stream
    if redis_url is None:
        assert isinstance(broker, InMemoryBroker)  # noqa: S101 - without a URL there is no other
        event_log: EventLog = broker.log(stream)
    else:
        from support_service.events.broker.redis_log import RedisLog

        redis_log = event_log = RedisLog(redis_url, stream, NOTE_TTL, timings.log)
        telemetry.pools["stream"] = redis_log.connections
    try:
        yield event_log
    finally:
        await event_log.close()


@asynccontextmanager
async def open_relay(
    settings: EventSettings, database: Database, broker: Broker, telemetry: Telemetry, timings: EventTimings
) -> AsyncIterator[tuple[OutboxRelay, WebhookSender]]:
    """Publish the outbox to the broker and to webhooks during a `with` block, and what is left of it at the end."""
    instruments = telemetry.instruments
    relay = OutboxRelay(
        database,
        broker,
        instruments,
        stream=settings.stream,
        max_stream_length=0 if isinstance(broker, InMemoryBroker) else settings.keep,  # in memory it has no readers
        keep_published=timedelta(0) if isinstance(broker, InMemoryBroker) else settings.keep_published,
        endpoints=settings.webhooks,
        timings=timings.relay,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(relay.close)
        # Each endpoint limits its own concurrent deliveries. With one limit for all, some would starve others.
        session = await stack.enter_async_context(limited_session([client_metrics(instruments)]))
        webhooks = WebhookSender(
            database,
            session,
            instruments,
            settings.webhooks,
            relay.is_leader,
            created=relay.deliveries_created,
            timings=timings.webhooks,
            spans=telemetry.tracing.message_spans(""),  # a delivery passes through no broker
        )
        await asyncio.gather(relay.refresh_backlog(), webhooks.refresh())
        async with run_in_background(
            relay.run(),
            Job("Reading the outbox backlog", timings.backlog_refresh_interval, relay.refresh_backlog),
            webhooks.run(),  # also without endpoints: it ends deliveries to removed endpoints
            Job("Counting webhook deliveries", timings.backlog_refresh_interval, webhooks.refresh),
        ):
            yield relay, webhooks


@asynccontextmanager
async def open_consumer(
    settings: EventSettings,
    database: Database,
    broker: Broker,
    telemetry: Telemetry,
    *,
    apply: ApplyEvent,
    readiness: Readiness,
    timings: EventTimings,
) -> AsyncIterator[EventConsumer]:
    """Consume inbound events during a `with` block, unless the settings leave them to other processes."""
    consumer = EventConsumer(
        broker,
        apply,
        telemetry.instruments,
        stream=settings.inbound_stream,
        keep=settings.keep_inbound,
        claim_after=settings.claim_after,
        ping=database.ping,
        timings=timings.consumer,
        spans=telemetry.tracing.message_spans("memory" if isinstance(broker, InMemoryBroker) else "redis"),
    )
    await consumer.refresh_backlog()
    async with run_in_background(
        Job("Reading the inbound backlog", timings.backlog_refresh_interval, consumer.refresh_backlog),
        Job("Deleting old event ids", PURGE_INTERVAL, partial(delete_expired, database)),
        *([consumer.run()] if settings.consume else []),
    ):
        yield consumer
        if isinstance(broker, InMemoryBroker) and settings.consume:  # events in process memory are lost on exit
            await consumer.handle_waiting(readiness.stop_by)
