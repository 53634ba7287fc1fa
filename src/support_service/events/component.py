"""The events component: the broker, the relay that publishes to it, the consumer of inbound events, and webhooks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from support_service.events.broker.base import Broker, RedisBrokerTimings
from support_service.events.broker.log import EventLog
from support_service.events.broker.memory import InMemoryBroker
from support_service.events.consumer import PURGE_INTERVAL, ApplyEvent, ConsumerTimings, EventConsumer, delete_expired
from support_service.events.dead_letters import DeadLetterService
from support_service.events.deliveries import DeliveryService
from support_service.events.relay import OutboxRelay, RelayTimings
from support_service.events.webhooks import WebhookEndpoint, WebhookSender, WebhookTimings
from support_service.guard.component import READINESS
from support_service.platform.background import run_every, run_in_background
from support_service.platform.database.component import DATABASE
from support_service.platform.http_client import LimitedConnector
from support_service.platform.settings.resources import EventSettings
from support_service.platform.telemetry.component import CONNECTION_POOLS, INSTRUMENTS, REDIS_SERVERS, operation_metrics
from support_service.platform.telemetry.http import client_metrics
from support_service.platform.telemetry.stores import BROKER_OPERATIONS, monitored_server

if TYPE_CHECKING:
    from support_service.events.broker.redis import RedisBroker

EVENT_CONSUMER = web.AppKey("event_consumer", EventConsumer)
BROKER = web.AppKey[Broker]("broker")
OUTBOX_RELAY = web.AppKey("outbox_relay", OutboxRelay)
WEBHOOK_SENDER = web.AppKey("webhook_sender", WebhookSender)
DEAD_LETTERS = web.AppKey("dead_letters", DeadLetterService)
WEBHOOK_DELIVERIES = web.AppKey("webhook_deliveries", DeliveryService)
EVENT_LOG = web.AppKey("event_log", EventLog)  # of published events
# Applies an inbound event; the cases component sets it.
INBOUND_EVENT_APPLIER = web.AppKey[ApplyEvent]("inbound_event_applier")


@dataclass(frozen=True, slots=True)
class EventTimings:
    """Timings of the parts of the events component."""

    backlog_refresh_interval: float = 5.0  # seconds between refreshes of the gauges of outbox, stream and webhooks
    broker: RedisBrokerTimings = field(default_factory=RedisBrokerTimings)
    log: RedisBrokerTimings = field(default_factory=RedisBrokerTimings)
    note_ttl: float = 15.0  # of what replicas tell one another beside the log
    relay: RelayTimings = field(default_factory=RelayTimings)
    consumer: ConsumerTimings = field(default_factory=ConsumerTimings)
    webhooks: WebhookTimings = field(default_factory=WebhookTimings)


def setup(app: web.Application, settings: EventSettings, redis_url: str | None, timings: EventTimings) -> None:
    """Add the relay, the consumer and webhooks. Without a Redis URL, events stay in this process."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        database, instruments = app[DATABASE], app[INSTRUMENTS]
        broker = app[BROKER] = _create_broker(app, redis_url, timings.broker)
        event_log = app[EVENT_LOG] = _create_log(app, broker, settings.stream, redis_url, timings)
        endpoints = [WebhookEndpoint(each.name, each.url, each.secret, each.types) for each in settings.webhooks]
        consumer = app[EVENT_CONSUMER] = EventConsumer(
            broker,
            app[INBOUND_EVENT_APPLIER],
            instruments,
            stream=settings.inbound_stream,
            claim_after=settings.claim_after,
            ping=database.ping,
            timings=timings.consumer,
        )
        app[DEAD_LETTERS] = DeadLetterService(database, broker, settings.inbound_stream)
        app[WEBHOOK_DELIVERIES] = DeliveryService(database)
        relay = app[OUTBOX_RELAY] = OutboxRelay(
            database,
            broker,
            instruments,
            stream=settings.stream,
            max_stream_length=0 if isinstance(broker, InMemoryBroker) else settings.keep,  # in memory it has no readers
            endpoints=endpoints,
            timings=timings.relay,
        )
        async with AsyncExitStack() as stack:
            # Each endpoint limits its own concurrent deliveries. With one limit for all, some would starve others.
            session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=LimitedConnector(),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    trace_configs=[client_metrics(instruments)],
                )
            )
            webhooks = app[WEBHOOK_SENDER] = WebhookSender(
                database, session, instruments, endpoints, relay.is_leader, timings=timings.webhooks
            )
            await asyncio.gather(relay.refresh_backlog(), consumer.refresh_backlog(), webhooks.refresh())
            refresh_every = partial(run_every, timings.backlog_refresh_interval)
            if not isinstance(broker, InMemoryBroker):
                await stack.enter_async_context(monitored_server(app[REDIS_SERVERS], "events", broker.client))
            for work in (
                relay.run(),
                refresh_every(relay.refresh_backlog, "Reading the outbox backlog"),
                refresh_every(consumer.refresh_backlog, "Reading the inbound backlog"),
                run_every(PURGE_INTERVAL, partial(delete_expired, database), "Deleting old event ids"),
                *([consumer.run()] if settings.consume else []),
                webhooks.run(),  # also without endpoints: it ends deliveries to removed endpoints
                refresh_every(webhooks.refresh, "Counting webhook deliveries"),
            ):
                await stack.enter_async_context(run_in_background(work))
            yield
            if isinstance(broker, InMemoryBroker) and settings.consume:  # events in process memory are lost on exit
                await consumer.finish(app[READINESS].stop_by)
        await relay.close()
        await broker.close()
        await event_log.close()

    app.cleanup_ctx.append(run)


def _create_broker(
    app: web.Application, redis_url: str | None, timings: RedisBrokerTimings
) -> "InMemoryBroker | RedisBroker":
    if redis_url is None:
        return InMemoryBroker()
    from support_service.events.broker.redis import RedisBroker

    measure = operation_metrics(app, "redis", BROKER_OPERATIONS).record
    broker = RedisBroker(redis_url, measure, timings)
    app[CONNECTION_POOLS]["events"] = broker.connections
    return broker


def _create_log(
    app: web.Application, broker: Broker, stream: str, redis_url: str | None, timings: EventTimings
) -> EventLog:
    if redis_url is None:
        assert isinstance(broker, InMemoryBroker)  # noqa: S101 - without a URL there is no other
        return broker.log(stream)
    from support_service.events.broker.redis_log import RedisLog

    event_log = RedisLog(redis_url, stream, timings.note_ttl, timings.log)
    app[CONNECTION_POOLS]["stream"] = event_log.connections
    return event_log
