"""The service: every part of it, opened in the order in which parts depend on each other.

Parts close in reverse. Packages that the settings don't need are not imported: redis, joserfc and cryptography,
obstore, asyncpg, OpenTelemetry's exporters. See tests/e2e/test_imports.py.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from aiohttp import web

from support_service.api.case_document.cached_documents import CaseDocuments
from support_service.api.dependency_status import DEPENDENCY_STATUS, REPLICA_READY, DependencyMonitor
from support_service.attachments.service import AttachmentService
from support_service.cases.case_files import CaseFiles
from support_service.cases.erasure import erasure_rules_of_events
from support_service.cases.inbound_handler import InboundEventHandler
from support_service.cases.known_agents import DIRECTORY_REFRESH_INTERVAL, KnownAgents
from support_service.cases.links import LinkService
from support_service.cases.masking import Masker
from support_service.cases.notifier import Notifier
from support_service.cases.recorder import CaseRecorder
from support_service.cases.service import CaseService
from support_service.cases.splitting import CaseSplitter
from support_service.core.errors import UserError
from support_service.core.pagination import CursorSeal
from support_service.desk.agents import CLAIMS_INTERVAL, AgentDirectory
from support_service.desk.bulk import BulkService, BulkTimings
from support_service.desk.customers import CustomerRecords
from support_service.desk.macros import MacroService
from support_service.desk.notifications import NotificationService, NotificationTimings
from support_service.desk.policies import PolicyService
from support_service.desk.views import ViewLimits, ViewService
from support_service.events.broker.base import Broker
from support_service.events.consumer import EventConsumer
from support_service.events.dead_letters import DeadLetterService
from support_service.events.delivery_replay import DeliveryService
from support_service.events.relay import OutboxRelay
from support_service.events.webhook_sender import WebhookSender
from support_service.guard.fair_turns import FairTurns, TurnLimits, bulk_changes_waiting_error
from support_service.guard.guard import Guard, GuardTimings
from support_service.guard.overload import Readiness
from support_service.oncall.judge import Judge, OncallTimings
from support_service.oncall.prometheus import PrometheusAlerts, open_prometheus
from support_service.parts import (
    AttachmentTimings,
    CaseTimings,
    EventTimings,
    SlaTimings,
    TimelineTimings,
    open_access,
    open_attachments,
    open_broker,
    open_cache,
    open_cases,
    open_clocks,
    open_consumer,
    open_log,
    open_monitored_database,
    open_relay,
    open_sessions,
    open_timeline,
)
from support_service.platform.access.authenticator import Authenticator
from support_service.platform.access.callers import Callers
from support_service.platform.access.sessions import BrowserSessions
from support_service.platform.access.sign_ins import PendingSignIns
from support_service.platform.access.timings import AccessTimings
from support_service.platform.audit.log import Sealer, SealerTimings
from support_service.platform.audit.watch import ChainWatch, WatchTimings
from support_service.platform.background import Job, Pause, Runner
from support_service.platform.certificates import CertificateTimings, watch_certificates
from support_service.platform.database import Database, DatabaseTimings
from support_service.platform.database.shared import read_secret, read_version_base
from support_service.platform.idempotency_keys import CLEANUP_INTERVAL, SETTLE_INTERVAL, IdempotencyService
from support_service.platform.settings import Settings
from support_service.platform.telemetry.process import LoopLagSampler
from support_service.platform.telemetry.provider import Metrics
from support_service.platform.telemetry.telemetry import Telemetry, TelemetryTimings
from support_service.reports.counters import ReportCounters, ReportTimings
from support_service.stream.service import ChangeStream, StreamTimings
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache import SnapshotStore
from support_service.timeline.overrides import OverrideService

CASE_CACHE_BYTES = 64 * 1024 * 1024  # of a replica, for cases that were read

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # they load the packages that verify JWTs, and PostgreSQL's driver
    from support_service.platform.access.oidc import OidcProvider


@dataclass(frozen=True, slots=True)
class ApiTimings:
    """Timeouts and intervals in seconds, and limits."""

    ping_timeout: float = 1.0  # of the database ping: readiness probes wait no longer
    dependency_interval: float = 10.0  # between checks of the dependencies for the metrics
    redis_interval: float = 1.0  # between checks of a server that is configured as Redis, until it answers
    stale_after: timedelta = timedelta(seconds=30)  # on-call's figures are read every 10 seconds or more often
    turns: TurnLimits = field(default_factory=TurnLimits)  # of searches and counts
    bulk_turns: TurnLimits = field(default_factory=lambda: TurnLimits(total=2))


@dataclass(frozen=True, slots=True)
class Timings:
    """Intervals, timeouts, batch sizes and limits that operators do not set, with their production defaults."""

    telemetry: TelemetryTimings = field(default_factory=TelemetryTimings)
    guard: GuardTimings = field(default_factory=GuardTimings)
    access: AccessTimings = field(default_factory=AccessTimings)
    database: DatabaseTimings = field(default_factory=DatabaseTimings)
    audit: SealerTimings = field(default_factory=SealerTimings)
    audit_watch: WatchTimings = field(default_factory=WatchTimings)
    sla: SlaTimings = field(default_factory=SlaTimings)
    cases: CaseTimings = field(default_factory=CaseTimings)
    timeline: TimelineTimings = field(default_factory=TimelineTimings)
    attachments: AttachmentTimings = field(default_factory=AttachmentTimings)
    views: ViewLimits = field(default_factory=ViewLimits)
    bulk: BulkTimings = field(default_factory=BulkTimings)
    notifications: NotificationTimings = field(default_factory=NotificationTimings)
    max_policies: int = 100
    reports: ReportTimings = field(default_factory=ReportTimings)
    certificates: CertificateTimings = field(default_factory=CertificateTimings)
    events: EventTimings = field(default_factory=EventTimings)
    stream: StreamTimings = field(default_factory=StreamTimings)
    api: ApiTimings = field(default_factory=ApiTimings)
    oncall: OncallTimings = field(default_factory=OncallTimings)


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running service."""

    settings: Settings
    timings: Timings
    metrics: Metrics
    loop_lag: LoopLagSampler
    guard: Guard
    readiness: Readiness
    authenticator: Authenticator
    callers: Callers | None  # None without authentication
    sessions: BrowserSessions | None  # None without authentication
    provider: "OidcProvider | None"  # of the sign-in, if there is one
    sign_ins: PendingSignIns
    database: Database
    idempotency: IdempotencyService
    sealer: Sealer
    masker: Masker
    cases: CaseService
    links: LinkService
    splitter: CaseSplitter
    cache: SnapshotStore
    timeline: TimelineAggregator
    overrides: OverrideService
    attachments: AttachmentService
    agents: AgentDirectory
    customers: CustomerRecords
    views: ViewService
    bulk: BulkService
    notifications: NotificationService
    macros: MacroService
    policies: PolicyService
    reports: ReportCounters
    broker: Broker
    relay: OutboxRelay
    webhooks: WebhookSender
    consumer: EventConsumer
    dead_letters: DeadLetterService
    deliveries: DeliveryService
    stream: ChangeStream
    dependencies: DependencyMonitor
    judge: Judge
    prometheus: PrometheusAlerts | None  # that on-call asks, if there is one
    documents: CaseDocuments
    turns: FairTurns  # of searches and counts
    bulk_turns: FairTurns  # of bulk changes
    cursors: CursorSeal
    version_base: int  # of the versions of cases and saved views that clients see
    serves_metrics: bool  # on this port
    admin_url: str | None = None  # base URL of the admin server, if there is one


