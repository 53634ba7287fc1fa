"""Opens the parts of the service that take several steps, each with its jobs, as the settings choose it.

A runner closes them. What only a part needs that the settings choose is imported with it.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from support_service.attachments.maintenance.jobs import AttachmentMaintenance, MaintenanceTimings
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage import open_storages
from support_service.cases.case_files import CaseFileLimits, CaseFiles
from support_service.cases.clocks.breaches import BreachDetector, DetectorTimings
from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.gauges import CaseGauges, ClockGauges, GaugeTimings
from support_service.cases.recorder import CaseRecorder
from support_service.cases.service import CaseLimits, CaseService
from support_service.cases.snoozes import SnoozeWaker, WakerTimings
from support_service.core.domain.upstream_services import SOURCES
from support_service.events.broker.base import Broker, RedisBrokerTimings
from support_service.events.broker.log import EventLog
from support_service.events.broker.memory import InMemoryBroker
from support_service.events.consumer import PURGE_INTERVAL, ApplyEvent, ConsumerTimings, EventConsumer, delete_expired
from support_service.events.relay import OutboxRelay, RelayTimings
from support_service.events.webhook_sender import WebhookSender, WebhookTimings
from support_service.guard.overload import Readiness
from support_service.platform.access.authenticator import (
    ACCESS_KEYS_AGE,
    ACCESS_TOKENS_AGE,
    AnonymousAuthenticator,
    Authenticator,
    BearerAuthenticator,
)
from support_service.platform.access.sessions import BrowserSessions
from support_service.platform.access.timings import AccessTimings
from support_service.platform.background import Job, Runner
from support_service.platform.database import Database, DatabaseTimings
from support_service.platform.database.shared import observe_database, open_database
from support_service.platform.http_client import limited_session
from support_service.platform.settings import Settings
from support_service.platform.settings.resources import DatabaseSettings, EventSettings, TimelineSettings
from support_service.platform.telemetry.http import client_metrics
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.stores import (
    BROKER_OPERATIONS,
    DATABASE_OPERATIONS,
    REDIS_OPERATIONS,
    watch_redis,
)
from support_service.platform.telemetry.telemetry import Telemetry
from support_service.timeline.aggregator import AggregatorTimings, TimelineAggregator
from support_service.timeline.cache import InProcessCache, RedisCacheTimings, SnapshotStore
from support_service.timeline.overrides import REFRESH_INTERVAL, TIMELINE_SOURCE_ENABLED, Overrides
from support_service.timeline.source_client import TIMELINE_BREAKER, SourceClient, breaker_states, create_session
from support_service.timeline.source_health import BreakerTimings

if TYPE_CHECKING:  # loads the packages that verify JWTs
    from support_service.platform.access.keys import JwksCache
    from support_service.platform.access.oidc import OidcProvider


POLICY_REFRESH_INTERVAL = 2.0  # seconds until a policy that another replica has changed applies here
SOURCE_CONNECTIONS = 32  # concurrent calls to one source
REDIS_TIMEOUT = 0.045  # seconds for Redis to answer, before a read continues without it
STALE_TTL = 3600.0  # seconds for which a stale answer replaces a failed call, beyond SUPPORT_TIMELINE_CACHE_TTL
KEEP_PUBLISHED = timedelta(hours=1)  # in the database, to be published again after a failover of Redis
KEEP_INBOUND = 10_000  # applied inbound events, for `support-service restored`; or a tenth of SUPPORT_EVENTS_KEEP
CLAIM_AFTER = 10.0  # seconds until an unacknowledged event is delivered again
NOTE_TTL = 15.0  # seconds, of what replicas tell one another beside the log

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SlaTimings:
    """Intervals and limits of service levels."""

    detector: DetectorTimings = field(default_factory=DetectorTimings)
    gauges: GaugeTimings = field(default_factory=lambda: GaugeTimings(refresh_interval=5.0))


@dataclass(frozen=True, slots=True)
class CaseTimings:
    """Intervals and limits of cases."""

    gauges: GaugeTimings = field(default_factory=GaugeTimings)
    waker: WakerTimings = field(default_factory=WakerTimings)
    limits: CaseLimits = field(default_factory=CaseLimits)
    files: CaseFileLimits = field(default_factory=CaseFileLimits)


@dataclass(frozen=True, slots=True)
class TimelineTimings:
    """Times in seconds."""

    override_refresh_interval: float = REFRESH_INTERVAL
    aggregator: AggregatorTimings = AggregatorTimings()
    breaker: BreakerTimings = BreakerTimings()
    redis: RedisCacheTimings = RedisCacheTimings()


@dataclass(frozen=True, slots=True)
class AttachmentTimings:
    """Intervals and limits of attachments."""

    # Seconds between updates of the gauges, which include files of other replicas, and merges of the ledger.
    backlog_refresh_interval: float = 10.0
    maintenance: MaintenanceTimings = field(default_factory=MaintenanceTimings)


@dataclass(frozen=True, slots=True)
class EventTimings:
    """Intervals and limits of events."""

    backlog_refresh_interval: float = 5.0  # seconds between refreshes of the gauges of outbox, stream and webhooks
    broker: RedisBrokerTimings = field(default_factory=RedisBrokerTimings)
    log: RedisBrokerTimings = field(default_factory=RedisBrokerTimings)
    relay: RelayTimings = field(default_factory=RelayTimings)
    consumer: ConsumerTimings = field(default_factory=ConsumerTimings)
    webhooks: WebhookTimings = field(default_factory=WebhookTimings)


async def open_access(
    runner: Runner, settings: Settings, instruments: Instruments, timings: AccessTimings
) -> tuple[Authenticator, "OidcProvider | None"]:
    """Return what identifies callers, and the provider that people sign in at, if there is one.

    Raises Unavailable if the tokens or the keys can't be loaded.
    """
    auth, access = settings.server.auth, settings.access
    key_sets: list[JwksCache] = []
    instruments.observe(ACCESS_KEYS_AGE, lambda: [(max((keys.age for keys in key_sets), default=0), {})])
    if auth != "token":
        instruments.observe(ACCESS_TOKENS_AGE, lambda: [(0, {})])  # without a token file
    provider = None
    if settings.sign_in.issuer:
        from support_service.platform.access.oidc import open_provider

        provider = await open_provider(runner, access, settings.sign_in, instruments, timings)
        key_sets.append(provider.verifier.keys)
    if auth == "open":
        return AnonymousAuthenticator(), provider
    if auth == "token":
        from support_service.platform.access.tokens import FileTokenVerifier

        tokens = FileTokenVerifier(access.tokens_file, timings=timings)
        instruments.observe(ACCESS_TOKENS_AGE, lambda: [(tokens.age, {})])
        await tokens.start(runner)
        return BearerAuthenticator(tokens, instruments), provider
    from support_service.platform.access.jwt import JwtVerifier
    from support_service.platform.access.keys import ReadKeys, open_key_source
    from support_service.platform.telemetry.http import client_metrics

    if provider is not None and not access.jwt_keys:
        read: ReadKeys = provider.read_keys
        required, variable = False, "SUPPORT_OIDC_ISSUER"
        issuer, audience = access.jwt_issuer or provider.issuer, access.jwt_audience or provider.client_id
        access = access.model_copy(update={"jwt_issuer": issuer, "jwt_audience": audience})
    else:
        location = access.jwt_keys or ""
        source = open_key_source(location, trace_configs=[client_metrics(instruments)])
        read = await runner.enter_async_context(source)
        required, variable = "://" not in location, "SUPPORT_JWT_KEYS"
    # Tokens for another audience than the client's are issued to programs, which have ids of their own.
    client_id = settings.sign_in.client_id
    jwts = JwtVerifier(
        read,
        access,
        required=required,
        client_id=client_id if client_id == access.jwt_audience else None,
        timings=timings.jwks,
        variable=variable,
    )
    key_sets.append(jwts.keys)
    await jwts.keys.start(runner)
    return BearerAuthenticator(jwts, instruments), provider


def open_sessions(
    runner: Runner,
    settings: Settings,
    database: Database,
    authenticator: Authenticator,
    *,
    provider: "OidcProvider | None",
    timings: AccessTimings,
) -> BrowserSessions | None:
    """Open the sessions of browsers; None without authentication."""
    if settings.server.auth == "open":
        return None
    sessions = BrowserSessions(
        database,
        authenticator,
        timings.sessions,
        provider=provider,
        outage_grace=settings.sign_in.outage_grace,
        timings=timings.sign_in,
    )
    runner.push_async_callback(sessions.close)
    return sessions


async def open_monitored_database(
    runner: Runner, settings: DatabaseSettings, telemetry: Telemetry, timings: DatabaseTimings
) -> Database:
    """Open the database, measured by `telemetry`. Raises Unavailable if it can't be used."""
    measure = telemetry.operation_recorder(settings.url.partition(":")[0], DATABASE_OPERATIONS)
    database = await runner.enter_async_context(
        open_database(settings, pool_size=settings.pool_size, measure=measure, timings=timings)
    )
    telemetry.pools["database"] = database.pool_state
    await observe_database(runner, database, telemetry.instruments, timings.clock_interval)
    return database


