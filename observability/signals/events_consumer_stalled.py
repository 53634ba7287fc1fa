"""SupportEventsConsumerStalled: events of other services are not applied."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import redis.asyncio as redis
from grafana.panel import Panel, Query, rate

from observability.drill import Cause, Deployment, DrillFault
from observability.faults import CounterValues, Fault, GaugeValues
from observability.signal import EVENTS_FOR, WINDOW, Alert, Signal, duration_seconds

STREAM_WAITING = 100  # waiting events while none is applied; a consumer takes as many in a second or two
STREAM_BEHIND = 5000  # waiting events although some are applied; more than a consumer takes in a minute
BEHIND_FOR = "5m"  # so many wait at least; a burst that arrives at once is then no part of the comparison
CATCH_UP = "2h"  # a backlog that will be gone by then, at its pace of the last BEHIND_FOR, is left alone

INBOUND = "support.inbound"
WAITING = "max(support_events_stream_lag)"
APPLIED = 'support_events_consumed_total{outcome!~"failed|dead"}'
PACES = duration_seconds(CATCH_UP) // duration_seconds(BEHIND_FOR)
CATCHING_UP = f"(max(support_events_stream_lag offset {BEHIND_FOR}) - {WAITING}) * {PACES} >= {WAITING}"
STOPPED = f"{WAITING} > {STREAM_WAITING} unless sum(increase({APPLIED}[{WINDOW}])) > 0"
TOO_SLOW = (
    f"{WAITING} > {STREAM_BEHIND} and max(min_over_time(support_events_stream_lag[{BEHIND_FOR}])) > {STREAM_BEHIND}"
    f" unless {CATCHING_UP}"
)
PACE = f"sum(rate({APPLIED}[{WINDOW}])) > 0"


@asynccontextmanager
async def command_is_refused(command: str, deployment: Deployment) -> AsyncIterator[None]:
    """Redis refuses a command, as after a wrong change of user permissions."""
    async with redis.Redis.from_url(deployment.events_url) as client:
        await client.execute_command("ACL", "SETUSER", "default", f"-{command}")  # type: ignore[no-untyped-call]
        yield
        await client.execute_command("ACL", "SETUSER", "default", f"+{command}")  # type: ignore[no-untyped-call]


consumer_may_not_read = partial(command_is_refused, "xreadgroup")


@asynccontextmanager
async def _consumer_is_stuck(deployment: Deployment) -> AsyncIterator[None]:
    data = {"orderId": "ORD-1", "status": "in_transit"}
    event = {"specversion": "1.0", "source": "/fulfillment", "type": "fulfillment.shipment.updated.v1", "data": data}
    async with consumer_may_not_read(deployment), redis.Redis.from_url(deployment.events_url) as client:
        for number in range(300):
            await client.xadd(INBOUND, {"event": json.dumps(event | {"id": f"e-{number}"})})
        yield


SIGNAL = Signal(
    group="events",
    alerts=(
        Alert(
            name="SupportEventsConsumerStalled",
            short=("events of other services are not applied", "event của service khác không được áp dụng"),
            expr=f"({STOPPED}) or ({TOO_SLOW})",
            for_=EVENTS_FOR,
            severity="warning",
            summary="{{ $value | humanize }} events of other services wait: "
            f"{{{{ with query `{PACE}` }}}}{{{{ . | first | value | humanize }}}} a second are applied, too few"
            "{{ else }}none is applied{{ end }}",
            description=f"{{{{ $value | humanize }}}} events wait in the inbound stream. The limit is {STREAM_WAITING} "
            f"while none was applied in the last {WINDOW}, and {STREAM_BEHIND} if they will not be gone in {CATCH_UP}. "
            "Cases show old data.",
            panel="Support events",
            stated=(f"{STREAM_WAITING} event", WINDOW, f"{STREAM_BEHIND:,} event", BEHIND_FOR, CATCH_UP, EVENTS_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support events consumed",
            "Inbound events by outcome. failed: delivered again. dead: moved to the dead letters.",
            row="events",
            place=30,
            queries=(Query(rate("support_events_consumed_total", "outcome"), "{{outcome}}"),),
            unit="ops",
            alerts=("SupportEventsConsumerStalled", "SupportEventsDeadLettered"),
        ),
    ),
    faults={
        "the consumer is stuck": Fault(
            ("SupportEventsConsumerStalled",),
            {
                "support_events_stream_lag": GaugeValues(2, 200),
                'support_events_consumed_total{outcome="applied"}': CounterValues(50, 0),
            },
        ),
        "no event can be applied": Fault(
            ("SupportEventsConsumerStalled",),
            {
                "support_events_stream_lag": GaugeValues(2, 150, 50),
                'support_events_consumed_total{outcome="applied"}': CounterValues(50, 0),
                'support_events_consumed_total{outcome="failed"}': CounterValues(0, 5),
            },
        ),
        "the consumer is too slow": Fault(
            ("SupportEventsConsumerStalled",),
            {
                "support_events_stream_lag": GaugeValues(2, 1000, 1000),
                'support_events_consumed_total{outcome="applied"}': CounterValues(50, 1),
            },
        ),
        "the consumer keeps up with what arrives, and no more": Fault(
            ("SupportEventsConsumerStalled",),
            {
                "support_events_stream_lag": GaugeValues(2, 9000),
                'support_events_consumed_total{outcome="applied"}': CounterValues(50, 50),
            },
        ),
        "the consumer would take three hours more": Fault(
            ("SupportEventsConsumerStalled",),
            {
                "support_events_stream_lag": GaugeValues(2, 18_900, -80),
                'support_events_consumed_total{outcome="applied"}': CounterValues(50, 130),
            },
        ),
        "the consumer catches up: 18,900 events fall to 6,300": Fault(
            (),
            {
                "support_events_stream_lag": GaugeValues(2, 18_900, -315),
                'support_events_consumed_total{outcome="applied"}': CounterValues(50, 365),
            },
        ),
    },
    drills=(
        DrillFault(
            "consumer stuck",
            ("SupportEventsConsumerStalled",),
            _consumer_is_stuck,
            (Cause(3, "Consuming events is interrupted.*permission|Consuming events"),),
            only_repair="Redis has to permit the command",
        ),
    ),
)