SERVICE = web.AppKey("service", Service)


@asynccontextmanager
async def open_service(  # noqa: PLR0915 - the parts in their order
    settings: Settings, timings: Timings, telemetry: Telemetry, guard: Guard
) -> AsyncIterator[Service]:
    """Open every part during a `with` block.

    Raises Unavailable if the database, the attachment directory or the tokens can't be used. Raises UserError if a
    server that is configured as Redis answers in another way.
    """
    instruments = telemetry.instruments
    async with Runner() as runner:
        run = runner.run
        runner.push_async_callback(telemetry.close)  # last: what other parts record while they close is exported, too
        run(telemetry.loop_lag.run())
        run(_await_answers(await _check_redis(settings.redis_urls), timings.api.redis_interval))
        await runner.enter_async_context(guard.running(telemetry, settings.timeline.redis_url))
        # A service that can't identify callers must not start.
        authenticator, provider = await open_access(runner, settings, instruments, timings.access)
        database = await open_monitored_database(runner, settings.database, telemetry, timings.database)
        sessions = open_sessions(runner, settings, database, authenticator, provider=provider, timings=timings.access)
        idempotency = IdempotencyService(database)
        run(
            Job("Deleting old idempotency keys", CLEANUP_INTERVAL, idempotency.delete_expired),
            Job("Settling idempotency keys", SETTLE_INTERVAL, idempotency.settle_again),
        )
        sealer = Sealer(database, instruments, timings.audit)
        await sealer.refresh_gauges()
        pause = Pause(timings.audit.seal_interval, timings.audit.poll_interval, database.changed.subscribe())
        run(Job("Sealing the audit log", pause, sealer.run))

        clocks = await open_clocks(runner, database, instruments, timings.sla)
        masker = Masker(settings.server.masking_key, settings.cases.known_channels)
        erasure_rules_of_events()  # a field of an event without a rule stops the start
        known_agents = KnownAgents(database)
        await known_agents.refresh()
        run(Job("Reading the directory", DIRECTORY_REFRESH_INTERVAL, known_agents.refresh))
        recorder = CaseRecorder(instruments, clocks, settings.cases, Notifier(known_agents))
        files = CaseFiles(timings.cases.files, settings.server.url_prefix)
        cases = await open_cases(runner, database, recorder, instruments, files=files, timings=timings.cases)
        reports = ReportCounters(database, settings.cases.known_channels, timings.reports)
        run(Job("Adding to the counters of reports", timings.reports.interval, reports.add_occurrences))
        agents = AgentDirectory(database, known_agents)
        run(Job("Storing the claims of people", CLAIMS_INTERVAL, agents.store_claims))
        cache = open_cache(runner, settings.timeline, telemetry, timings.timeline.redis)
        timeline = await open_timeline(runner, settings, database, cache, telemetry, timings=timings.timeline)
        attachments = await open_attachments(
            runner, settings, database, instruments, files, timings=timings.attachments
        )
        bulk = BulkService(database, recorder, timings.bulk)
        run(Job("Deleting old bulk changes", CLEANUP_INTERVAL, bulk.delete_expired))
        notifications = NotificationService(database, recorder, known_agents, timings.notifications)
        run(Job("Deleting old notifications", timings.notifications.cleanup_interval, notifications.delete_expired))

        broker = open_broker(runner, settings.events_redis_url, telemetry, timings.events.broker)
        event_log = open_log(runner, settings, broker, telemetry, timings.events.log)
        relay, webhooks = await open_relay(runner, settings.events, database, broker, telemetry, timings=timings.events)
        watch = ChainWatch(database, instruments, relay.is_leader, timings.audit_watch)
        run(Job("Verifying the audit log", timings.audit_watch.interval, watch.run))
        consumer = await open_consumer(
            runner,
            settings.events,
            database,
            broker,
            telemetry,
            apply=InboundEventHandler(database, recorder).apply,
            readiness=guard.readiness,
            timings=timings.events,
        )
        run(*watch_certificates(settings.called_servers, instruments, timings.certificates))
        stream = ChangeStream(event_log, masker, cases, instruments, settings.limits, timings=timings.stream)
        guard.readiness.end_streams.append(stream.shut_down)  # after all other requests
        await stream.start(runner)
        parts = {"events": consumer.status, "storage": attachments.uploader.status, "access": authenticator.status}
        dependencies = DependencyMonitor(
            guard.readiness,
            database,
            cache,
            parts=parts,
            sources=timeline.status,
            ping_timeout=timings.api.ping_timeout,
        )
        instruments.observe(REPLICA_READY, dependencies.observe_ready)
        instruments.observe(DEPENDENCY_STATUS, dependencies.observe_statuses)
        run(Job("Checking the dependencies", timings.api.dependency_interval, dependencies.refresh))
        judge = Judge(instruments, timings.oncall)
        prometheus_url, max_seconds = settings.links.prometheus_url, timings.oncall.prometheus_timeout
        prometheus = await open_prometheus(runner, prometheus_url, judge.rules, max_seconds)
        interval, first = timings.oncall.sample_interval, timings.oncall.first_sample
        run(Job("Judging the figures of on-call", interval, judge.refresh, first))
        yield Service(
            settings=settings,
            timings=timings,
            metrics=telemetry.metrics,
            loop_lag=telemetry.loop_lag,
            guard=guard,
            readiness=guard.readiness,
            authenticator=authenticator,
            callers=None if settings.server.auth == "open" else Callers(instruments, timings.access.callers),
            sessions=sessions,
            provider=provider,
            sign_ins=PendingSignIns(database, timings.access.sessions),
            database=database,
            idempotency=idempotency,
            sealer=sealer,
            masker=masker,
            cases=cases,
            links=LinkService(database, recorder),
            splitter=CaseSplitter(database, recorder),
            cache=cache,
            timeline=timeline,
            overrides=OverrideService(database, timeline.overrides),
            attachments=attachments,
            agents=agents,
            customers=CustomerRecords(database),
            views=ViewService(database, timings.views),
            bulk=bulk,
            notifications=notifications,
            macros=MacroService(database),
            policies=PolicyService(database, clocks.policies, max_policies=timings.max_policies),
            reports=reports,
            broker=broker,
            relay=relay,
            webhooks=webhooks,
            consumer=consumer,
            dead_letters=DeadLetterService(database, broker, settings.events.inbound_stream),
            deliveries=DeliveryService(database),
            stream=stream,
            dependencies=dependencies,
            judge=judge,
            prometheus=prometheus,
            documents=CaseDocuments(
                cases,
                timeline,
                masker,
                instruments,
                clocks.policies,
                agents=known_agents,
                public_url=settings.server.url_prefix,
                max_bytes=CASE_CACHE_BYTES,
            ),
            turns=FairTurns(timings.api.turns),
            bulk_turns=FairTurns(timings.api.bulk_turns, bulk_changes_waiting_error),
            cursors=CursorSeal(await read_secret(database, "cursors")),
            version_base=await read_version_base(database),
            serves_metrics=settings.access.admin_port is None,
        )


async def _check_redis(urls: Mapping[str, str]) -> dict[str, str]:
    """Check the servers that are configured as Redis, and return the silent ones. `urls` are by variable.

    Raises UserError if a server can't be used.
    """
    silent = {}
    for variable, url in urls.items():
        from support_service.platform.redis import find_obstacle  # noqa: PLC0415 - only if it is used

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
