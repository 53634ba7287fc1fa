"""SupportMetricsMissing: Prometheus reads no metrics, although the service works."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from observability.drill import Cause, Deployment, DrillFault, Exercise
from observability.faults import UP_SERIES, Fault, GaugeValues
from observability.signal import Alert, Signal
from observability.signals.service_down import NO_REPLICA, NO_REPLICA_PUSHES, PROBE_GOOD

METRICS_MISSING_FOR = "5m"  # longer than the probe needs to notice that the service is down

UNUSED_ADDRESS = "127.0.0.1:9"  # the port that discards; nothing listens there


@asynccontextmanager
async def _scrapes_are_blocked(deployment: Deployment) -> AsyncIterator[None]:
    await deployment.monitoring.scrape("support-service", [UNUSED_ADDRESS])
    yield
    await deployment.monitoring.scrape("support-service", deployment.targets)


SIGNAL = Signal(
    group="service",
    alerts=(
        Alert(
            name="SupportMetricsMissing",
            short=(
                "Prometheus reads no metrics, although the service works",
                "Prometheus không đọc được metrics, dù service vẫn chạy",
            ),
            expr=f"{NO_REPLICA} and {PROBE_GOOD}",
            for_=METRICS_MISSING_FOR,
            severity="warning",
            summary="Prometheus reads no metrics of support-service, although the service works",
            description=f"{{{{ $value }}}} replicas have answered a scrape in {METRICS_MISSING_FOR} (limit: at least "
            "1), while the synthetic check succeeds. No other alert on the service can fire until scrapes work.",
            pushed_expr=f"{NO_REPLICA_PUSHES} and {PROBE_GOOD}",
            pushed_description=f"{{{{ $value }}}} replicas have pushed metrics in {METRICS_MISSING_FOR} (limit: at "
            "least 1), while the synthetic check succeeds. No other alert on the service can fire until they do.",
            panel="Support availability",
            stated=(METRICS_MISSING_FOR,),
        ),
    ),
    faults={"Prometheus cannot reach the service": Fault(("SupportMetricsMissing",), {UP_SERIES: GaugeValues(1, 0)})},
    drills=(
        DrillFault(
            "scrapes blocked",
            ("SupportMetricsMissing",),
            _scrapes_are_blocked,
            (Cause(2, "refused"),),
            only_repair="the scrape has to be repaired",
        ),
    ),
    exercises=(Exercise(("block scrapes of the service", "chặn scrape tới service"), ("allow them", "cho phép lại")),),
)
