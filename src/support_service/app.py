"""The composition root: builds every component once, and closes them in reverse order.

A component that a setting selects is imported and built in a function of its own, so that startup does not import
packages that the settings don't need: redis, joserfc and cryptography, obstore, asyncpg, OpenTelemetry's exporters.
See tests/e2e/test_imports.py.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from support_service import database
from support_service.access.authenticator import AnonymousAuthenticator, Authenticator
from support_service.access.bearer import BearerAuthenticator, TokenVerifier
from support_service.api import admin, app_keys
from support_service.api.authorization import authorize
from support_service.api.idempotency import idempotent
from support_service.api.routes import ROUTES
from support_service.api.setup import add_routes
from support_service.attachments.service import BACKLOG_REFRESH_INTERVAL, AttachmentService
from support_service.attachments.upload_validation import UploadLimits
from support_service.audit.sealer import Sealer, SealerTimings
from support_service.cases.gauges import CaseGauges, GaugeTimings
from support_service.cases.inbound_handler import InboundEventHandler
from support_service.cases.masking import CaseMasker
from support_service.cases.service import CaseService
from support_service.core.background import run_every, run_in_background
from support_service.core.references import UpstreamService
from support_service.events import inbox
from support_service.events.broker.memory import Broker, InMemoryBroker
from support_service.events.consumer import EventConsumer
from support_service.events.relay import BACKLOG_REFRESH_INTERVAL as RELAY_LOOK_EVERY
from support_service.events.relay import OutboxRelay
from support_service.events.webhooks import WebhookEndpoint, WebhookSender
from support_service.http.admission import ADMISSION, Admission, add_response_headers, admission_middleware
from support_service.http.connection_limits import CONNECTION_LIMITS, ConnectionLimits, ConnectionLimitSettings
from support_service.http.instrumentation import REQUEST_METRICS, instrumentation_middleware
from support_service.http.json_body import MAX_JSON_BODY_BYTES
from support_service.http.problems import problem_middleware
from support_service.http.readiness import READINESS, Readiness
from support_service.http.security import BrowserPolicy
from support_service.http.uploads import UploadOptions
from support_service.idempotency.claims import IdempotencyService, IdempotencyTimings
from support_service.limits.addresses import TrustedProxies
from support_service.limits.overload import LoadShedder
from support_service.limits.rates import Rate, RateLimiter
from support_service.settings import Settings
from support_service.telemetry import instruments as rows
from support_service.telemetry.http import RequestMetrics
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.labels import BROKER_OPERATIONS, DATABASE_OPERATIONS, REDIS_OPERATIONS
from support_service.telemetry.process import observe_process, sample_lag
from support_service.telemetry.provider import Metrics, build_resource
from support_service.telemetry.stores import OperationMetrics, connection_counts
from support_service.telemetry.traces import create_tracing
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache.memory import InProcessCache, SnapshotStore
from support_service.timeline.overrides import REFRESH_EVERY, Overrides
from support_service.timeline.sources import connector
from support_service.timeline.sources.client import SourceClient, breaker_states
from support_service.upkeep import AttachmentMaintenance, configured_storages

SEAL_INTERVAL = SealerTimings().seal_interval
CLEANUP_INTERVAL = IdempotencyTimings().cleanup_interval
COUNT_EVERY_SECONDS = GaugeTimings().refresh_interval
# Their time series start at 0; those of other statuses appear when they occur.
COMMON_REFUSALS = frozenset({400, 404, 415, 422})


def build(settings: Settings) -> web.Application:
    """Return an app that is ready to start. Components that need a running loop are created at startup.

    Startup raises Unavailable if the database or the attachment directory can't be used.
    """
    parts = _Components(settings)
    readiness = Readiness()
    with parts.traces.of_applications():
        app = web.Application(
            middlewares=[
                instrumentation_middleware(parts.requests, readiness, settings.server.access_log),
                problem_middleware,
                admission_middleware,
                authorize(parts.authenticator),
                idempotent,
            ],
            client_max_size=MAX_JSON_BODY_BYTES,
        )
    app[app_keys.METRICS] = parts.metrics
    app[app_keys.AUTHENTICATOR] = parts.authenticator
    app[REQUEST_METRICS] = parts.requests
    app[READINESS] = readiness
    app[app_keys.MASK] = CaseMasker(os.fsencode(settings.server.masking_key or secrets.token_hex()))
    app[ADMISSION] = parts.gate(readiness)
    app[CONNECTION_LIMITS] = parts.crowd
    app.on_response_prepare.append(add_response_headers)
    files = settings.attachments
    app[app_keys.HTTP_OPTIONS] = app_keys.HttpOptions(
        public_url=settings.server.public_url or "",
        uploads=UploadOptions(files.max_bytes, files.min_rate, files.deadline),
        streams=(settings.events.stream, settings.events.inbound_stream),
        redirect_downloads=files.download == "redirect",
        secured=settings.server.auth != "open",
    )
    app.cleanup_ctx.extend((parts.telemetry, parts.limits, parts.access, parts.database, parts.timeline))
    app.cleanup_ctx.extend((parts.attachments, parts.events))
    access = settings.access
    token = access.metrics_token.get_secret_value() if access.metrics_token else None
    is_open = settings.server.auth == "open"
    app[app_keys.METRICS_ACCESS] = app_keys.MetricsAccess(
        open=access.admin_port is None and (is_open or token is not None), token=token
    )
    if access.admin_port is not None:
        app.cleanup_ctx.append(
            admin.admin_server(access.admin_host, access.admin_port, app_keys.MetricsAccess(token=token))
        )
    add_routes(app)
    return app


class _Components:
    """The components of one app.

    Telemetry, the authenticator and limits are created at once; other components in cleanup contexts.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pools: dict[str, Callable[[], tuple[int, int]]] = {}
        resource = build_resource()
        self.metrics = Metrics(settings.telemetry.metrics, resource)
        self.traces = create_tracing(settings.telemetry.traces, resource)
        self.instruments = Instruments(self.metrics.meter)
        self.requests = RequestMetrics(self.instruments.http_server_duration)
        for route in ROUTES:
            for status in (route.status, *COMMON_REFUSALS & route.refused_with):
                self.requests.expect(route.method, route.path, status)
        self.authenticator = self._authenticator()
        self.instruments.observe(rows.HTTP_SERVER_ACTIVE, self.requests.active)
        self.instruments.observe(rows.DB_CONNECTIONS, lambda: connection_counts(self._pools))
        observe_process(self.instruments)
        limits = settings.limits
        self._overload = LoadShedder(limits.lag, limits.requests)
        self._by_address = _limiter("address", settings.address_rate)
        self._by_principal = _limiter("principal", settings.rate)
        self._proxies = TrustedProxies(limits.trusted_proxies)
        self.crowd = ConnectionLimits(
            ConnectionLimitSettings(
                limits.connections, limits.header_timeout, limits.idle_timeout, limits.send_timeout
            ),
            self._proxies,
            lambda reason: self.instruments.connection_cut.add(1, {"reason": reason}),
        )
        self.instruments.observe(rows.CONNECTION_OPEN, self.crowd.open)

    def gate(self, readiness: Readiness) -> Admission:
        """Return the admission checks that run before every handler."""
        server, limits = self._settings.server, self._settings.limits
        public = urlsplit(server.public_url or "").hostname
        names = tuple(filter(None, (public,)))
        return Admission(
            proxies=self._proxies,
            origins=BrowserPolicy(limits.cors_origins, names if server.auth == "open" else None),
            overload=self._overload,
            readiness=readiness,
            by_address=self._by_address,
            by_principal=self._by_principal,
            turned_away=self.instruments.request_turned_away,
        )

    async def telemetry(self, _: web.Application) -> AsyncIterator[None]:
        """Sample the event loop's lag. Closes last, so that telemetry of every other shutdown is exported too."""
        async with run_in_background(sample_lag(self.instruments.event_loop_lag, self._overload.note)):
            yield
        await asyncio.gather(asyncio.to_thread(self.metrics.close), asyncio.to_thread(self.traces.close))

    async def access(self, _: web.Application) -> AsyncIterator[None]:
        """Open the authenticator, before the database: a service that can't identify callers must not start."""
        await self.authenticator.open()
        yield
        await self.authenticator.close()

    def _authenticator(self) -> Authenticator:
        if self._settings.server.auth == "jwt":
            return self._bearer(self._jwt())
        self.instruments.observe(rows.ACCESS_KEYS_AGE, lambda: [(0, {})])  # without JWTs there are no keys
        return AnonymousAuthenticator() if self._settings.server.auth == "open" else self._bearer(self._tokens())

    def _bearer(self, verifier: TokenVerifier) -> BearerAuthenticator:
        return BearerAuthenticator(verifier, self.instruments.access_authentications)

    def _jwt(self) -> TokenVerifier:
        from support_service.access.jwt import JwtRequirements, JwtVerifier
        from support_service.access.key_source import create_key_source

        access = self._settings.access
        keys_location = access.jwt_keys or ""
        demands = JwtRequirements(
            issuer=access.jwt_issuer or "",
            audience=access.jwt_audience or "",
            algorithms=access.jwt_algorithms,
            leeway=access.jwt_leeway,
            role_claim=access.jwt_role_claim,
            subject_claim=access.jwt_subject_claim,
            teams_claim=access.jwt_teams_claim,
        )
        jwt = JwtVerifier(create_key_source(keys_location), demands, required="://" not in keys_location)
        self.instruments.observe(rows.ACCESS_KEYS_AGE, lambda: [(jwt.keys.age, {})])
        return jwt

    def _tokens(self) -> TokenVerifier:
        from support_service.access.tokens import FileTokenVerifier

        return FileTokenVerifier(self._settings.access.tokens_file)

    async def limits(self, _: web.Application) -> AsyncIterator[None]:
        """Monitor client connections, and share rates between replicas through Redis."""
        limiters = [limiter for limiter in (self._by_address, self._by_principal) if limiter]
        redis_url = self._settings.timeline.redis_url
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(run_in_background(self.crowd.watch()))
            if redis_url and limiters:
                await stack.enter_async_context(self._shared_rates(redis_url, limiters))
            yield

    async def database(self, app: web.Application) -> AsyncIterator[None]:
        """Open the database, and create the case service, the idempotency claims and the audit sealer."""
        settings = self._settings.database
        system = settings.url.partition(":")[0]
        app[app_keys.DATABASE] = database.connect(
            settings.url,
            synchronous=settings.synchronous,
            pool_size=settings.pool_size,
            measure=OperationMetrics(self.instruments.db_operation, system, DATABASE_OPERATIONS).record,
        )
        await app[app_keys.DATABASE].open()
        self._pools["database"] = app[app_keys.DATABASE].connections
        app[app_keys.CASES] = CaseService(app[app_keys.DATABASE], self.instruments)
        gauges = CaseGauges(app[app_keys.DATABASE], self.instruments)
        claims = app[app_keys.CLAIMS] = IdempotencyService(app[app_keys.DATABASE])
        sealer = Sealer(app[app_keys.DATABASE], self.instruments)
        await asyncio.gather(gauges.refresh(), sealer.look())
        async with (
            run_in_background(run_every(COUNT_EVERY_SECONDS, gauges.refresh, "Counting open cases")),
            run_in_background(run_every(SEAL_INTERVAL, sealer.run, "Sealing the audit log")),
            run_in_background(run_every(CLEANUP_INTERVAL, claims.delete_expired, "Deleting old idempotency keys")),
        ):
            yield
        await app[app_keys.DATABASE].close()

    async def timeline(self, app: web.Application) -> AsyncIterator[None]:
        """Create the cache, the overrides, the source clients and the aggregator."""
        settings = self._settings.timeline
        cache = app[app_keys.CACHE] = self._cache(settings.redis_url, settings.redis_timeout)
        urls: dict[UpstreamService, str | None] = {
            "order": settings.order_url,
            "payment": settings.payment_url,
            "fulfillment": settings.fulfillment_url,
        }
        overrides = Overrides(app[app_keys.DATABASE])
        await overrides.refresh()
        configured = [name for name, url in urls.items() if url]
        self.instruments.observe(rows.TIMELINE_SOURCE_ENABLED, lambda: overrides.enabled(configured))
        async with connector.create_session(self.traces.of_clients()) as session:
            sources = [
                SourceClient(
                    name,
                    url,
                    session,
                    self.instruments,
                    timeout=min(settings.source_timeout, settings.deadline),
                    connections=settings.connections,
                )
                for name, url in urls.items()
                if url
            ]
            self.instruments.observe(rows.TIMELINE_BREAKER, lambda: breaker_states(sources))
            timeline = app[app_keys.TIMELINE] = TimelineAggregator(
                sources,
                cache,
                overrides,
                self.instruments,
                ttl=settings.cache_ttl,
                stale_ttl=settings.stale_ttl,
                deadline=settings.deadline,
            )
            async with run_in_background(run_every(REFRESH_EVERY, overrides.refresh, "Reading the timeline's levers")):
                yield
            await timeline.close()
        await cache.close()

    async def attachments(self, app: web.Application) -> AsyncIterator[None]:
        """Open the storages, and create the attachment service and its maintenance jobs."""
        settings = self._settings.attachments
        storage_by_name = configured_storages(self._settings)
        for storage in storage_by_name.values():
            await storage.open()
        limits = UploadLimits(settings.max_bytes, settings.types)
        public_url = app[app_keys.HTTP_OPTIONS].public_url
        service = AttachmentService(
            app[app_keys.DATABASE], storage_by_name, self.instruments, limits, settings.uploads, public_url=public_url
        )
        app[app_keys.ATTACHMENTS] = service
        upkeep = AttachmentMaintenance(self._settings, app[app_keys.DATABASE], storage_by_name, self.instruments)
        await service.refresh_backlog()
        async with (
            run_in_background(
                run_every(BACKLOG_REFRESH_INTERVAL, service.refresh_backlog, "Reading the attachment backlog")
            ),
            upkeep.by_itself(),
        ):
            yield
        for storage in storage_by_name.values():
            await storage.close()

    async def events(self, app: web.Application) -> AsyncIterator[None]:
        """Create the broker, the relay that publishes to it, the consumer of other services' events, and webhooks."""
        settings = self._settings.events
        broker = self._broker(settings.redis_url or self._settings.timeline.redis_url)
        endpoints = [WebhookEndpoint(each.name, each.url, each.secret, each.types) for each in settings.webhooks]
        database = app[app_keys.DATABASE]

        inbound = InboundEventHandler(database, self.instruments)
        stream, claim_after = settings.inbound_stream, settings.claim_after
        consumer = EventConsumer(
            broker, inbound.apply, self.instruments, stream=stream, claim_after=claim_after, ping=database.ping
        )
        app[app_keys.EVENT_CONSUMER] = consumer
        keep = 0 if isinstance(broker, InMemoryBroker) else settings.keep  # an in-process stream has no readers
        relay = OutboxRelay(database, broker, self.instruments, stream=settings.stream, keep=keep, endpoints=endpoints)
        async with AsyncExitStack() as stack:
            # Each endpoint limits its own concurrent deliveries. With one limit for all, some would starve others.
            session = await stack.enter_async_context(
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar())
            )
            webhooks = WebhookSender(database, session, self.instruments, endpoints, lambda: relay.leads)
            await asyncio.gather(relay.refresh_backlog(), consumer.refresh_depth(), webhooks.refresh())
            for work in (
                relay.run(),
                run_every(RELAY_LOOK_EVERY, relay.refresh_backlog, "Counting the outbox"),
                run_every(RELAY_LOOK_EVERY, consumer.refresh_depth, "Looking at the inbound stream"),
                run_every(inbox.PURGE_INTERVAL, partial(inbox.delete_expired, database), "Forgetting old events"),
                *([consumer.run()] if settings.consume else []),
                webhooks.run(),  # also without endpoints: it ends deliveries to removed endpoints
                run_every(RELAY_LOOK_EVERY, webhooks.refresh, "Counting webhook deliveries"),
            ):
                await stack.enter_async_context(run_in_background(work))
            yield
            if isinstance(broker, InMemoryBroker) and settings.consume:  # events in process memory are lost on exit
                await consumer.finish(app[READINESS].stop_by)
        await relay.close()
        await broker.close()

    @asynccontextmanager
    async def _shared_rates(self, redis_url: str, limiters: Sequence[RateLimiter]) -> AsyncIterator[None]:
        from support_service.limits.shared import SharedRateLimits

        measure = OperationMetrics(self.instruments.db_operation, "redis", REDIS_OPERATIONS).record
        shared = SharedRateLimits(redis_url, limiters, measure)
        try:
            async with run_in_background(shared.run()):
                yield
        finally:
            await shared.close()

    def _broker(self, redis_url: str | None) -> Broker:
        if redis_url is None:
            return InMemoryBroker()
        from support_service.events.broker.redis import RedisBroker

        measure = OperationMetrics(self.instruments.db_operation, "redis", BROKER_OPERATIONS).record
        broker = RedisBroker(redis_url, measure)
        self._pools["events"] = broker.connections
        return broker

    def _cache(self, redis_url: str | None, timeout: float) -> SnapshotStore:
        if redis_url is None:
            return InProcessCache()
        from support_service.timeline.cache.redis import RedisCache

        measure = OperationMetrics(self.instruments.db_operation, "redis", REDIS_OPERATIONS).record
        cache = RedisCache(redis_url, timeout, measure)
        self._pools["cache"] = cache.connections
        return cache


def _limiter(name: str, rate: tuple[int, int]) -> RateLimiter | None:
    return RateLimiter(name, Rate(*rate)) if rate[0] else None
