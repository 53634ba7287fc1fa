"""The timeline component: the clients of the upstream services, the cache, the overrides and the aggregator."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from support_service.core.domain.upstream_services import UpstreamService
from support_service.platform.background import run_every, run_in_background
from support_service.platform.database.component import DATABASE
from support_service.platform.settings.resources import TimelineSettings
from support_service.platform.telemetry.component import (
    CONNECTION_POOLS,
    INSTRUMENTS,
    REDIS_SERVERS,
    TRACING,
    operation_metrics,
)
from support_service.platform.telemetry.stores import REDIS_OPERATIONS, monitored_server
from support_service.timeline.aggregator import AggregatorTimings, TimelineAggregator
from support_service.timeline.cache import InProcessCache, RedisCacheTimings, SnapshotStore
from support_service.timeline.overrides import REFRESH_INTERVAL, TIMELINE_SOURCE_ENABLED, Overrides, OverrideService
from support_service.timeline.source_client import TIMELINE_BREAKER, SourceClient, breaker_states, create_session
from support_service.timeline.source_health import BreakerTimings
from support_service.timeline.sources.registry import SOURCES

TIMELINE_AGGREGATOR = web.AppKey("timeline_aggregator", TimelineAggregator)
OVERRIDE_SERVICE = web.AppKey("override_service", OverrideService)
TIMELINE_CACHE = web.AppKey("timeline_cache", SnapshotStore)


@dataclass(frozen=True, slots=True)
class TimelineTimings:
    """Times of the timeline component in seconds."""

    override_refresh_interval: float = REFRESH_INTERVAL
    aggregator: AggregatorTimings = AggregatorTimings()
    breaker: BreakerTimings = BreakerTimings()
    redis: RedisCacheTimings = RedisCacheTimings()


def setup(
    app: web.Application,
    settings: TimelineSettings,
    upstream_urls: Mapping[UpstreamService, str],
    timings: TimelineTimings,
) -> None:
    """Add the timeline, with a client for each upstream service that has a URL."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        instruments = app[INSTRUMENTS]
        cache, redis = _create_cache(app, settings, timings.redis)
        app[TIMELINE_CACHE] = cache
        overrides = Overrides(app[DATABASE])
        await overrides.refresh()
        app[OVERRIDE_SERVICE] = OverrideService(app[DATABASE], overrides)
        instruments.observe(TIMELINE_SOURCE_ENABLED, lambda: overrides.enabled(upstream_urls))
        async with create_session(app[TRACING].of_clients()) as session:
            sources = [
                SourceClient(
                    SOURCES[service],
                    url,
                    session,
                    instruments,
                    timeout=min(settings.source_timeout, settings.deadline),
                    connections=settings.connections,
                    breaker_timings=timings.breaker,
                )
                for service, url in upstream_urls.items()
            ]
            instruments.observe(TIMELINE_BREAKER, lambda: breaker_states(sources))
            timeline = app[TIMELINE_AGGREGATOR] = TimelineAggregator(
                sources,
                cache,
                overrides,
                instruments,
                ttl=settings.cache_ttl,
                stale_ttl=settings.stale_ttl,
                deadline=settings.deadline,
                timings=timings.aggregator,
            )
            refresh = run_every(timings.override_refresh_interval, overrides.refresh, "Reading the timeline overrides")
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(run_in_background(refresh))
                if redis is not None:
                    await stack.enter_async_context(monitored_server(app[REDIS_SERVERS], "cache", redis))
                yield
            await timeline.close()
        await cache.close()

    app.cleanup_ctx.append(run)


def _create_cache(
    app: web.Application, settings: TimelineSettings, timings: RedisCacheTimings
) -> tuple[SnapshotStore, Any]:
    """Return the cache, and the client of its Redis; None without one."""
    if settings.redis_url is None:
        return InProcessCache(), None
    from support_service.timeline.redis_cache import RedisCache

    measure = operation_metrics(app, "redis", REDIS_OPERATIONS).record
    cache = RedisCache(settings.redis_url, settings.redis_timeout, measure, timings)
    app[CONNECTION_POOLS]["cache"] = cache.connection.usage
    return cache, cache.connection.client