async def open_clocks(
    runner: Runner, database: Database, instruments: Instruments, timings: SlaTimings
) -> ClockTracker:
    """Follow the policies and report breaches, at first at the start."""
    policies = KnownPolicies(database)
    await policies.refresh()
    detector = BreachDetector(database, policies, instruments, timings.detector)
    gauges = ClockGauges(database, instruments, timings.gauges)
    await gauges.refresh()
    runner.push_async_callback(_release_lease, detector)
    runner.run(
        Job("Reading service level policies", POLICY_REFRESH_INTERVAL, policies.refresh),
        Job("Reporting breaches of service levels", timings.detector.interval, detector.run, first=0),
        Job("Reading the clocks of cases", timings.gauges.refresh_interval, gauges.refresh),
    )
    return ClockTracker(policies, instruments)


async def open_cases(
    runner: Runner,
    database: Database,
    recorder: CaseRecorder,
    instruments: Instruments,
    *,
    files: CaseFiles,
    timings: CaseTimings,
) -> CaseService:
    """Open the case service, count open cases, and end snoozes."""
    gauges = CaseGauges(database, instruments, timings.gauges)
    await gauges.refresh()
    waker = SnoozeWaker(database, recorder, instruments, timings.waker)
    runner.push_async_callback(_release_lease, waker)
    runner.run(
        Job("Counting open cases", timings.gauges.refresh_interval, gauges.refresh),
        Job("Opening snoozed cases", timings.waker.interval, waker.run, first=0),
    )
    return CaseService(database, recorder, timings.limits, files)


