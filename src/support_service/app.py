"""The composition root: every part is built here, once, and taken down in the reverse order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
from aiohttp import web

from support_service import database
from support_service.attachments.service import AttachmentService
from support_service.attachments.storage import LocalAttachmentStorage
from support_service.cases.service import SupportService
from support_service.references import Service
from support_service.settings import Settings
from support_service.telemetry.http import RequestMetrics
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.provider import Metrics
from support_service.timeline.aggregator import TimelineAggregator
from support_service.timeline.cache import InProcessCache, RedisCache
from support_service.timeline.sources import SourceClient
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
    metrics = Metrics(settings.telemetry.service_name, exporter=settings.telemetry.metrics_exporter)
    instruments = Instruments(metrics.meter)
    requests = RequestMetrics(instruments.http_server_duration)
    for route in ROUTES:
        requests.expect(route.method, route.path, route.status)
    app = web.Application(
        middlewares=[observed(requests, settings.server.access_log), problems], client_max_size=MAX_BODY
    )
    app[keys.METRICS] = metrics
    app[keys.READINESS] = keys.Readiness()
    app[keys.HTTP] = keys.HttpOptions(
        public_url=settings.server.public_url or "", max_upload_bytes=settings.attachments.max_bytes
    )

    async def telemetry_part(_: web.Application) -> AsyncIterator[None]:
        yield
        metrics.close()

    async def database_part(app: web.Application) -> AsyncIterator[None]:
        app[keys.DATABASE] = database.connect(
            settings.database.url,
            synchronous=settings.database.synchronous,
            pool_size=settings.database.pool_size,
        )
        await app[keys.DATABASE].open()
        app[keys.SUPPORT] = SupportService(app[keys.DATABASE], instruments)
        yield
        await app[keys.DATABASE].close()

    async def timeline_part(app: web.Application) -> AsyncIterator[None]:
        timeline = settings.timeline
        cache = app[keys.CACHE] = RedisCache(timeline.redis_url) if timeline.redis_url else InProcessCache()
        urls: dict[Service, str | None] = {
            "order": timeline.order_url,
            "payment": timeline.payment_url,
            "fulfillment": timeline.fulfillment_url,
        }
        # Each source bounds its own calls, and a read its time; the session bounds neither a second time.
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            sources = [
                SourceClient(
                    name,
                    url,
                    session,
                    instruments,
                    timeout=timeline.source_timeout,
                    connections=timeline.connections,
                )
                for name, url in urls.items()
                if url
            ]
            app[keys.TIMELINE] = TimelineAggregator(
                sources, cache, instruments, ttl=timeline.cache_ttl, deadline=timeline.deadline
            )
            yield
        await cache.close()

    async def attachments_part(app: web.Application) -> AsyncIterator[None]:
        storage = LocalAttachmentStorage(settings.attachments.directory)
        await storage.open()
        service = AttachmentService(app[keys.DATABASE], storage, instruments, settings.attachments.max_bytes)
        app[keys.ATTACHMENTS] = service
        await service.refresh_backlog()
        refreshing = asyncio.create_task(service.refresh_backlog_for_ever())
        yield
        refreshing.cancel()
        with suppress(asyncio.CancelledError):
            await refreshing
        await storage.close()

    app.cleanup_ctx.extend((telemetry_part, database_part, timeline_part, attachments_part))
    install(app)
    return app
