"""SupportEventLoopLag: the event loop of a replica lags."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, quantile, query_for_each_replica

from observability.drill import REPLACE, Cause, Deployment, DrillFault, repeatedly
from observability.faults import CounterValues, Fault, SeriesValues
from observability.signal import SYMPTOM_FOR, WINDOW, Alert, Record, Signal

LOOP_LAG_LONG = 0.1  # s; four times the lag of a busy loop, if it lasts for LOOP_LAG_LONG_FOR
LOOP_LAG_LONG_FOR = "15m"  # longer than an import, or a burst of uploads
LOOP_LAG_P95 = 0.25  # s; every request waits this long besides its own work; ten times the lag of a busy loop
LAG = "instance:support_event_loop_lag_seconds:p95"


def _lag(**late: float) -> dict[str, SeriesValues]:
    """Return a loop whose timers are late: how many of 240 a minute take at most each bucket's edge."""
    edges = {"0.01": late.get("fast", 0), "0.1": late.get("usual", 0), "0.25": late.get("slow", 0), "0.5": 240}
    return {
        f'support_event_loop_lag_seconds_bucket{{instance="a",le="{edge}"}}': CounterValues(240, count)
        for edge, count in (edges | {"+Inf": 240}).items()
    }


@asynccontextmanager
async def _one_lacks_cpu(deployment: Deployment) -> AsyncIterator[None]:
    """The process of a replica, on the node where it runs now."""
    process = deployment.replicas[-1].process

    async def throttle() -> None:
        process.send_signal(signal.SIGSTOP)  # ignored once the process has ended
        try:
            await asyncio.sleep(0.36)  # shorter than the scrape timeout of 0.5 s
        finally:
            process.send_signal(signal.SIGCONT)

    async with repeatedly(throttle, 0.44):
        yield


SIGNAL = Signal(
    group="replicas",
    alerts=(
        Alert(
            name="SupportEventLoopLag",
            short=("the event loop of a replica lags", "event loop của một replica bị trễ"),
            expr=f"{LAG} > {LOOP_LAG_P95} or min_over_time({LAG}[{LOOP_LAG_LONG_FOR}]) > {LOOP_LAG_LONG}",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="The event loop of {{ $labels.instance }} lags by {{ $value | humanizeDuration }}",
            description="The 95th percentile of the event loop lag of {{ $labels.instance }} is "
            f"{{{{ $value | humanizeDuration }}}} (limit {LOOP_LAG_P95:g} s, or {LOOP_LAG_LONG:g} s for "
            f"{LOOP_LAG_LONG_FOR}). Every request of that replica takes that much longer.",
            stated=(f"{LOOP_LAG_P95:g} s", f"{LOOP_LAG_LONG:g} s", LOOP_LAG_LONG_FOR, SYMPTOM_FOR),
        ),
    ),
    records=(
        Record(
            LAG,
            f"histogram_quantile(0.95, sum by (instance, le) (rate(support_event_loop_lag_seconds_bucket[{WINDOW}])))",
        ),
    ),
    panels=(
        Panel(
            "Support event loop lag",
            "95 of 100 wake-ups of the event loop are at most this late. It adds to the duration of every request. "
            "Normal: under 10 ms.",
            row="process",
            place=20,
            queries=query_for_each_replica(quantile(0.95, "support_event_loop_lag_seconds", "instance", window=WINDOW)),
            unit="s",
            limit=LOOP_LAG_P95,
        ),
    ),
    faults={
        "the loop is late": Fault(('SupportEventLoopLag{instance="a"}',), _lag(slow=20), fires_after=10),
        "the loop is a little late for long": Fault(('SupportEventLoopLag{instance="a"}',), _lag(usual=20, slow=240)),
        "the loop is as late as under load": Fault((), _lag(fast=120, usual=240, slow=240)),
    },
    drills=(
        DrillFault(
            "a replica lacks CPU",
            ("SupportEventLoopLag",),
            _one_lacks_cpu,
            (Cause(1, r'"REPLICA".* 0\.[2-9]'),),
            actions=(REPLACE,),
        ),
    ),
)
