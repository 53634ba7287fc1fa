"""The telemetry of one application: its metrics and traces, and the lag of its event loop."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from opentelemetry.sdk.resources import Resource

from support_service.platform.settings.process import TelemetrySettings
from support_service.platform.telemetry.http import HTTP_SERVER_ACTIVE, RequestMetrics
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.process import LoopLagSampler, observe_process
from support_service.platform.telemetry.provider import (
    SHUTDOWN_TIMEOUT,
    Metrics,
    build_resource,
    hide_environment,
    refusals_in_one_line,
)
from support_service.platform.telemetry.stores import (
    OperationMetrics,
    PoolState,
    RecordOperation,
    RedisServers,
    observe_pools,
    observe_redis,
)
from support_service.platform.telemetry.traces import NoTracing, Tracing


@dataclass(frozen=True, slots=True)
class TelemetryTimings:
    """Times in seconds."""

    lag_sample_interval: float = 0.25
    shutdown_timeout: float = SHUTDOWN_TIMEOUT  # for the last export


class Telemetry:
    """Metrics, traces and the lag of the event loop; every part of the application records through it."""

    def __init__(self, settings: TelemetrySettings, timings: TelemetryTimings = TelemetryTimings()) -> None:
        resource = build_resource()
        self.metrics = Metrics(settings.metrics, resource, timings.shutdown_timeout, traced=bool(settings.traces))
        self.tracing = create_tracing(settings.traces, resource, timings.shutdown_timeout)
        instruments = Instruments(self.metrics.meter, exemplars=self.metrics.exemplars)
        self.instruments = instruments
        self.requests = RequestMetrics(instruments)
        self.pools: dict[str, Callable[[], PoolState]] = {}  # of the database and of Redis, by name
        self.redis_servers: RedisServers = {}
        self.loop_lag = LoopLagSampler(instruments, timings.lag_sample_interval)
        instruments.observe(HTTP_SERVER_ACTIVE, self.requests.active)
        observe_pools(instruments, self.pools)
        observe_redis(instruments, self.redis_servers)
        observe_process(instruments)

    def operation_recorder(self, system: str, operations: Iterable[str]) -> RecordOperation:
        """Return the recorder of the operations on a system; it also adds spans if traces are exported."""
        spans = self.tracing.span_recorder(system)
        return OperationMetrics(self.instruments, system, operations, spans).record

    async def close(self) -> None:
        """Export what is left."""
        await asyncio.gather(asyncio.to_thread(self.metrics.close), asyncio.to_thread(self.tracing.close))


def create_tracing(
    exporters: Collection[str], resource: Resource, shutdown_timeout: float = SHUTDOWN_TIMEOUT
) -> Tracing:
    """Return the tracing of one app; imports OpenTelemetry's instrumentation only if there is an exporter."""
    if not exporters:
        return NoTracing()
    with hide_environment():
        from support_service.platform.telemetry.spans import SdkTracing
    with refusals_in_one_line():
        return SdkTracing(exporters, resource, shutdown_timeout)
