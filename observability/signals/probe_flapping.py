"""SupportProbeFlapping: the synthetic check fails again and again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from observability.drill import EVALUATION_SECONDS, Cause, Deployment, DrillFault, repeatedly
from observability.faults import PROBE_SERIES, Fault, FlappingValues
from observability.signal import PROBE_RECENT, Alert, Signal
from observability.signals.events_consumer_stalled import consumer_may_not_read
from observability.signals.probe_failing import GOOD

PROBE_SHARE = 0.8  # share of good runs in PROBE_WINDOW; a run that fails by chance is one of fifteen
PROBE_WINDOW = "15m"  # fifteen runs at the usual interval
PROBE_FLAPPING_FOR = "8m"  # by then the alert on a cause has fired, and a single outage of minutes has ended
WORST_STEP = (
    "{{ range query (printf `bottomk(1, avg by (step) "
    f'(avg_over_time(support_probe_step_success{{via=~"%s|"}}[{PROBE_WINDOW}])) != 1)` $labels.via) }}}}'
    ", mostly at step {{ .Labels.step }}{{ end }}"
)


@asynccontextmanager
async def _probe_fails_at_times(deployment: Deployment) -> AsyncIterator[None]:
    """The consumer may not read for four minutes of six: a run that fails takes longer than the interval of runs."""

    async def refuse_for_a_while() -> None:
        async with consumer_may_not_read(deployment):
            await asyncio.sleep(4 * EVALUATION_SECONDS)

    async with repeatedly(refuse_for_a_while, 2 * EVALUATION_SECONDS):
        yield


SIGNAL = Signal(
    group="events",
    alerts=(
        Alert(
            name="SupportProbeFlapping",
            short=("the synthetic check fails again and again", "synthetic check lúc được lúc không"),
            expr=f"max by (instance, via) (avg_over_time({GOOD}[{PROBE_WINDOW}])) < {PROBE_SHARE}"
            f" and max by (instance, via) (min_over_time({GOOD}[{PROBE_RECENT}])) == 0"
            f" and max by (instance, via) (max_over_time({GOOD}[{PROBE_RECENT}])) == 1",
            for_=PROBE_FLAPPING_FOR,
            severity="warning",
            summary='The synthetic check of a whole case{{ if eq $labels.via "ingress" }} through the ingress{{ end }} '
            f"fails again and again{WORST_STEP}: {{{{ $value | humanizePercentage }}}} of its runs are good",
            description=f"{{{{ $value | humanizePercentage }}}} of the runs of the probe in {PROBE_WINDOW} were good "
            f"(limit {PROBE_SHARE:.0%}). Some agents meet the same failure.",
            panel="Support probe steps that succeed",
            stated=(f"{PROBE_SHARE * 100:g} %", PROBE_WINDOW, PROBE_RECENT, PROBE_FLAPPING_FOR),
        ),
    ),
    faults={
        "the probe fails at every other run": Fault(("SupportProbeFlapping",), {PROBE_SERIES: FlappingValues()}),
        "the probe fails twice in fifteen runs": Fault(
            (), {PROBE_SERIES: FlappingValues("0 1 1 1 1 0 1 1 1 1 1 1 1 1 1")}
        ),
    },
    drills=(
        DrillFault(
            "probe fails at times",
            ("SupportProbeFlapping",),
            _probe_fails_at_times,
            (Cause(1, r'"timeline".*} 0\.'),),
            only_repair="Redis has to permit the command",
        ),
    ),
)
