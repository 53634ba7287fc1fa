"""SupportClockOffset: the clock of a replica, or of the database, is wrong."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, selector

from observability.drill import MOVE_REPLICA, TIME_DIVISOR, Cause, Deployment, DrillFault, DrillScenario, Exercise
from observability.faults import Fault, GaugeValues
from observability.signal import SYMPTOM_FOR, Alert, Signal, scaled_seconds

CLOCK_OFFSET = 30  # s; leases and tokens allow less than a minute, and time synchronization keeps milliseconds

SAME_OFFSET = 10  # s; replicas that differ by one amount within this agree: the clock of the database is wrong

MINUTES_OFF = 10  # in the drill; twenty times the limit
SINGLE = 1  # replicas; of one alone it is not known which clock is wrong
OFFSET = "support_clock_offset_seconds"
LIMIT = scaled_seconds(CLOCK_OFFSET)
# Two or more replicas, all off by the same amount.
DATABASE_IS_WRONG = (
    f"min(abs({OFFSET})) > {LIMIT} and max({OFFSET}) - min({OFFSET}) < {scaled_seconds(SAME_OFFSET)}"
    f" and count({OFFSET}) > {SINGLE}"
)


@asynccontextmanager
async def _one_has_a_wrong_clock(deployment: Deployment) -> AsyncIterator[None]:
    deployment.clock.write_text(f"-{MINUTES_OFF * 60 / TIME_DIVISOR:g}s")
    yield
    deployment.clock.write_text("+0s")


@asynccontextmanager
async def _database_has_a_wrong_clock(deployment: Deployment) -> AsyncIterator[None]:
    deployment.database_clock.write_text(f"+{MINUTES_OFF * 60 / TIME_DIVISOR:g}s")
    yield
    deployment.database_clock.write_text("+0s")


SIGNAL = Signal(
    group="replicas",
    alerts=(
        Alert(
            name="SupportClockOffset",
            short=(
                "the clock of a replica, or of the database, is wrong",
                "đồng hồ của một replica hoặc của database bị sai",
            ),
            expr=f"abs({OFFSET}) > {LIMIT} unless on () ({DATABASE_IS_WRONG})"
            f' or label_replace({DATABASE_IS_WRONG}, "dependency", "database", "", "")',
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="The clock of {{ with $labels.dependency }}the {{ . }}{{ else }}{{ $labels.instance }}{{ end }} "
            "differs by {{ $value | humanizeDuration }}"
            "{{ with $labels.dependency }} from the clocks of all replicas{{ end }}",
            description="The clocks of {{ with $labels.dependency }}all replicas{{ else }}{{ $labels.instance }}"
            f"{{{{ end }}}} and of the database differ by {{{{ $value | humanizeDuration }}}} (limit {CLOCK_OFFSET} "
            "s). Times of cases are wrong, and valid tokens may be refused.",
            stated=(f"{CLOCK_OFFSET} s", f"{SAME_OFFSET} s", SYMPTOM_FOR),
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
        "a clock is a minute late": Fault(
            ('SupportClockOffset{instance="a"}',),
            {'support_clock_offset_seconds{instance="a"}': GaugeValues(0.01, -60)},
        ),
        "the clock of the database is a minute ahead": Fault(
            ('SupportClockOffset{dependency="database"}',),
            {
                'support_clock_offset_seconds{instance="a"}': GaugeValues(0.01, -60),
                'support_clock_offset_seconds{instance="b"}': GaugeValues(0.02, -60.2),
            },
        ),
        "one clock of two is a minute late": Fault(
            ('SupportClockOffset{instance="a"}',),
            {
                'support_clock_offset_seconds{instance="a"}': GaugeValues(0.01, -60),
                'support_clock_offset_seconds{instance="b"}': GaugeValues(0.02, 0.02),
            },
        ),
        "two clocks are late by different times": Fault(
            ('SupportClockOffset{instance="a"}', 'SupportClockOffset{instance="b"}'),
            {
                'support_clock_offset_seconds{instance="a"}': GaugeValues(0.01, -60),
                'support_clock_offset_seconds{instance="b"}': GaugeValues(0.02, -80),
            },
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
            actions=(MOVE_REPLICA,),
        ),
        DrillFault(
            "clock of the database 10 min off",
            ("SupportClockOffset[database]",),
            _database_has_a_wrong_clock,
            (Cause(1, r'"instance".* -\d.*\n.*"instance".* -\d'),),
            scenario=DrillScenario(database_clock=True),
            only_repair="the clock of the database's host has to be synchronized",
        ),
    ),
    exercises=(
        Exercise(
            ("set the clock of one replica's host back by 10 minutes", "lùi đồng hồ máy chủ của một replica 10 phút"),
            ("synchronize it", "đồng bộ lại"),
        ),
    ),
)
