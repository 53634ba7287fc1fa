"""SupportServiceDown: no replica responds."""

from grafana.panel import Panel, Query, total

from observability.faults import PROBE, UP, Fault, Gauge
from observability.signal import CAUSE_KEPT, Alert, Signal

DOWN_FOR = "1m"  # four failed scrapes in a row; a restart takes seconds
NO_REPLICA = '(count(up{job="support-service"} == 1) or vector(0)) == 0'
PROBE_GOOD = "on () max(support_probe_success) == 1"  # the service answers the probe, but not Prometheus

SIGNAL = Signal(
    group="service",
    alerts=(
        Alert(
            name="SupportServiceDown",
            short=("no replica responds", "không replica nào trả lời"),
            expr=f"{NO_REPLICA} unless {PROBE_GOOD}",
            for_=DOWN_FOR,
            severity="critical",
            summary="support-service is down: no replica responds",
            description=f"{{{{ $value }}}} replicas have answered a scrape in {DOWN_FOR} (limit: at least 1). Agents "
            "can neither read nor write cases.",
            keep_firing_for=CAUSE_KEPT,
            stated=(DOWN_FOR,),
        ),
    ),
    panels=(
        Panel(
            "Support availability",
            "Replicas that answer Prometheus, and their versions.",
            row="objectives",
            place=10,
            queries=(
                Query('count(up{job="support-service"} == 1) or vector(0)', "replicas that answer"),
                Query(total("support_build_info", "version"), "version {{version}}"),
            ),
            unit="short",
            limit=1,
            low=True,
            alerts=("SupportServiceDown", "Watchdog"),
            kind="number",
            width=6,
        ),
    ),
    faults={
        "the service is down": Fault(
            ("SupportServiceDown", "SupportProbeFailing"),
            {UP: Gauge(1, 0), PROBE: Gauge(1, 0)},
        ),
        "the service and the probe are gone": Fault(
            ("SupportServiceDown", "SupportProbeMissing"), {UP: Gauge(1, None), PROBE: Gauge(1, None)}
        ),
    },
)
