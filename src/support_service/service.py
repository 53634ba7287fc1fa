"""The service: every part of it, opened in the order in which parts depend on each other.

Parts close in reverse. Packages that the settings don't need are not imported: redis, joserfc and cryptography,
obstore, asyncpg, OpenTelemetry's exporters. See tests/e2e/test_imports.py.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

from support_service.api.case_document.cached_documents import CaseDocuments
from support_service.api.dependency_status import DEPENDENCY_STATUS, REPLICA_READY, DependencyMonitor
from support_service.attachments.maintenance.jobs import AttachmentMaintenance
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage import open_storages
from support_service.cases import gauges as case_gauges
from support_service.cases import snoozes
from support_service.cases.case_erasure import erasure_rules_of_events
from support_service.cases.case_files import CaseFiles
from support_service.cases.clocks import breaches
from support_service.cases.clocks.clock_tracker import ClockTracker
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.inbound_handler import InboundEventHandler
from support_service.cases.known_agents import DIRECTORY_REFRESH_INTERVAL, KnownAgents
from support_service.cases.links import LinkService
from support_service.cases.masking import Masker
from support_service.cases.notifier import Notifier
from support_service.cases.recorder import CaseRecorder
from support_service.cases.service import CaseService
from support_service.cases.splitting import CaseSplitter
from support_service.core.domain.upstream_services import SOURCES
from support_service.core.errors import UserError
from support_service.core.pagination import CursorSeal
from support_service.desk import notifications as notes
from support_service.desk.agents import CLAIMS_INTERVAL, AgentDirectory
from support_service.desk.bulk import BulkService
from support_service.desk.customers import CustomerRecords
from support_service.desk.macros import MacroService
from support_service.desk.notifications import NotificationService
from support_service.desk.policies import PolicyService
from support_service.desk.views import ViewService
from support_service.events.broker.base import Broker
from support_service.events.broker.log import EventLog
from support_service.events.broker.memory import InMemoryBroker
from support_service.events.consumer import PURGE_INTERVAL, EventConsumer, delete_expired
from support_service.events.dead_letters import DeadLetterService
from support_service.events.delivery_replay import DeliveryService
from support_service.events.relay import OutboxRelay
from support_service.events.webhook_sender import WebhookSender
from support_service.guard.fair_turns import FairTurns, bulk_changes_waiting_error
from support_service.guard.guard import Guard
from support_service.oncall.judge import Judge
from support_service.oncall.prometheus import PrometheusAlerts
from support_service.platform.access.authenticator import (
    ACCESS_KEYS_AGE,
    ACCESS_TOKENS_AGE,
    AnonymousAuthenticator,
    Authenticator,
    BearerAuthenticator,
)
from support_service.platform.access.callers import Callers
from support_service.platform.access.sessions import BrowserSessions
from support_service.platform.access.sign_ins import PendingSignIns
from support_service.platform.audit import log as audit_log
from support_service.platform.audit import watch as audit_watch
from support_service.platform.audit.log import Sealer
from support_service.platform.audit.watch import ChainWatch
from support_service.platform.background import Job, Pause, Runner
from support_service.platform.certificates import watch_certificates
from support_service.platform.database.shared import observe_database, open_database, read_secret, read_version_base
from support_service.platform.http_client import limited_session
from support_service.platform.idempotency_keys import CLEANUP_INTERVAL, SETTLE_INTERVAL, IdempotencyService
from support_service.platform.settings import Settings
from support_service.platform.settings.process import AccessSettings
from support_service.platform.telemetry.http import client_metrics
from support_service.platform.telemetry.stores import (
    BROKER_OPERATIONS,
    DATABASE_OPERATIONS,
    REDIS_OPERATIONS,
    watch_redis,
)
from support_service.platform.telemetry.telemetry import Telemetry
from support_service.reports import counters
from support_service.stream.service import ChangeStream
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache import InProcessCache, SnapshotStore
from support_service.timeline.overrides import TIMELINE_SOURCE_ENABLED, Overrides, OverrideService
from support_service.timeline.source_client import TIMELINE_BREAKER, SourceClient, breaker_states, create_session
from support_service.timings import Timings

if TYPE_CHECKING:  # they load the packages that verify JWTs
    from support_service.platform.access.keys import JwksCache
    from support_service.platform.access.oidc import OidcProvider

# Seconds between updates of the gauges, which include files of other replicas, and merges of the ledger.
ATTACHMENT_BACKLOG_INTERVAL = 10.0
POLICY_REFRESH_INTERVAL = 2.0  # seconds until a policy that another replica has changed applies here
SOURCE_CONNECTIONS = 32  # concurrent calls to one source
REDIS_TIMEOUT = 0.045  # seconds for Redis to answer, before a read continues without it
STALE_TTL = 3600.0  # seconds for which a stale answer replaces a failed call, beyond SUPPORT_TIMELINE_CACHE_TTL
KEEP_PUBLISHED = timedelta(hours=1)  # in the database, to be published again after a failover of Redis
KEEP_INBOUND = 10_000  # applied inbound events, for `support-service restored`; or a tenth of SUPPORT_EVENTS_KEEP
CLAIM_AFTER = 10.0  # seconds until an unacknowledged event is delivered again
CASE_CACHE_BYTES = 64 * 1024 * 1024  # of a replica, for cases that were read
NOTE_TTL = 15.0  # seconds, of what replicas tell one another beside the log

log = logging.getLogger(__name__)


@asynccontextmanager
async def open_service(
    settings: Settings, timings: Timings, telemetry: Telemetry, guard: Guard
) -> AsyncIterator["Service"]:
    """Open every part during a `with` block.

    Raises Unavailable if the database, the attachment directory or the tokens can't be used. Raises UserError if a
    server that is configured as Redis answers in another way.
    """
    async with Runner() as runner:
        service = Service(settings, timings, telemetry, guard, runner)
        await service.open()
        yield service


class Service:
    """The parts of a running service. Each is opened after the parts that it needs, and its jobs run from then on.

    The runner ends jobs and closes parts in reverse order.
    """

    admin_url: str | None = None  # base URL of the admin server, if there is one

    def __init__(
        self, settings: Settings, timings: Timings, telemetry: Telemetry, guard: Guard, runner: Runner
    ) -> None:
        self._runner = runner
        self._telemetry = telemetry
        self._instruments = telemetry.instruments
        self.settings = settings
        self.timings = timings
        self.metrics = telemetry.metrics
        self.loop_lag = telemetry.loop_lag
        self.guard = guard
        self.readiness = guard.readiness
        self.masker = Masker(settings.server.masking_key, settings.cases.known_channels)
        self.turns = FairTurns(timings.api.turns)  # of searches and counts
        self.bulk_turns = FairTurns(timings.api.bulk_turns, bulk_changes_waiting_error)
        self.serves_metrics = settings.access.admin_port is None  # on this port

    async def open(self) -> None:
        """Open the parts in the order in which they depend on each other."""
        runner, settings = self._runner, self.settings
        erasure_rules_of_events()  # a field of an event without a rule stops the start
        runner.push_async_callback(self._telemetry.close)  # last: parts that close still record
        runner.run(self.loop_lag.run())
        runner.run(_await_answers(await _check_redis(settings.redis_urls), self.timings.api.redis_interval))
        await runner.enter_async_context(self.guard.running(self._telemetry, settings.timeline.redis_url))
        await self._open_access()  # a service that can't identify callers must not start
        await self._open_database()
        await self._open_clocks()
        await self._open_cases()
        self.cache = self._open_cache()
        await self._open_timeline()
        await self._open_attachments()
        self._open_desk()
        self.broker = self._open_broker()
        event_log = self._open_log()
        await self._open_relay()
        await self._open_consumer()
        runner.run(*watch_certificates(settings.called_servers, self._instruments))
        await self._open_stream(event_log)
        await self._open_oncall()

    async def _open_access(self) -> None:
        settings, timings, instruments = self.settings, self.timings.access, self._instruments
        auth, access = settings.server.auth, settings.access
        key_sets: list[JwksCache] = []
        instruments.observe(ACCESS_KEYS_AGE, lambda: [(max((keys.age for keys in key_sets), default=0), {})])
        if auth != "token":
            instruments.observe(ACCESS_TOKENS_AGE, lambda: [(0, {})])  # without a token file
        # None without authentication.
        self.callers = None if auth == "open" else Callers(instruments, timings.callers)
        self.provider: OidcProvider | None = None  # of the sign-in, if there is one
        self.authenticator: Authenticator = AnonymousAuthenticator()
        if settings.sign_in.issuer:
            from support_service.platform.access import oidc

            timeout = aiohttp.ClientTimeout(total=timings.sign_in.http_timeout)
            session = await self._runner.enter_async_context(
                limited_session([client_metrics(instruments)], timeout=timeout)
            )
            self.provider = oidc.OidcProvider(session, access, settings.sign_in, instruments, timings=timings)
            await self.provider.verifier.keys.start(self._runner)
            key_sets.append(self.provider.verifier.keys)
        if auth == "token":
            from support_service.platform.access.tokens import FileTokenVerifier

            tokens = FileTokenVerifier(access.tokens_file, timings=timings)
            instruments.observe(ACCESS_TOKENS_AGE, lambda: [(tokens.age, {})])
            await tokens.start(self._runner)
            self.authenticator = BearerAuthenticator(tokens, instruments)
        elif auth == "jwt":
            keys = await self._open_jwts(access)
            key_sets.append(keys)

    async def _open_jwts(self, access: AccessSettings) -> "JwksCache":
        from support_service.platform.access.jwt import JwtVerifier
        from support_service.platform.access.keys import ReadKeys, open_key_source

        provider = self.provider
        if provider is not None and not access.jwt_keys:
            read: ReadKeys = provider.read_keys
            required, variable = False, "SUPPORT_OIDC_ISSUER"
            issuer, audience = access.jwt_issuer or provider.issuer, access.jwt_audience or provider.client_id
            access = access.model_copy(update={"jwt_issuer": issuer, "jwt_audience": audience})
        else:
            location = access.jwt_keys or ""
            source = open_key_source(location, trace_configs=[client_metrics(self._instruments)])
            read = await self._runner.enter_async_context(source)
            required, variable = "://" not in location, "SUPPORT_JWT_KEYS"
        # Tokens for another audience than the client's are issued to programs, which have ids of their own.
        client_id = self.settings.sign_in.client_id
        jwts = JwtVerifier(
            read,
            access,
            required=required,
            client_id=client_id if client_id == access.jwt_audience else None,
            timings=self.timings.access.jwks,
            variable=variable,
        )
        await jwts.keys.start(self._runner)
        self.authenticator = BearerAuthenticator(jwts, self._instruments)
        return jwts.keys

    async def _open_database(self) -> None:
        settings, timings, telemetry, runner = self.settings.database, self.timings, self._telemetry, self._runner
        measure = telemetry.operation_recorder(settings.url.partition(":")[0], DATABASE_OPERATIONS)
        self.database = database = await runner.enter_async_context(
            open_database(settings, pool_size=settings.pool_size, measure=measure, timings=timings.database)
        )
        telemetry.pools["database"] = database.pool_state
        await observe_database(runner, database, self._instruments, timings.database.clock_interval)
        self.cursors = CursorSeal(await read_secret(database, "cursors"))
        self.version_base = await read_version_base(database)  # of the versions that clients see
        self.sign_ins = PendingSignIns(database, timings.access.sessions)
        self.sessions: BrowserSessions | None = None  # None without authentication
        if self.settings.server.auth != "open":
            self.sessions = BrowserSessions(
                database,
                self.authenticator,
                timings.access.sessions,
                provider=self.provider,
                outage_grace=self.settings.sign_in.outage_grace,
                timings=timings.access.sign_in,
            )
            runner.push_async_callback(self.sessions.close)
        self.idempotency = IdempotencyService(database)
        runner.run(
            Job("Deleting old idempotency keys", CLEANUP_INTERVAL, self.idempotency.delete_expired),
            Job("Settling idempotency keys", SETTLE_INTERVAL, self.idempotency.settle_again),
        )
        self.sealer = Sealer(database, self._instruments)
        await self.sealer.refresh_gauges()
        pause = Pause(audit_log.SEAL_INTERVAL, audit_log.POLL_INTERVAL, database.changed.subscribe())
        runner.run(Job("Sealing the audit log", pause, self.sealer.run))

    async def _open_clocks(self) -> None:
        database, instruments = self.database, self._instruments
        policies = KnownPolicies(database)
        await policies.refresh()
        detector = breaches.BreachDetector(database, policies, instruments)
        gauges = case_gauges.ClockGauges(database, instruments)
        await gauges.refresh()
        self._runner.push_async_callback(_release_lease, detector)
        self._runner.run(
            Job("Reading service level policies", POLICY_REFRESH_INTERVAL, policies.refresh),
            Job("Reporting breaches of service levels", breaches.INTERVAL, detector.run, first=0),
            Job("Reading the clocks of cases", case_gauges.CLOCK_REFRESH_INTERVAL, gauges.refresh),
        )
        self._clocks = ClockTracker(policies, instruments)
        self.policies = PolicyService(database, policies, max_policies=self.timings.max_policies)

    async def _open_cases(self) -> None:
        database, instruments, settings = self.database, self._instruments, self.settings
        run = self._runner.run
        self._known_agents = KnownAgents(database)
        await self._known_agents.refresh()
        run(Job("Reading the directory", DIRECTORY_REFRESH_INTERVAL, self._known_agents.refresh))
        self._recorder = CaseRecorder(instruments, self._clocks, settings.cases, Notifier(self._known_agents))
        self._files = CaseFiles(settings.server.url_prefix)
        self.cases = CaseService(database, self._recorder, self._files)
        self.links = LinkService(database, self._recorder)
        self.splitter = CaseSplitter(database, self._recorder)
        gauges = case_gauges.CaseGauges(database, instruments)
        await gauges.refresh()
        waker = snoozes.SnoozeWaker(database, self._recorder, instruments)
        self._runner.push_async_callback(_release_lease, waker)
        run(
            Job("Counting open cases", case_gauges.CASE_REFRESH_INTERVAL, gauges.refresh),
            Job("Opening snoozed cases", snoozes.INTERVAL, waker.run, first=0),
        )
        self.reports = counters.ReportCounters(database, settings.cases.known_channels)
        run(Job("Adding to the counters of reports", counters.ADD_INTERVAL, self.reports.add_occurrences))
        self.agents = AgentDirectory(database, self._known_agents)
        run(Job("Storing the claims of people", CLAIMS_INTERVAL, self.agents.store_claims))

    def _open_cache(self) -> SnapshotStore:
        settings, telemetry = self.settings.timeline, self._telemetry
        if settings.redis_url is None:
            return InProcessCache()
        from support_service.timeline.redis_cache import RedisCache

        measure = telemetry.operation_recorder("redis", REDIS_OPERATIONS)
        cache = RedisCache(settings.redis_url, REDIS_TIMEOUT, measure, self.timings.timeline.redis)
        telemetry.pools["cache"] = cache.connection.pool_state
        self._runner.push_async_callback(cache.close)
        self._runner.run(watch_redis(telemetry.redis_servers, "cache", cache.connection.client))
        return cache

    async def _open_timeline(self) -> None:
        instruments, urls, times = self._instruments, self.settings.upstream_urls, self.settings.timeline
        runner, timings = self._runner, self.timings.timeline
        overrides = Overrides(self.database)
        await overrides.refresh()
        instruments.observe(TIMELINE_SOURCE_ENABLED, lambda: overrides.observe_enabled(urls))
        session = await runner.enter_async_context(create_session(self._telemetry.tracing.client_trace_configs()))
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
        self.timeline = TimelineAggregator(
            sources,
            self.cache,
            overrides,
            instruments,
            ttl=times.cache_ttl,
            stale_ttl=STALE_TTL,
            deadline=times.deadline,
            timings=timings.aggregator,
        )
        self.overrides = OverrideService(self.database, overrides)
        runner.push_async_callback(self.timeline.close)
        runner.run(Job("Reading the timeline overrides", timings.override_refresh_interval, overrides.refresh))
        self.documents = CaseDocuments(
            self.cases,
            self.timeline,
            self.masker,
            instruments,
            self._clocks.policies,
            agents=self._known_agents,
            public_url=self.settings.server.url_prefix,
            max_bytes=CASE_CACHE_BYTES,
        )

    async def _open_attachments(self) -> None:
        settings, database, instruments = self.settings, self.database, self._instruments
        run = self._runner.run
        storages = await self._runner.enter_async_context(open_storages(settings, instruments))
        self.attachments = AttachmentService(database, storages, instruments, settings.attachments, files=self._files)
        backlog = self.attachments.backlog
        maintenance = AttachmentMaintenance(database, storages, instruments, settings)
        await backlog.refresh()
        run(Job("Reading the attachment backlog", ATTACHMENT_BACKLOG_INTERVAL, backlog.refresh_and_merge))
        run(*maintenance.jobs())

    def _open_desk(self) -> None:
        database, run = self.database, self._runner.run
        self.customers = CustomerRecords(database)
        self.views = ViewService(database)
        self.macros = MacroService(database)
        self.bulk = bulk = BulkService(database, self._recorder)
        run(Job("Deleting old bulk changes", CLEANUP_INTERVAL, bulk.delete_expired))
        self.notifications = NotificationService(database, self._recorder, self._known_agents)
        run(Job("Deleting old notifications", notes.CLEANUP_INTERVAL, self.notifications.delete_expired))

    def _open_broker(self) -> Broker:
        """Open the broker. Without a Redis URL, events stay in this process."""
        url, telemetry, runner = self.settings.events_redis_url, self._telemetry, self._runner
        if url is None:
            in_memory = InMemoryBroker()
            runner.push_async_callback(in_memory.close)
            return in_memory
        from support_service.events.broker.redis import RedisBroker

        measure = telemetry.operation_recorder("redis", BROKER_OPERATIONS)
        spans = telemetry.tracing.message_spans("redis")
        broker = RedisBroker(url, measure, self.timings.events.broker, spans)
        telemetry.pools["events"] = broker.connections
        runner.push_async_callback(broker.close)
        runner.run(watch_redis(telemetry.redis_servers, "events", broker.client))
        return broker

    def _open_log(self) -> EventLog:
        redis_url, stream = self.settings.events_redis_url, self.settings.events.stream
        if redis_url is None:
            assert isinstance(self.broker, InMemoryBroker)  # noqa: S101 - without a URL there is no other
            event_log: EventLog = self.broker.log(stream)
        else:
            from support_service.events.broker.redis_log import RedisLog

            redis_log = event_log = RedisLog(redis_url, stream, NOTE_TTL, self.timings.events.log)
            self._telemetry.pools["stream"] = redis_log.connections
        self._runner.push_async_callback(event_log.close)
        return event_log

    async def _open_relay(self) -> None:
        """Publish the outbox to the broker and to webhooks, and what is left of it at the end."""
        database, broker, instruments, runner = self.database, self.broker, self._instruments, self._runner
        settings, timings = self.settings.events, self.timings.events
        in_memory = isinstance(broker, InMemoryBroker)  # it has no readers
        self.relay = relay = OutboxRelay(
            database,
            broker,
            instruments,
            stream=settings.stream,
            max_stream_length=0 if in_memory else settings.keep,
            keep_published=timedelta(0) if in_memory else KEEP_PUBLISHED,
            endpoints=settings.webhooks,
            timings=timings.relay,
        )
        runner.push_async_callback(relay.close)
        # Each endpoint limits its own concurrent deliveries. With one limit for all, some would starve others.
        self.webhooks = webhooks = WebhookSender(
            database,
            await runner.enter_async_context(limited_session([client_metrics(instruments)])),
            instruments,
            settings.webhooks,
            relay.is_leader,
            created=relay.deliveries_created,
            timings=timings.webhooks,
            spans=self._telemetry.tracing.message_spans(""),  # a delivery passes through no broker
        )
        await asyncio.gather(relay.refresh_backlog(), webhooks.refresh())
        runner.run(
            relay.run(),
            Job("Reading the outbox backlog", timings.backlog_refresh_interval, relay.refresh_backlog),
            webhooks.run(),  # also without endpoints: it ends deliveries to removed endpoints
            Job("Counting webhook deliveries", timings.backlog_refresh_interval, webhooks.refresh),
        )
        self.deliveries = DeliveryService(database)
        watch = ChainWatch(database, instruments, relay.is_leader)
        runner.run(Job("Verifying the audit log", audit_watch.VERIFY_INTERVAL, watch.run))

    async def _open_consumer(self) -> None:
        """Consume inbound events."""
        database, broker, settings, timings = self.database, self.broker, self.settings.events, self.timings.events
        in_memory = isinstance(broker, InMemoryBroker)
        self.consumer = consumer = EventConsumer(
            broker,
            InboundEventHandler(database, self._recorder).apply,
            self._instruments,
            stream=settings.inbound_stream,
            keep=max(KEEP_INBOUND, settings.keep // 10),
            claim_after=CLAIM_AFTER,
            ping=database.ping,
            timings=timings.consumer,
            spans=self._telemetry.tracing.message_spans("memory" if in_memory else "redis"),
        )
        await consumer.refresh_backlog()
        self._runner.run(
            Job("Reading the inbound backlog", timings.backlog_refresh_interval, consumer.refresh_backlog),
            Job("Deleting old event ids", PURGE_INTERVAL, partial(delete_expired, database)),
            consumer.run(),
        )
        if in_memory:  # events in process memory are lost on exit
            self._runner.push_async_callback(lambda: consumer.handle_waiting(self.readiness.stop_by))
        self.dead_letters = DeadLetterService(database, broker, settings.inbound_stream)

    async def _open_stream(self, event_log: EventLog) -> None:
        limits, timings = self.settings.limits, self.timings.stream
        self.stream = ChangeStream(event_log, self.masker, self.cases, self._instruments, limits, timings=timings)
        self.readiness.end_streams.append(self.stream.shut_down)  # after all other requests
        await self.stream.start(self._runner)

    async def _open_oncall(self) -> None:
        instruments, timings, run = self._instruments, self.timings, self._runner.run
        self.dependencies = DependencyMonitor(
            self.readiness,
            self.database,
            self.cache,
            parts={
                "events": self.consumer.status,
                "storage": self.attachments.uploader.status,
                "access": self.authenticator.status,
            },
            sources=self.timeline.status,
            ping_timeout=timings.api.ping_timeout,
        )
        instruments.observe(REPLICA_READY, self.dependencies.observe_ready)
        instruments.observe(DEPENDENCY_STATUS, self.dependencies.observe_statuses)
        run(Job("Checking the dependencies", timings.api.dependency_interval, self.dependencies.refresh))
        self.judge = judge = Judge(instruments, timings.oncall)
        self.prometheus: PrometheusAlerts | None = None  # that on-call asks, if there is one
        if self.settings.links.prometheus_url is not None:
            limit = aiohttp.ClientTimeout(total=timings.oncall.prometheus_timeout)
            session = await self._runner.enter_async_context(limited_session([], timeout=limit))
            self.prometheus = PrometheusAlerts(session, self.settings.links.prometheus_url, judge.rules)
        run(
            Job(
                "Judging the figures of on-call",
                timings.oncall.sample_interval,
                judge.refresh,
                timings.oncall.first_sample,
            )
        )


SERVICE = web.AppKey("service", Service)


async def _release_lease(job: breaches.BreachDetector | snoozes.SnoozeWaker) -> None:
    try:
        await job.close()
    except Exception as error:  # noqa: BLE001 - a shutdown must not fail
        log.warning("The lease of %s was not released: %r", type(job).__name__, error)


async def _check_redis(urls: Mapping[str, str]) -> dict[str, str]:
    """Check the servers that are configured as Redis, and return the silent ones. `urls` are by variable.

    Raises UserError if a server can't be used.
    """
    silent = {}
    for variable, url in urls.items():
        from support_service.platform.redis import find_obstacle

        try:
            obstacle = await find_obstacle(url)
        except ConnectionError:
            silent[variable] = url
            continue
        if obstacle:
            raise UserError(f"{variable}: the server at this URL {obstacle}")
    return silent


async def _await_answers(silent: Mapping[str, str], interval: float) -> None:
    """Check silent servers until they answer. If one can't be used, send this process SIGTERM, and raise the error."""
    while silent:
        await asyncio.sleep(interval)
        try:
            silent = await _check_redis(silent)
        except UserError as wrong:
            log.error("The service stops: %s", wrong)  # noqa: TRY400 - the message suffices
            signal.raise_signal(signal.SIGTERM)
            raise
