"""SupportWebhooksSlow: events reach a webhook late."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, highest_over_replicas

from observability.drill import Cause, Deployment, DrillFault, changed_attributes
from observability.faults import CounterValues, Fault, GaugeValues
from observability.signal import SYMPTOM_FOR, WINDOW, Alert, Signal, scaled_seconds
from observability.signals.webhooks_failing import RECEIVES_NOTHING, WEBHOOK_FAILURES, WEBHOOK_WINDOW, deliveries

WEBHOOK_OVERDUE = (
    120  # s; a delivery begins within 2 s and takes 15 s at most, and a burst of 10,000 events is over by then
)
ENDPOINT = '{endpoint="crm"}'


@asynccontextmanager
async def _receiver_is_slow(deployment: Deployment) -> AsyncIterator[None]:
    """It takes six seconds for each event: sixteen deliveries at a time are fewer than there are events."""
    many, slow = {"unread_cases": 8.0}, {"webhook_delay": 6.0}
    async with changed_attributes(deployment.traffic, **many), changed_attributes(deployment.receiver, **slow):
        yield


SIGNAL = Signal(
    group="dependencies",
    alerts=(
        Alert(
            name="SupportWebhooksSlow",
            short=("events reach a webhook late", "event tới một webhook muộn"),
            expr=f"max by (endpoint) (support_webhook_overdue_age_seconds) > {scaled_seconds(WEBHOOK_OVERDUE)}"
            f" unless on (endpoint) ({RECEIVES_NOTHING})",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="The webhook {{ $labels.endpoint }} gets events {{ $value | humanizeDuration }} late",
            description="The first pending delivery to the webhook {{ $labels.endpoint }} was due "
            f"{{{{ $value | humanizeDuration }}}} ago (limit {WEBHOOK_OVERDUE} s). Its receiver answers more slowly "
            "than events happen. No event is lost.",
            stated=(f"{WEBHOOK_OVERDUE} s", f"{WEBHOOK_FAILURES} ", WEBHOOK_WINDOW, WINDOW, SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support webhook delay",
            "Time since the first pending delivery to each webhook was due (the line is its limit). Normal: under 20.",
            row="dependencies",
            place=60,
            queries=(Query(highest_over_replicas("support_webhook_overdue_age_seconds", "endpoint"), "{{endpoint}}"),),
            unit="s",
            limit=WEBHOOK_OVERDUE,
        ),
    ),
    faults={
        "a webhook is slow": Fault(
            ('SupportWebhooksSlow{endpoint="crm"}',),
            {
                "support_webhook_overdue_age_seconds" + ENDPOINT: GaugeValues(1, 200),
                deliveries("crm", "delivered"): CounterValues(30, 12),
                deliveries("crm", "retried"): CounterValues(1, 1),
            },
        ),
        "a webhook times out": Fault(
            ('SupportWebhooksFailing{endpoint="crm"}',),
            {
                "support_webhook_overdue_age_seconds" + ENDPOINT: GaugeValues(1, 40, 40),
                deliveries("crm", "delivered"): CounterValues(30, 0),
                deliveries("crm", "retried"): CounterValues(0, 0.3),
            },
        ),
        "a webhook gets a burst of events": Fault(
            (), {"support_webhook_overdue_age_seconds" + ENDPOINT: GaugeValues(1, 100)}
        ),
    },
    drills=(
        DrillFault(
            "webhook slow",
            ("SupportWebhooksSlow",),
            _receiver_is_slow,
            (Cause(1, r'"endpoint": "crm"} ([4-9]|\d\d)'),),
            only_repair="the receiver has to answer faster",
        ),
    ),
)
