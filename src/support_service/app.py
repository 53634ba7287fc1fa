"""The composition root: every part is built here, once, and taken down in the reverse order."""

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from support_service import database
from support_service.attachments.intake import Limits
from support_service.attachments.service import BACKLOG_EVERY, AttachmentService
from support_service.cases.service import TALLY_EVERY, SupportService
from support_service.periodic import beside, repeatedly
from support_service.references import Service
from support_service.settings import Settings
from support_service.telemetry import instruments as rows
from support_service.telemetry.http import RequestMetrics
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.labels import DATABASE_OPERATIONS, REDIS_OPERATIONS
from support_service.telemetry.process import observe_process, sample_lag
from support_service.telemetry.provider import Metrics, reporter
from support_service.telemetry.stores import OperationMetrics, connections
from support_service.telemetry.traces import Traces
from support_service.timeline import connector
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache import Cache, InProcessCache
from support_service.timeline.levers import REFRESH_EVERY, Levers
from support_service.timeline.redis_cache import RedisCache
from support_service.timeline.sources import SourceClient, breakers
from support_service.upkeep import Upkeep, storages
from support_service.web import keys
from support_service.web.api import install
from support_service.web.errors import problems
from support_service.web.middleware import observed
from support_service.web.routes import ROUTES
from support_service.web.wire import MAX_BODY


def build(settings: Settings) -> web.Application:
    """An app that is ready to start; what needs a running loop is made when it does.

    Raises Unavailable at its start where the database or the attachment folder can't be used.
    """
    parts = _Parts(settings)
    readiness = keys.Readiness()
    with parts.traces.of_applications():
        app = web.Application(
            middlewares=[observed(parts.requests, readiness, settings.server.access_log), problems],
            client_max_size=MAX_BODY,
        )
    app[keys.METRICS] = parts.metrics
    app[keys.REQUESTS] = parts.requests
    app[keys.READINESS] = readiness
    files = settings.attachments
    app[keys.HTTP] = keys.HttpOptions(
        public_url=settings.server.public_url or "",
        uploads=keys.UploadOptions(files.max_bytes, files.min_rate, files.deadline),
        redirect_downloads=files.download == "redirect",
    )
    app.cleanup_ctx.extend((parts.telemetry, parts.database, parts.timeline, parts.attachments))
    install(app)
    return app


class _Parts:
    """The parts of one app: telemetry at once, each other one in a cleanup context."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pools: dict[str, Callable[[], tuple[int, int]]] = {}
        resource = reporter()
        self.metrics = Metrics(settings.telemetry.metrics, resource)
        self.traces = Traces(settings.telemetry.traces, resource)
        self.instruments = Instruments(self.metrics.meter)
        self.requests = RequestMetrics(self.instruments.http_server_duration)
        for route in ROUTES:
            self.requests.expect(route.method, route.path, route.status)
        self.instruments.observe(rows.HTTP_SERVER_ACTIVE, self.requests.active)
        self.instruments.observe(rows.DB_CONNECTIONS, lambda: connections(self._pools))
        observe_process(self.instruments)

    async def telemetry(self, _: web.Application) -> AsyncIterator[None]:
        """The last to go, so that what the others do at their end is exported too."""
        async with beside(sample_lag(self.instruments.event_loop_lag)):
            yield
        await asyncio.gather(asyncio.to_thread(self.metrics.close), asyncio.to_thread(self.traces.close))

    async def database(self, app: web.Application) -> AsyncIterator[None]:
        """The database, and the service that keeps cases in it."""
        settings = self._settings.database
        system = settings.url.partition(":")[0]
        app[keys.DATABASE] = database.connect(
            settings.url,
            synchronous=settings.synchronous,
            pool_size=settings.pool_size,
            measure=OperationMetrics(self.instruments.db_operation, system, DATABASE_OPERATIONS).record,
        )
        await app[keys.DATABASE].open()
        self._pools["database"] = app[keys.DATABASE].connections
        support = app[keys.SUPPORT] = SupportService(app[keys.DATABASE], self.instruments)
        await support.refresh_tally()
        async with beside(repeatedly(TALLY_EVERY, support.refresh_tally, "Counting open cases")):
            yield
        await app[keys.DATABASE].close()

    async def timeline(self, app: web.Application) -> AsyncIterator[None]:
        """The cache, the levers, the sources and the aggregator over them."""
        settings = self._settings.timeline
        cache = app[keys.CACHE] = self._cache(settings.redis_url, settings.redis_timeout)
        urls: dict[Service, str | None] = {
            "order": settings.order_url,
            "payment": settings.payment_url,
            "fulfillment": settings.fulfillment_url,
        }
        levers = app[keys.LEVERS] = Levers(app[keys.DATABASE])
        await levers.refresh()
        configured = [name for name, url in urls.items() if url]
        self.instruments.observe(rows.TIMELINE_SOURCE_ENABLED, lambda: levers.enabled(configured))
        async with connector.session(self.traces.of_clients()) as session:
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
            self.instruments.observe(rows.TIMELINE_BREAKER, lambda: breakers(sources))
            timeline = app[keys.TIMELINE] = TimelineAggregator(
                sources,
                cache,
                levers,
                self.instruments,
                ttl=settings.cache_ttl,
                stale_ttl=settings.stale_ttl,
                deadline=settings.deadline,
            )
            async with beside(repeatedly(REFRESH_EVERY, levers.refresh, "Reading the timeline's levers")):
                yield
            await timeline.close()
        await cache.close()

    async def attachments(self, app: web.Application) -> AsyncIterator[None]:
        """The storages, the service that keeps files in them, and what keeps those in order."""
        settings = self._settings.attachments
        kept_in = storages(self._settings)
        for storage in kept_in.values():
            await storage.open()
        limits = Limits(settings.max_bytes, settings.types)
        service = AttachmentService(app[keys.DATABASE], kept_in, self.instruments, limits, settings.uploads)
        app[keys.ATTACHMENTS] = service
        upkeep = Upkeep(self._settings, app[keys.DATABASE], kept_in, self.instruments)
        await service.refresh_backlog()
        async with (
            beside(repeatedly(BACKLOG_EVERY, service.refresh_backlog, "Reading the attachment backlog")),
            upkeep.by_itself(),
        ):
            yield
        for storage in kept_in.values():
            await storage.close()

    def _cache(self, redis_url: str | None, timeout: float) -> Cache:
        if redis_url is None:
            return InProcessCache()
        measure = OperationMetrics(self.instruments.db_operation, "redis", REDIS_OPERATIONS).record
        cache = RedisCache(redis_url, timeout, measure)
        self._pools["cache"] = cache.connections
        return cache
