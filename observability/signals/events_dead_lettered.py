"""SupportEventsDeadLettered: events of other services failed for good."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis

from observability.drill import Cause, Deployment, DrillFault
from observability.faults import Fault, GaugeValues
from observability.signal import AT_ONCE, Alert, Signal

DEAD_LETTERS = 0  # events; each is a change that a case has not received

INBOUND = "support.inbound"


@asynccontextmanager
async def _event_is_invalid(deployment: Deployment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(deployment.events_url) as client:
        await client.xadd(INBOUND, {"event": "no event"})
    yield
    (letter,) = map(json.loads, (await deployment.run("events", "dead-letters", "list")).splitlines())
    await deployment.run("events", "dead-letters", "drop", letter["id"])


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
        "an event is given up": Fault(
            ("SupportEventsDeadLettered",), {"support_events_dead_letters": GaugeValues(0, 1)}
        )
    },
    drills=(
        DrillFault(
            "invalid event",
            ("SupportEventsDeadLettered",),
            _event_is_invalid,
            (Cause(1, '"reason"'),),
            only_repair="no action is needed: the consumer goes on, and the alert ends",
        ),
    ),
)
