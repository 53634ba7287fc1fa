"""SupportWebhooksFailing: a webhook receives no events."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, rate

from observability.drill import Cause, Deployment, DrillFault, Exercise, changed_attributes
from observability.faults import CounterValues, Fault
from observability.signal import SYMPTOM_FOR, WINDOW, Alert, Signal

WEBHOOK_FAILURES = 3  # failed attempts in WEBHOOK_WINDOW, while none succeeds
WEBHOOK_WINDOW = "15m"  # attempts are repeated after ever longer pauses
DELIVERIES = "support_webhook_deliveries_total"


def _deliveries(endpoint: str, outcome: str) -> str:
    return f'support_webhook_deliveries_total{{endpoint="{endpoint}",outcome="{outcome}"}}'


@asynccontextmanager
async def _webhook_is_down(deployment: Deployment) -> AsyncIterator[None]:
    async with changed_attributes(deployment.receiver, webhook_status=500):
        yield


SIGNAL = Signal(
    group="dependencies",
    alerts=(
        Alert(
            name="SupportWebhooksFailing",
            short=("a webhook receives no events", "một webhook không nhận được event"),
            expr=f'sum by (endpoint) (increase({DELIVERIES}{{outcome=~"retried|failed"}}[{WEBHOOK_WINDOW}]))'
            f" >= {WEBHOOK_FAILURES}"
            f' unless sum by (endpoint) (increase({DELIVERIES}{{outcome="delivered"}}[{WINDOW}])) > 0',
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="The webhook {{ $labels.endpoint }} receives no events",
            description="{{ $value | humanize }} deliveries to the webhook {{ $labels.endpoint }} failed in "
            f"{WEBHOOK_WINDOW}, and none succeeded in {WINDOW} (limit {WEBHOOK_FAILURES} failures). They are repeated "
            "for one day.",
            stated=(f"{WEBHOOK_FAILURES} ", WEBHOOK_WINDOW, WINDOW, SYMPTOM_FOR),
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
                _deliveries("crm", "delivered"): CounterValues(10, 0),
                _deliveries("crm", "retried"): CounterValues(0, 2),
                _deliveries("erp", "delivered"): CounterValues(10, 10),
            },
        ),
        "a webhook refuses one event of many": Fault(
            (),
            {
                _deliveries("crm", "delivered"): CounterValues(10, 10),
                _deliveries("crm", "retried"): CounterValues(0, 2),
            },
        ),
    },
    drills=(
        DrillFault(
            "webhook down",
            ("SupportWebhooksFailing",),
            _webhook_is_down,
            (Cause(2, "500"),),
            only_repair="the receiver has to work again; deliveries are repeated",
        ),
    ),
    exercises=(
        Exercise(("stop the receiver of a webhook", "dừng bên nhận một webhook"), ("start it", "khởi động nó")),
    ),
)