async def _release_lease(job: BreachDetector | SnoozeWaker) -> None:
    try:
        await job.close()
    except Exception as error:  # noqa: BLE001 - a shutdown must not fail
        log.warning("The lease of %s was not released: %r", type(job).__name__, error)


def open_cache(
    runner: Runner, settings: TimelineSettings, telemetry: Telemetry, timings: RedisCacheTimings
) -> SnapshotStore:
    """Open the cache of timelines: in the Redis of the settings, or in this process."""
    if settings.redis_url is None:
        return InProcessCache()
    from support_service.timeline.redis_cache import RedisCache

    measure = telemetry.operation_recorder("redis", REDIS_OPERATIONS)
    cache = RedisCache(settings.redis_url, REDIS_TIMEOUT, measure, timings)
    telemetry.pools["cache"] = cache.connection.pool_state
    runner.push_async_callback(cache.close)
    runner.run(watch_redis(telemetry.redis_servers, "cache", cache.connection.client))
    return cache


async def open_timeline(
    runner: Runner,
    settings: Settings,
    database: Database,
    cache: SnapshotStore,
    telemetry: Telemetry,
    *,
    timings: TimelineTimings,
) -> TimelineAggregator:
    """Open a client of each upstream service that has a URL, and follow the overrides."""
    instruments, urls, times = telemetry.instruments, settings.upstream_urls, settings.timeline
    overrides = Overrides(database)
    await overrides.refresh()
    instruments.observe(TIMELINE_SOURCE_ENABLED, lambda: overrides.observe_enabled(urls))
    session = await runner.enter_async_context(create_session(telemetry.tracing.client_trace_configs()))
    sources = [
        SourceClient(
            SOURCES[service],
            url,
            session,
            instruments,
            timeout=times.source_timeout,
            connections=SOURCE_CONNECTIONS,
            breaker_timings=timings.breaker,
        )
        for service, url in urls.items()
    ]
    instruments.observe(TIMELINE_BREAKER, lambda: breaker_states(sources))
    timeline = TimelineAggregator(
        sources,
        cache,
        overrides,
        instruments,
        ttl=times.cache_ttl,
        stale_ttl=STALE_TTL,
        deadline=times.deadline,
        timings=timings.aggregator,
    )
    runner.push_async_callback(timeline.close)
    runner.run(Job("Reading the timeline overrides", timings.override_refresh_interval, overrides.refresh))
    return timeline


