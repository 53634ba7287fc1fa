"""SupportEventsDeadLettered: events of other services failed for good."""

from observability.faults import Fault, Gauge
from observability.signal import AT_ONCE, Alert, Signal

DEAD_LETTERS = 0  # events; each is a change that a case has not received

SIGNAL = Signal(
    group="events",
    alerts=(
        Alert(
            name="SupportEventsDeadLettered",
            short=("events of other services failed for good", "event của service khác lỗi hẳn"),
            expr=f"max(support_events_dead_letters) > {DEAD_LETTERS}",
            for_=AT_ONCE,
            severity="warning",
            summary="{{ $value | humanize }} events of other services are dead letters",
            description=f"{{{{ $value | humanize }}}} events could not be applied (limit {DEAD_LETTERS}). Each is a "
            "change that its case does not show until the event is replayed.",
            panel="Support events",
            stated=(f" {DEAD_LETTERS},",),
        ),
    ),
    faults={
        "an event is given up": Fault(("SupportEventsDeadLettered",), {"support_events_dead_letters": Gauge(0, 1)}),
    },
)
