"""SupportServiceDown: no replica responds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, total_over_replicas

from observability.drill import Action, Cause, Deployment, DrillFault, Exercise
from observability.faults import PROBE_SERIES, UP_SERIES, Fault, GaugeValues
from observability.signal import CAUSE_KEPT, PUSH_WINDOW, PUSHING, SERVICE_JOB, Alert, Signal

DOWN_FOR = "1m"  # four failed scrapes in a row; a restart takes seconds
ANSWERING = f"count(up{{{SERVICE_JOB}}} == 1)"
WITHOUT_SCRAPES = f"count({PUSHING}) unless on () up{{{SERVICE_JOB}}}"  # where no scrape makes the series `up`
NO_REPLICA = f"({ANSWERING} or vector(0)) == 0"
NO_REPLICA_PUSHES = f"(count({PUSHING}) or vector(0)) == 0"
PROBE_GOOD = "on () max(support_probe_success) == 1"  # the service answers the probe, but not Prometheus


@asynccontextmanager
async def _migration_is_missing(deployment: Deployment) -> AsyncIterator[None]:
    """A release starts on the schema of the one before."""
    for replica in deployment.replicas:
        await replica.stop()
    await deployment.database.take_back_migration()
    for replica in deployment.replicas:
        replica.spawn()
    yield
    await deployment.run("migrate")
    await asyncio.gather(*(replica.start() for replica in deployment.replicas))


@asynccontextmanager
async def _all_are_killed(deployment: Deployment) -> AsyncIterator[None]:
    for replica in deployment.replicas:
        replica.kill()
    yield
    await asyncio.gather(*(replica.start() for replica in deployment.replicas))


SIGNAL = Signal(
    group="service",
    alerts=(
        Alert(
            name="SupportServiceDown",
            short=("no replica responds", "không replica nào trả lời"),
            expr=f"{NO_REPLICA} unless {PROBE_GOOD}",
            for_=DOWN_FOR,
            severity="critical",
            summary="support-service is down: no replica responds",
            description=f"{{{{ $value }}}} replicas have answered a scrape in {DOWN_FOR} (limit: at least 1). Agents "
            "can neither read nor write cases.",
            pushed_expr=f"{NO_REPLICA_PUSHES} unless {PROBE_GOOD}",
            pushed_description=f"{{{{ $value }}}} replicas have pushed metrics in the last {PUSH_WINDOW} (limit: at "
            "least 1). Agents can neither read nor write cases.",
            keep_firing_for=CAUSE_KEPT,
            stated=(DOWN_FOR,),
        ),
    ),
    panels=(
        Panel(
            "Support availability",
            "Replicas that answer Prometheus, or push to it, and their versions.",
            row="objectives",
            place=10,
            queries=(
                Query(f"{ANSWERING} or {WITHOUT_SCRAPES} or vector(0)", "replicas that answer"),
                Query(total_over_replicas("support_build_info", "version"), "version {{version}}"),
            ),
            unit="short",
            limit=1,
            low=True,
            kind="number",
            width=6,
        ),
    ),
    faults={
        "the service is down": Fault(
            ("SupportServiceDown", "SupportProbeFailing"),
            {UP_SERIES: GaugeValues(1, 0), PROBE_SERIES: GaugeValues(1, 0)},
        ),
        "the service and the probe are gone": Fault(
            ("SupportServiceDown", "SupportProbeMissing"),
            {UP_SERIES: GaugeValues(1, None), PROBE_SERIES: GaugeValues(1, None)},
        ),
    },
    drills=(
        DrillFault(
            "migration missing",
            ("SupportServiceDown",),
            _migration_is_missing,
            (Cause(2, "migrat"),),
            actions=(Action("Run the migration"),),
        ),
        DrillFault(
            "all replicas killed",
            ("SupportServiceDown",),
            _all_are_killed,
            (Cause(1, "^$"),),
            actions=(Action("Start the service"),),
        ),
    ),
    exercises=(Exercise(("stop every replica", "dừng mọi replica"), ("start the replicas", "khởi động các replica")),),
)
