"""SupportRequestsTurnedAway: limits refuse many requests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, rate

from observability.drill import Action, Cause, Deployment, DrillFault, DrillScenario, changed_attributes
from observability.faults import CounterValues, Fault, SeriesValues
from observability.signal import SYMPTOM_FOR, SYMPTOM_WINDOW, Alert, Signal, highest_label_template

TURNED_AWAY_SHARE = 0.05  # share of requests; a client over its limit is far below it
TURNED_AWAY = 20  # requests per window
TOP_REASON = highest_label_template(
    "reason", f"sum by (reason) (rate(support_request_turned_away_total[{SYMPTOM_FOR}]))"
)
REFUSED_REQUESTS = f"sum(increase(support_request_turned_away_total[{SYMPTOM_WINDOW}]))"


def _received(a_minute: float) -> dict[str, SeriesValues]:
    return {'support_request_received_total{synthetic="other"}': CounterValues(a_minute, a_minute)}


@asynccontextmanager
async def _clients_send_too_much(deployment: Deployment) -> AsyncIterator[None]:
    async with changed_attributes(deployment.traffic, reads=100.0):
        yield


SIGNAL = Signal(
    group="access",
    alerts=(
        Alert(
            name="SupportRequestsTurnedAway",
            short=("limits refuse many requests", "giới hạn từ chối nhiều request"),
            expr=f"{REFUSED_REQUESTS} / sum(increase(support_request_received_total[{SYMPTOM_WINDOW}]))"
            f" > {TURNED_AWAY_SHARE} and {REFUSED_REQUESTS} >= {TURNED_AWAY}",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="Limits refuse {{ $value | humanizePercentage }} of requests, mostly for the reason "
            f"{TOP_REASON}",
            description=f"{{{{ $value | humanizePercentage }}}} of requests in {SYMPTOM_WINDOW} were answered with "
            f"429 or 503 by a limit (limit {TURNED_AWAY_SHARE:.0%} and {TURNED_AWAY} requests). Their callers must "
            "repeat them.",
            stated=(f"{TURNED_AWAY_SHARE * 100:g} %", f"{TURNED_AWAY} request", SYMPTOM_WINDOW, SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support requests turned away",
            "Requests that admission refused. address, principal: over the rate limit (429). Other reasons: overload "
            "(503). Normal: 0, or a few from a client over its limit.",
            row="access",
            place=40,
            queries=(Query(rate("support_request_turned_away_total", "reason"), "{{reason}}"),),
            unit="reqps",
            width=12,
        ),
    ),
    faults={
        "limits refuse most requests": Fault(
            ("SupportRequestsTurnedAway",),
            _received(100) | {'support_request_turned_away_total{reason="address"}': CounterValues(0.5, 67)},
        ),
        "limits refuse a twelfth of the requests": Fault(
            ("SupportRequestsTurnedAway",),
            _received(300) | {'support_request_turned_away_total{reason="address"}': CounterValues(0, 27)},
        ),
        "limits refuse most of few requests": Fault(
            (), _received(9) | {'support_request_turned_away_total{reason="address"}': CounterValues(0, 8)}
        ),
        "limits refuse a client": Fault(
            (), _received(1000) | {'support_request_turned_away_total{reason="principal"}': CounterValues(1, 30)}
        ),
    },
    drills=(
        DrillFault(
            "67 % of requests get 429",
            ("SupportRequestsTurnedAway",),
            _clients_send_too_much,
            (Cause(1, '"address"'),),
            scenario=DrillScenario(settings={"SUPPORT_RATE_LIMIT_ADDRESS": "36/s"}),
            actions=(Action("Double the limits"),),
        ),
    ),
)
