"""SupportWebhooksFailing: a webhook refuses events."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle

from grafana.panel import Panel, Query, rate

from observability.drill import Cause, Deployment, DrillFault, Exercise, changed_attributes
from observability.faults import CounterValues, Fault
from observability.signal import SYMPTOM_FOR, WINDOW, Alert, Signal

WEBHOOK_FAILURES = 3  # failed attempts in WEBHOOK_WINDOW, while none succeeds
WEBHOOK_SHARE = 0.25  # share of attempts in WEBHOOK_WINDOW; single events that a receiver can't take stay below it
WEBHOOK_SHARE_FAILURES = 10  # failed attempts in WEBHOOK_WINDOW at this share; fewer may be one restart of the receiver
WEBHOOK_WINDOW = "15m"  # attempts are repeated after ever longer pauses
DELIVERIES = "support_webhook_deliveries_total"
FAILURE, SUCCESS = 'outcome=~"retried|failed"', 'outcome="delivered"'


def _increase(where: str = "", window: str = WEBHOOK_WINDOW) -> str:
    return f"sum by (endpoint) (increase({DELIVERIES}{{{where}}}[{window}]))"


SHARE = f"{_increase(FAILURE)} / {_increase()}"
RECEIVES_NOTHING = f"{_increase(FAILURE)} >= {WEBHOOK_FAILURES} unless on (endpoint) {_increase(SUCCESS, WINDOW)} > 0"


def deliveries(endpoint: str, outcome: str) -> str:
    return f'support_webhook_deliveries_total{{endpoint="{endpoint}",outcome="{outcome}"}}'


@asynccontextmanager
async def _webhook_is_down(deployment: Deployment) -> AsyncIterator[None]:
    async with changed_attributes(deployment.receiver, webhook_statuses=cycle((500,))):
        yield


@asynccontextmanager
async def _webhook_is_gone(deployment: Deployment) -> AsyncIterator[None]:
    """A new release of the receiver has another path: the old one wants no more events."""
    async with changed_attributes(deployment.receiver, webhook_statuses=cycle((410,))):
        yield


@asynccontextmanager
async def _webhook_refuses_every_second_event(deployment: Deployment) -> AsyncIterator[None]:
    async with changed_attributes(deployment.receiver, webhook_statuses=cycle((204, 503))):
        yield


SIGNAL = Signal(
    group="dependencies",
    alerts=(
        Alert(
            name="SupportWebhooksFailing",
            short=("a webhook refuses events", "một webhook từ chối event"),
            expr=f"{SHARE} and ({RECEIVES_NOTHING})"
            f" or {SHARE} > {WEBHOOK_SHARE} and {_increase(FAILURE)} >= {WEBHOOK_SHARE_FAILURES}"
            f" and {_increase(FAILURE, WINDOW)} > 0",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="The webhook {{ $labels.endpoint }} refuses {{ $value | humanizePercentage }} of deliveries",
            description="{{ $value | humanizePercentage }} of deliveries to the webhook {{ $labels.endpoint }} failed "
            f"in {WEBHOOK_WINDOW} (limit {WEBHOOK_SHARE:.0%} and {WEBHOOK_SHARE_FAILURES} failures, or "
            f"{WEBHOOK_FAILURES} failures while none succeeds in {WINDOW}). They are repeated for one day, except "
            "after 410.",
            stated=(
                f"{WEBHOOK_SHARE * 100:g} %",
                f"{WEBHOOK_SHARE_FAILURES} ",
                f"{WEBHOOK_FAILURES} ",
                WEBHOOK_WINDOW,
                WINDOW,
                SYMPTOM_FOR,
            ),
        ),
    ),
    panels=(
        Panel(
            "Support webhook deliveries",
            "Attempts to deliver events by webhook and outcome. Normal: delivered, and a few retried.",
            row="dependencies",
            place=50,
            queries=(
                Query(
                    rate("support_webhook_deliveries_total", "endpoint, outcome") + " > 0", "{{endpoint}} {{outcome}}"
                ),
            ),
            unit="ops",
        ),
    ),
    faults={
        "a webhook is down": Fault(
            ('SupportWebhooksFailing{endpoint="crm"}',),
            {
                deliveries("crm", "delivered"): CounterValues(10, 0),
                deliveries("crm", "retried"): CounterValues(0, 0.3),
                deliveries("erp", "delivered"): CounterValues(10, 10),
            },
        ),
        "a webhook refuses one event of many": Fault(
            (),
            {deliveries("crm", "delivered"): CounterValues(10, 10), deliveries("crm", "retried"): CounterValues(0, 2)},
        ),
        "a webhook refuses every second event": Fault(
            ('SupportWebhooksFailing{endpoint="crm"}',),
            {deliveries("crm", "delivered"): CounterValues(1, 1), deliveries("crm", "retried"): CounterValues(0, 1)},
        ),
    },
    drills=(
        DrillFault(
            "webhook down",
            ("SupportWebhooksFailing",),
            _webhook_is_down,
            (Cause(2, "500"),),
            only_repair="the receiver has to work again, and deliveries are repeated",
        ),
        DrillFault(
            "webhook answers 410",
            ("SupportWebhooksFailing",),
            _webhook_is_gone,
            (Cause(2, "not retried: The endpoint responded 410"),),
            only_repair="the receiver has to work again, then the deliveries are replayed",
        ),
        DrillFault(
            "webhook refuses every second event",
            ("SupportWebhooksFailing",),
            _webhook_refuses_every_second_event,
            (Cause(3, '"503"'),),  # the log has a line a minute, which may be that of the fault before
            only_repair="the receiver has to work again, and deliveries are repeated",
        ),
    ),
    exercises=(
        Exercise(("stop the receiver of a webhook", "dừng bên nhận một webhook"), ("start it", "khởi động nó")),
    ),
)
