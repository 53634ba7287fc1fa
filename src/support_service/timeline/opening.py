"""Opens the timeline: its cache, and the clients of the upstream services."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from support_service.core.domain.upstream_services import SOURCES
from support_service.platform.background import Job, run_in_background
from support_service.platform.database import Database
from support_service.platform.settings import Settings
from support_service.platform.settings.resources import TimelineSettings
from support_service.platform.telemetry.stores import REDIS_OPERATIONS, monitored_redis
from support_service.platform.telemetry.telemetry import Telemetry
from support_service.timeline.aggregator import AggregatorTimings, TimelineAggregator
from support_service.timeline.cache import InProcessCache, RedisCacheTimings, SnapshotStore
from support_service.timeline.overrides import REFRESH_INTERVAL, TIMELINE_SOURCE_ENABLED, Overrides
from support_service.timeline.source_client import TIMELINE_BREAKER, SourceClient, breaker_states, create_session
from support_service.timeline.source_health import BreakerTimings

SOURCE_CONNECTIONS = 32  # concurrent calls to one source


@dataclass(frozen=True, slots=True)
class TimelineTimings:
    """Times in seconds."""

    override_refresh_interval: float = REFRESH_INTERVAL
    aggregator: AggregatorTimings = AggregatorTimings()
    breaker: BreakerTimings = BreakerTimings()
    redis: RedisCacheTimings = RedisCacheTimings()


@asynccontextmanager
async def open_cache(
    settings: TimelineSettings, telemetry: Telemetry, timings: RedisCacheTimings
) -> AsyncIterator[SnapshotStore]:
    """Open the cache during a `with` block: in the Redis of the settings, or in this process."""
    if settings.redis_url is None:
        yield InProcessCache()
        return
    from support_service.timeline.redis_cache import RedisCache

    measure = telemetry.operation_recorder("redis", REDIS_OPERATIONS)
    cache = RedisCache(settings.redis_url, settings.redis_timeout, measure, timings)
    telemetry.pools["cache"] = cache.connection.pool_state
    try:
        async with monitored_redis(telemetry.redis_servers, "cache", cache.connection.client):
            yield cache
    finally:
        await cache.close()


@asynccontextmanager
async def open_timeline(
    settings: Settings, database: Database, cache: SnapshotStore, telemetry: Telemetry, timings: TimelineTimings
) -> AsyncIterator[TimelineAggregator]:
    """Open a client of each upstream service that has a URL, and follow the overrides, during a `with` block."""
    instruments, urls, times = telemetry.instruments, settings.upstream_urls, settings.timeline
    overrides = Overrides(database)
    await overrides.refresh()
    instruments.observe(TIMELINE_SOURCE_ENABLED, lambda: overrides.observe_enabled(urls))
    async with create_session(telemetry.tracing.client_trace_configs()) as session:
        sources = [
            SourceClient(
                SOURCES[service],
                url,
                session,
                instruments,
                timeout=min(times.source_timeout, times.deadline),
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
            stale_ttl=times.stale_ttl,
            deadline=times.deadline,
            timings=timings.aggregator,
        )
        try:
            refresh = Job("Reading the timeline overrides", timings.override_refresh_interval, overrides.refresh)
            async with run_in_background(refresh):
                yield timeline
        finally:
            await timeline.close()
