"""SupportNoTraffic: no request arrives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, rate

from observability.drill import Cause, Deployment, DrillFault, changed_attributes
from observability.signal import CAUSE_FOR, CAUSE_KEPT, Alert, Signal
from observability.signals.ticket_traffic_anomaly import TRAFFIC_HOUR, TRAFFIC_PAST

NO_TRAFFIC_WINDOW = "10m"  # agents work at all minutes of a busy hour
NO_TRAFFIC_EXPECTED = 100  # requests in the same hour of yesterday and a week ago; then ten minutes are not empty
RECEIVED = 'support_request_received_total{synthetic="other"}'
EXPECTED = " and ".join(
    f"sum(increase({RECEIVED}[{TRAFFIC_HOUR}] offset {24 * day - 1}h30m)) > {NO_TRAFFIC_EXPECTED}"
    for day in (1, TRAFFIC_PAST)
)


@asynccontextmanager
async def _nothing_is_sent(deployment: Deployment) -> AsyncIterator[None]:
    """The way of clients to the service is interrupted. The way of the probe is not."""
    async with changed_attributes(deployment.traffic, cases=0.0, reads=0.0, uploads=0.0):
        yield


SIGNAL = Signal(
    group="traffic",
    alerts=(
        Alert(
            name="SupportNoTraffic",
            short=("no request arrives", "không có request nào tới"),
            expr=f"sum(increase({RECEIVED}[{NO_TRAFFIC_WINDOW}])) == 0 and {EXPECTED}",
            for_=CAUSE_FOR,
            severity="critical",
            summary="No request of a person or a system reaches support-service",
            description=f"{{{{ $value }}}} requests except the probe's arrived in {NO_TRAFFIC_WINDOW} (limit: at "
            f"least 1). More than {NO_TRAFFIC_EXPECTED} arrived in the same hour of yesterday and of the same "
            "day last week. Most likely the way to the service is broken: a load balancer, DNS, or a certificate.",
            keep_firing_for=CAUSE_KEPT,
            stated=(f"{NO_TRAFFIC_EXPECTED} request", NO_TRAFFIC_WINDOW, CAUSE_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support requests by sender",
            "Requests except health checks and scrapes, of the probe and of others. Normal: others as on other days.",
            row="api",
            place=60,
            queries=(Query(rate("support_request_received_total", "synthetic"), "{{synthetic}}"),),
            unit="reqps",
            width=12,
        ),
    ),
    drills=(
        DrillFault(
            "no request",
            ("SupportNoTraffic",),
            _nothing_is_sent,
            (Cause(2, '"other"} 0$'),),
            only_repair="the way to the service has to be repaired",
        ),
    ),
)
