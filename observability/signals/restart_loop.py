"""SupportRestartLoop: a replica restarts again and again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from grafana.panel import Panel, query_for_each_replica, selector

from observability.drill import EVALUATION_SECONDS, REPLACE, Cause, Deployment, DrillFault, Exercise, repeatedly
from observability.faults import REPAIRED_MINUTE, CrashingValues, Fault
from observability.signal import AT_ONCE, SERVICE_JOB, Alert, Signal, duration_seconds

RESTARTS = 3  # in RESTART_WINDOW; a deployment is one
RESTART_WINDOW = "15m"  # a pod that crashes at once is restarted five times in it
ONE = 'job="support-service",instance="a"'


@asynccontextmanager
async def _one_crashes_again_and_again(deployment: Deployment) -> AsyncIterator[None]:
    """A replica crashes after each start, until it is replaced."""
    crashing = deployment.replicas[-1]
    started = crashing.process

    async def crash() -> None:
        nonlocal started
        if crashing.process is started:
            crashing.kill()
            crashing.spawn()
            started = crashing.process
            with suppress(RuntimeError):  # it was replaced meanwhile
                await crashing.start()

    async with repeatedly(crash, 1.5 * EVALUATION_SECONDS):  # long enough that an evaluation sees each start
        yield


SIGNAL = Signal(
    group="replicas",
    alerts=(
        Alert(
            name="SupportRestartLoop",
            short=("a replica restarts again and again", "một replica liên tục khởi động lại"),
            expr=f"resets(process_uptime_seconds{{{SERVICE_JOB}}}[{RESTART_WINDOW}]) >= {RESTARTS}",
            for_=AT_ONCE,
            severity="warning",
            summary="The replica {{ $labels.instance }} restarts again and again",
            description=f"The replica {{{{ $labels.instance }}}} restarted {{{{ $value }}}} times in {RESTART_WINDOW} "
            f"(limit {RESTARTS}). Requests in progress are lost at each crash.",
            stated=(f"{RESTARTS} ", RESTART_WINDOW),
        ),
    ),
    panels=(
        Panel(
            "Support uptime",
            "Time since each replica started.",
            row="process",
            place=70,
            queries=query_for_each_replica(selector("process_uptime_seconds")),
            unit="s",
            alerts=("SupportServiceDown", "SupportRestartLoop"),
            width=24,
        ),
    ),
    faults={
        "a replica crashes every three minutes": Fault(
            ('SupportRestartLoop{instance="a"}',),
            {f"process_uptime_seconds{{{ONE}}}": CrashingValues()},
            resolved_after=REPAIRED_MINUTE + duration_seconds(RESTART_WINDOW) // 60 - 2 * RESTARTS,
        )
    },
    drills=(
        DrillFault(
            "a replica crashes again and again",
            ("SupportRestartLoop",),
            _one_crashes_again_and_again,
            (Cause(1, '"REPLICA".* [3-9]$'),),
            resolved_within=16,  # the window of the alert
            actions=(REPLACE,),
        ),
    ),
    exercises=(
        Exercise(
            ("kill one replica every three minutes", "cứ ba phút kill một replica"),
            ("stop killing it", "ngừng kill nó"),
        ),
    ),
)
