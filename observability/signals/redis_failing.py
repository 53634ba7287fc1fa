"""SupportRedisFailing: the Redis of events fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, rate, ratio

from observability.drill import Action, Cause, Deployment, DrillFault, DrillScenario
from observability.faults import CounterValues, Fault
from observability.signal import CAUSE_FOR, CAUSE_KEPT, SERVICE_JOB, SYMPTOM_WINDOW, Alert, Signal
from observability.signals.database_failing import FAILED, OPERATIONS
from observability.signals.timeline_cache_errors import (
    CACHE_FAILING,
    REDIS_ERROR_SHARE,
    REDIS_ERRORS,
    redis_cause,
    stream_operations,
)

OF_REDIS = 'db_system_name="redis"'


def _streams(where: str = "") -> str:
    selected = ",".join(filter(None, (SERVICE_JOB, OF_REDIS, 'db_operation_name=~"X.+"', where)))
    return f"sum(increase({OPERATIONS}{{{selected}}}[{SYMPTOM_WINDOW}]))"


@asynccontextmanager
async def _events_redis_is_down(deployment: Deployment) -> AsyncIterator[None]:
    deployment.events.kill()
    yield
    await asyncio.to_thread(deployment.events.start)


SIGNAL = Signal(
    group="dependencies",
    alerts=(
        Alert(
            name="SupportRedisFailing",
            short=("the Redis of events fails", "Redis của event lỗi"),
            expr=f"{_streams(FAILED)} / {_streams()} > {REDIS_ERROR_SHARE} and {_streams(FAILED)} >= {REDIS_ERRORS}"
            f" unless on () ({CACHE_FAILING})",
            for_=CAUSE_FOR,
            severity="warning",
            summary="Redis fails for {{ $value | humanizePercentage }} of the operations on event streams"
            f"{redis_cause('events')}",
            description="Redis errors for {{ $value | humanizePercentage }} of the operations on event streams (limit "
            f"{REDIS_ERROR_SHARE:.0%} and {REDIS_ERRORS} errors in {SYMPTOM_WINDOW}). Events whose operations "
            "fail wait until Redis works.",
            keep_firing_for=CAUSE_KEPT,
            stated=(f"{REDIS_ERROR_SHARE * 100:g} %", f"{REDIS_ERRORS} ", SYMPTOM_WINDOW, CAUSE_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support Redis errors",
            "Share of operations on Redis that fail. Operations on event streams begin with X. Normal: 0.",
            row="dependencies",
            place=20,
            queries=(
                Query(
                    ratio(
                        rate(OPERATIONS, "db_operation_name", f"{OF_REDIS},{FAILED}", SYMPTOM_WINDOW),
                        rate(OPERATIONS, "db_operation_name", OF_REDIS, SYMPTOM_WINDOW),
                    ),
                    "{{db_operation_name}}",
                ),
            ),
            unit="percentunit",
            limit=REDIS_ERROR_SHARE,
            top=1,
        ),
    ),
    faults={
        "an operation in eleven on the Redis of events fails": Fault(
            ("SupportRedisFailing",),
            {stream_operations(): CounterValues(20, 20), stream_operations("timeout"): CounterValues(0, 2)},
        ),
        "an operation on Redis in fifty fails": Fault(
            (), {stream_operations(): CounterValues(98, 98), stream_operations("_OTHER"): CounterValues(2, 2)}
        ),
    },
    drills=(
        DrillFault(
            "relay stuck",
            ("SupportRedisFailing", "SupportOutboxStalled"),
            _events_redis_is_down,
            (Cause(1, "refused"),),
            scenario=DrillScenario(separate_events_redis=True),
            actions=(Action("Restart Redis"),),
        ),
    ),
)
