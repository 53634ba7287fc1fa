"""SupportOutboxStalled: events are not published."""

from grafana.panel import Panel, Query, highest_over_replicas, rate

from observability.faults import Fault, GaugeValues
from observability.signal import SYMPTOM_FOR, Alert, Signal, scaled_seconds

OUTBOX_AGE = 120  # s; the relay takes less than 1 s, and a broker's failover less than this

SIGNAL = Signal(
    group="events",
    alerts=(
        Alert(
            name="SupportOutboxStalled",
            short=("events are not published", "event không được publish"),
            expr=f"max(support_events_outbox_oldest_seconds) > {scaled_seconds(OUTBOX_AGE)}",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="Case events are published late: the oldest has waited {{ $value | humanizeDuration }}",
            description="The oldest event in the outbox has waited {{ $value | humanizeDuration }} (limit "
            f"{OUTBOX_AGE} s). Subscribers receive changes late. No event is lost.",
            stated=(f"{OUTBOX_AGE} s", SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support events",
            "Age of the oldest unpublished event (the line is its limit). On the right: waiting inbound events and "
            "dead letters. Normal: under 1 s, no dead letters.",
            row="events",
            place=10,
            queries=(
                Query(highest_over_replicas("support_events_outbox_oldest_seconds"), "oldest not published"),
                Query(highest_over_replicas("support_events_stream_lag"), "inbound, waiting", right="short"),
                Query(highest_over_replicas("support_events_dead_letters"), "dead letters", right="short"),
                Query(highest_over_replicas("support_events_outbox_pending"), "outbox, waiting", right="short"),
            ),
            unit="s",
            limit=OUTBOX_AGE,
            width=12,
        ),
        Panel(
            "Support events published",
            "Events of cases by outcome of their publication to the broker. error counts failed attempts. The event "
            "stays in the outbox.",
            row="events",
            place=20,
            queries=(Query(rate("support_events_published_total", "type, outcome"), "{{type}} {{outcome}}"),),
            unit="ops",
            width=12,
        ),
    ),
    faults={
        "nothing is published": Fault(
            ("SupportOutboxStalled",),
            {"support_events_outbox_oldest_seconds": GaugeValues(OUTBOX_AGE / 2, OUTBOX_AGE * 2)},
        )
    },
)
