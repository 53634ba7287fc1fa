"""SupportTimelineLatencyHigh: timelines are slow."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import FIRST_RUNBOOK, Panel, Query, quantile

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, switch_off
from observability.faults import CounterValues, Fault
from observability.signal import SLOW_FOR, SYMPTOM_WINDOW, Alert, Record, Signal

LATENCY_P95 = 2.0  # s; how long agents wait, a bucket boundary, and less than SUPPORT_TIMELINE_SOURCE_TIMEOUT
LATENCY_READS = 10  # reads per window; with fewer, one slow read would be the 95th percentile


def _collected(edge: str) -> str:
    return f'support_timeline_collect_seconds_bucket{{source="remote",le="{edge}"}}'


@asynccontextmanager
async def _order_takes_over_two_seconds(deployment: Deployment) -> AsyncIterator[None]:
    release = deployment.orders.delay(2.2)
    yield
    release.set()
    deployment.orders.heal()


SIGNAL = Signal(
    group="timeline",
    alerts=(
        Alert(
            name="SupportTimelineLatencyHigh",
            short=("timelines are slow", "timeline chậm"),
            expr=f'source:support_timeline_collect_seconds:p95{{source="remote"}} > {LATENCY_P95:g}'
            f' and on () sum(increase(support_timeline_collect_seconds_count{{source="remote"}}[{SYMPTOM_WINDOW}]))'
            f" >= {LATENCY_READS}",
            for_=SLOW_FOR,
            severity="warning",
            summary="Agents wait for timelines: the 95th percentile is {{ $value | humanizeDuration }}",
            description="The 95th percentile of timeline reads that call an upstream service is "
            f"{{{{ $value | humanizeDuration }}}} (limit {LATENCY_P95:g} s).",
            stated=(f"{LATENCY_P95:g} s", SLOW_FOR, f"{LATENCY_READS} ", SYMPTOM_WINDOW),
        ),
    ),
    records=(
        Record(
            "source:support_timeline_collect_seconds:p95",
            f"histogram_quantile(0.95, sum by (source, le) "
            f"(rate(support_timeline_collect_seconds_bucket[{SYMPTOM_WINDOW}])))",
        ),
    ),
    panels=(
        Panel(
            "Support timeline p95 latency",
            "95 of 100 timelines take at most this long. `remote`: called a service. `cache`: did not. Normal: cache "
            "under 50 ms, remote under 1 s.",
            row="first",
            place=10,
            queries=(
                Query(
                    quantile(0.95, "support_timeline_collect_seconds", "source", window=SYMPTOM_WINDOW), "{{source}}"
                ),
            ),
            unit="s",
            limit=LATENCY_P95,
            runbook=FIRST_RUNBOOK,
            width=12,
        ),
        Panel(
            "Support timeline latency by quantile",
            "Timelines that called a service: 50, 95 and 99 of 100 take at most this long.",
            row="reads",
            place=30,
            queries=tuple(
                Query(
                    quantile(each, "support_timeline_collect_seconds", where='source="remote"', window=SYMPTOM_WINDOW),
                    f"p{each * 100:g}",
                )
                for each in (0.5, 0.95, 0.99)
            ),
            unit="s",
            limit=LATENCY_P95,
        ),
    ),
    faults={
        "a service answers after 3 s": Fault(
            ("SupportTimelineLatencyHigh",),
            {
                _collected("1.0"): CounterValues(10, 0),
                _collected("2.0"): CounterValues(10, 0),
                _collected("5.0"): CounterValues(10, 10),
                _collected("+Inf"): CounterValues(10, 10),
                'support_timeline_collect_seconds_count{source="remote"}': CounterValues(10, 10),
            },
        )
    },
    drills=(
        DrillFault(
            "order takes 2.2 s",  # within the default timeouts
            ("SupportTimelineLatencyHigh",),
            _order_takes_over_two_seconds,
            (Cause(1, r'"order"} 2\.'),),
            scenario=DrillScenario(
                probe=("--event-threshold=5s",),  # the default of the command, which drills shorten
                load={"cases": 8.0, "reads": 75.0},  # enough late reads for a percentile, too few to burn a budget
            ),
            actions=(switch_off("order"),),
        ),
    ),
)
