"""SupportClockOffset: the clock of a replica is wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, selector

from observability.drill import TIME_DIVISOR, Action, Cause, Deployment, DrillFault, DrillScenario, Exercise
from observability.faults import Fault, GaugeValues
from observability.signal import SYMPTOM_FOR, Alert, Signal, scaled_seconds

CLOCK_OFFSET = 30  # s; leases and tokens allow less than a minute, and time synchronization keeps milliseconds

MINUTES_OFF = 10  # in the drill; twenty times the limit


@asynccontextmanager
async def _one_has_a_wrong_clock(deployment: Deployment) -> AsyncIterator[None]:
    deployment.clock.write_text(f"-{MINUTES_OFF * 60 / TIME_DIVISOR:g}s")
    yield
    deployment.clock.write_text("+0s")


SIGNAL = Signal(
    group="replicas",
    alerts=(
        Alert(
            name="SupportClockOffset",
            short=("the clock of a replica is wrong", "đồng hồ của một replica bị sai"),
            expr=f"abs(support_clock_offset_seconds) > {scaled_seconds(CLOCK_OFFSET)}",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="The clock of {{ $labels.instance }} differs by {{ $value | humanizeDuration }}",
            description="The clock of {{ $labels.instance }} differs from that of the database by "
            f"{{{{ $value | humanizeDuration }}}} (limit {CLOCK_OFFSET} s). Times of cases are wrong, and valid "
            "tokens may be refused.",
            stated=(f"{CLOCK_OFFSET} s", SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support clock offset",
            "Difference of each replica's clock from that of the database. Normal: under 1 s.",
            row="replicas",
            place=50,
            queries=(Query(f"abs({selector('support_clock_offset_seconds')})", "{{instance}}"),),
            unit="s",
            limit=CLOCK_OFFSET,
        ),
    ),
    faults={
        "a clock is ten minutes late": Fault(
            ('SupportClockOffset{instance="a"}',),
            {'support_clock_offset_seconds{instance="a"}': GaugeValues(0.01, -600)},
        ),
        "a clock is two seconds ahead": Fault((), {'support_clock_offset_seconds{instance="a"}': GaugeValues(0.01, 2)}),
    },
    drills=(
        DrillFault(
            "clock of a replica 10 min off",
            ("SupportClockOffset",),
            _one_has_a_wrong_clock,
            (Cause(1, '"REPLICA".* -[1-9]'),),
            scenario=DrillScenario(manipulated=True),
            actions=(Action("Move the replica to another node", ("NODE", "POD")),),
        ),
    ),
    exercises=(
        Exercise(
            ("set the clock of one replica's host back by 10 minutes", "lùi đồng hồ máy chủ của một replica 10 phút"),
            ("synchronize it", "đồng bộ lại"),
        ),
    ),
)
