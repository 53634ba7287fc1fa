"""SupportMetricsMissing: Prometheus reads no metrics, although the service works."""

from observability.faults import UP, Fault, Gauge
from observability.signal import Alert, Signal
from observability.signals.service_down import NO_REPLICA, PROBE_GOOD

METRICS_MISSING_FOR = "5m"  # longer than the probe needs to notice that the service is down

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
            panel="Support availability",
            stated=(METRICS_MISSING_FOR,),
        ),
    ),
    faults={
        "Prometheus cannot reach the service": Fault(("SupportMetricsMissing",), {UP: Gauge(1, 0)}),
    },
)
