"""The telemetry component: metrics and traces of one application, and the lag of its event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from support_service.core.background import run_in_background
from support_service.settings.process import TelemetrySettings
from support_service.telemetry.http import RequestMetrics
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.instruments.http import HTTP_SERVER_ACTIVE
from support_service.telemetry.instruments.stores import DB_CONNECTIONS
from support_service.telemetry.process import LoopLagSampler, observe_process
from support_service.telemetry.provider import SHUTDOWN_TIMEOUT, Metrics, build_resource
from support_service.telemetry.stores import connection_counts
from support_service.telemetry.traces import Tracing, create_tracing

METRICS = web.AppKey("metrics", Metrics)
INSTRUMENTS = web.AppKey("instruments", Instruments)
TRACING = web.AppKey("tracing", Tracing)
REQUEST_METRICS = web.AppKey("request_metrics", RequestMetrics)
LOOP_LAG = web.AppKey("loop_lag", LoopLagSampler)
# The (used, idle) connections of each database and Redis pool, by pool name.
CONNECTION_POOLS = web.AppKey("connection_pools", dict[str, Callable[[], tuple[int, int]]])


@dataclass(frozen=True, slots=True)
class TelemetryTimings:
    """Times of the telemetry component in seconds."""

    lag_sample_interval: float = 0.25
    shutdown_timeout: float = SHUTDOWN_TIMEOUT  # for the last export


def setup(
    app: web.Application, settings: TelemetrySettings, timings: TelemetryTimings, *, channels: Sequence[str]
) -> None:
    """Add telemetry; `channels` of cases have a metric label of their own.

    It stops last, so that the telemetry of every other component's shutdown is exported too.
    """
    resource = build_resource()
    metrics = app[METRICS] = Metrics(settings.metrics, resource, timings.shutdown_timeout)
    tracing = app[TRACING] = create_tracing(settings.traces, resource, timings.shutdown_timeout)
    instruments = app[INSTRUMENTS] = Instruments(metrics.meter, channels)
    requests = app[REQUEST_METRICS] = RequestMetrics(instruments.http_server_duration)
    pools = app[CONNECTION_POOLS] = {}
    lag = app[LOOP_LAG] = LoopLagSampler(instruments.event_loop_lag, timings.lag_sample_interval)
    instruments.observe(HTTP_SERVER_ACTIVE, requests.active)
    instruments.observe(DB_CONNECTIONS, lambda: connection_counts(pools))
    observe_process(instruments)
    app.middlewares.extend(tracing.of_servers())

    async def run(_: web.Application) -> AsyncIterator[None]:
        async with run_in_background(lag.run()):
            yield
        await asyncio.gather(asyncio.to_thread(metrics.close), asyncio.to_thread(tracing.close))

    app.cleanup_ctx.append(run)
