"""The telemetry component: metrics and traces of one application, and the lag of its event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass

from aiohttp import web
from opentelemetry.sdk.resources import Resource

from support_service.platform.background import run_in_background
from support_service.platform.settings.process import TelemetrySettings
from support_service.platform.telemetry.http import HTTP_SERVER_ACTIVE, RequestMetrics
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.process import LoopLagSampler, observe_process
from support_service.platform.telemetry.provider import SHUTDOWN_TIMEOUT, Metrics, build_resource, environment_hidden
from support_service.platform.telemetry.stores import (
    DB_CONNECTION_LIMIT,
    DB_CONNECTION_WAITING,
    DB_CONNECTIONS,
    REDIS_EVICTED_KEYS,
    REDIS_EVICTION_POLICY,
    REDIS_MEMORY,
    REDIS_MEMORY_LIMIT,
    REDIS_ROLE,
    OperationMetrics,
    PoolMetrics,
    PoolState,
    RedisServerMetrics,
    RedisServerState,
)
from support_service.platform.telemetry.traces import NoTracing, Tracing

METRICS = web.AppKey("metrics", Metrics)
INSTRUMENTS = web.AppKey("instruments", Instruments)
TRACING = web.AppKey("tracing", Tracing)
REQUEST_METRICS = web.AppKey("request_metrics", RequestMetrics)
LOOP_LAG = web.AppKey("loop_lag", LoopLagSampler)
# The state of each database and Redis pool, by pool name, and of each Redis server; None while it is unknown.
CONNECTION_POOLS = web.AppKey("connection_pools", dict[str, Callable[[], PoolState]])
REDIS_SERVERS = web.AppKey("redis_servers", dict[str, Callable[[], RedisServerState | None]])


@dataclass(frozen=True, slots=True)
class TelemetryTimings:
    """Times of the telemetry component in seconds."""

    lag_sample_interval: float = 0.25
    shutdown_timeout: float = SHUTDOWN_TIMEOUT  # for the last export


def setup(
    app: web.Application,
    settings: TelemetrySettings,
    timings: TelemetryTimings,
) -> None:
    """Add telemetry.

    It stops last, so that the telemetry of every other component's shutdown is exported too.
    """
    resource = build_resource()
    metrics = app[METRICS] = Metrics(settings.metrics, resource, timings.shutdown_timeout, traced=bool(settings.traces))
    tracing = app[TRACING] = create_tracing(settings.traces, resource, timings.shutdown_timeout)
    instruments = app[INSTRUMENTS] = Instruments(metrics.meter, exemplars=metrics.exemplars)
    requests = app[REQUEST_METRICS] = RequestMetrics(instruments)
    connection_pools = app[CONNECTION_POOLS] = {}
    redis_servers = app[REDIS_SERVERS] = {}
    pools, redis = PoolMetrics(connection_pools), RedisServerMetrics(redis_servers)
    lag = app[LOOP_LAG] = LoopLagSampler(instruments, timings.lag_sample_interval)
    instruments.observe(HTTP_SERVER_ACTIVE, requests.active)
    instruments.observe(DB_CONNECTIONS, pools.connections)
    instruments.observe(DB_CONNECTION_LIMIT, pools.limits)
    instruments.observe(DB_CONNECTION_WAITING, pools.waiting)
    instruments.observe(REDIS_ROLE, redis.roles)
    instruments.observe(REDIS_EVICTION_POLICY, redis.policies)
    instruments.observe(REDIS_EVICTED_KEYS, redis.evicted)
    instruments.observe(REDIS_MEMORY, redis.memory)
    instruments.observe(REDIS_MEMORY_LIMIT, redis.memory_limits)
    observe_process(instruments)
    app.middlewares.extend(tracing.of_servers())

    async def run(_: web.Application) -> AsyncIterator[None]:
        async with run_in_background(lag.run()):
            yield
        await asyncio.gather(asyncio.to_thread(metrics.close), asyncio.to_thread(tracing.close))

    app.cleanup_ctx.append(run)


def create_tracing(
    exporters: Collection[str], resource: Resource, shutdown_timeout: float = SHUTDOWN_TIMEOUT
) -> Tracing:
    """Return the tracing of one app; imports OpenTelemetry's instrumentation only if there is an exporter."""
    if not exporters:
        return NoTracing()
    with environment_hidden():
        from support_service.platform.telemetry.spans import SdkTracing
    return SdkTracing(exporters, resource, shutdown_timeout)


def operation_metrics(app: web.Application, system: str, operations: Iterable[str]) -> OperationMetrics:
    """Return the recorder of an app's operations on a database system; it also adds spans if traces are exported."""
    return OperationMetrics(app[INSTRUMENTS], system, operations, app[TRACING].of_operations(system))