async def open_attachments(
    runner: Runner,
    settings: Settings,
    database: Database,
    instruments: Instruments,
    files: CaseFiles,
    *,
    timings: AttachmentTimings,
) -> AttachmentService:
    """Open the storages and the service of attachments, and run the maintenance jobs.

    Raises Unavailable if the directory can't be used. The bucket is first asked when it is used.
    """
    storages = await runner.enter_async_context(open_storages(settings, instruments))
    service = AttachmentService(database, storages, instruments, settings.attachments, files=files)
    maintenance = AttachmentMaintenance(database, storages, instruments, settings, timings.maintenance)
    backlog = service.backlog
    await backlog.refresh()
    runner.run(Job("Reading the attachment backlog", timings.backlog_refresh_interval, backlog.refresh_and_merge))
    runner.run(*maintenance.jobs())
    return service


def open_broker(runner: Runner, redis_url: str | None, telemetry: Telemetry, timings: RedisBrokerTimings) -> Broker:
    """Open the broker. Without a Redis URL, events stay in this process."""
    if redis_url is None:
        in_memory = InMemoryBroker()
        runner.push_async_callback(in_memory.close)
        return in_memory
    from support_service.events.broker.redis import RedisBroker

    measure = telemetry.operation_recorder("redis", BROKER_OPERATIONS)
    broker = RedisBroker(redis_url, measure, timings, telemetry.tracing.message_spans("redis"))
    telemetry.pools["events"] = broker.connections
    runner.push_async_callback(broker.close)
    runner.run(watch_redis(telemetry.redis_servers, "events", broker.client))
    return broker


def open_log(
    runner: Runner, settings: Settings, broker: Broker, telemetry: Telemetry, timings: RedisBrokerTimings
) -> EventLog:
    """Open the log of published events."""
    redis_url, stream = settings.events_redis_url, settings.events.stream
    if redis_url is None:
        assert isinstance(broker, InMemoryBroker)  # noqa: S101 - without a URL there is no other
        event_log: EventLog = broker.log(stream)
    else:
        from support_service.events.broker.redis_log import RedisLog

        redis_log = event_log = RedisLog(redis_url, stream, NOTE_TTL, timings)
        telemetry.pools["stream"] = redis_log.connections
    runner.push_async_callback(event_log.close)
    return event_log


async def open_relay(
    runner: Runner,
    settings: EventSettings,
    database: Database,
    broker: Broker,
    telemetry: Telemetry,
    *,
    timings: EventTimings,
) -> tuple[OutboxRelay, WebhookSender]:
    """Publish the outbox to the broker and to webhooks, and what is left of it at the end."""
    instruments = telemetry.instruments
    relay = OutboxRelay(
        database,
        broker,
        instruments,
        stream=settings.stream,
        max_stream_length=0 if isinstance(broker, InMemoryBroker) else settings.keep,  # in memory it has no readers
        keep_published=timedelta(0) if isinstance(broker, InMemoryBroker) else KEEP_PUBLISHED,
        endpoints=settings.webhooks,
        timings=timings.relay,
    )
    runner.push_async_callback(relay.close)
    # Each endpoint limits its own concurrent deliveries. With one limit for all, some would starve others.
    session = await runner.enter_async_context(limited_session([client_metrics(instruments)]))
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
    runner.run(
        relay.run(),
        Job("Reading the outbox backlog", timings.backlog_refresh_interval, relay.refresh_backlog),
        webhooks.run(),  # also without endpoints: it ends deliveries to removed endpoints
        Job("Counting webhook deliveries", timings.backlog_refresh_interval, webhooks.refresh),
    )
    return relay, webhooks


async def open_consumer(
    runner: Runner,
    settings: EventSettings,
    database: Database,
    broker: Broker,
    telemetry: Telemetry,
    *,
    apply: ApplyEvent,
    readiness: Readiness,
    timings: EventTimings,
) -> EventConsumer:
    """Consume inbound events."""
    is_in_memory = isinstance(broker, InMemoryBroker)
    consumer = EventConsumer(
        broker,
        apply,
        telemetry.instruments,
        stream=settings.inbound_stream,
        keep=max(KEEP_INBOUND, settings.keep // 10),
        claim_after=CLAIM_AFTER,
        ping=database.ping,
        timings=timings.consumer,
        spans=telemetry.tracing.message_spans("memory" if is_in_memory else "redis"),
    )
    await consumer.refresh_backlog()
    runner.run(
        Job("Reading the inbound backlog", timings.backlog_refresh_interval, consumer.refresh_backlog),
        Job("Deleting old event ids", PURGE_INTERVAL, partial(delete_expired, database)),
        consumer.run(),
    )
    if is_in_memory:  # events in process memory are lost on exit
        runner.push_async_callback(lambda: consumer.handle_waiting(readiness.stop_by))
    return consumer
