"""SupportReplicaDown: one replica does not respond."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, selector

from observability.drill import DATABASE_AND_ROLE, REPLACE, Action, Cause, Deployment, DrillFault, Exercise
from observability.faults import UP_SERIES, Fault, GaugeValues
from observability.signal import PUSH_WINDOW, PUSHING, SERVICE_JOB, Alert, Signal

UNLESS_SENT = "The others have its load, unless the load balancer still sends it requests."
REPLICA_DOWN_FOR = "5m"  # longer than a restart and than a node's replacement; other replicas answer meanwhile
# Nothing lists replicas that push. One that was ready when it last pushed, and that no other has replaced, is missed
# for this long. A replica that is stopped pushes at its end that it is not ready.
LOST_WINDOW = "1h"  # longer than a person takes to look
LAST_READY = f"max by (instance) (last_over_time(support_replica_ready{{{SERVICE_JOB}}}[{LOST_WINDOW}])) == 1"
FEWER = f"count({PUSHING}) < max_over_time(count({PUSHING})[{LOST_WINDOW}:{PUSH_WINDOW}])"


@asynccontextmanager
async def _one_freezes(deployment: Deployment) -> AsyncIterator[None]:
    deployment.replicas[-1].freeze()
    yield
    deployment.replicas[-1].thaw()


@asynccontextmanager
async def _one_is_killed(deployment: Deployment) -> AsyncIterator[None]:
    deployment.replicas[-1].kill()
    yield
    await deployment.replicas[-1].start()


@asynccontextmanager
async def _a_new_one_does_not_start(deployment: Deployment) -> AsyncIterator[None]:
    """A rollout adds a replica whose role the database does not know, and which ends at its start."""
    new = deployment.new_replica()
    new.environment["SUPPORT_DATABASE_URL"] = deployment.database.url.replace(DATABASE_AND_ROLE, "nobody", 1)
    new.spawn()
    await deployment.use_all_replicas()
    yield
    await deployment.remove_new_replicas()


SIGNAL = Signal(
    group="replicas",
    alerts=(
        Alert(
            name="SupportReplicaDown",
            short=("one replica does not respond", "một replica không trả lời"),
            expr=f"up{{{SERVICE_JOB}}} == 0 and on () count(up{{{SERVICE_JOB}}} == 1) > 0",
            for_=REPLICA_DOWN_FOR,
            severity="warning",
            summary="The replica {{ $labels.instance }} does not answer",
            description=f"The replica {{{{ $labels.instance }}}} has answered no scrape for {REPLICA_DOWN_FOR} (up is "
            f"{{{{ $value }}}}, limit 1). {UNLESS_SENT}",
            pushed_expr=f"{LAST_READY} unless max by (instance) ({PUSHING}) and on () {FEWER}",
            pushed_description=f"The replica {{{{ $labels.instance }}}} has pushed no metrics for {REPLICA_DOWN_FOR} "
            f"and was ready before (ready was {{{{ $value }}}}, limit: pushed again). {UNLESS_SENT}",
            stated=(REPLICA_DOWN_FOR,),
        ),
    ),
    panels=(
        Panel(
            "Support replicas that answer",
            "Whether each replica answers Prometheus.",
            row="replicas",
            place=10,
            queries=(Query(selector("up"), "{{instance}}"),),
            unit="short",
            limit=1,
            low=True,
            alerts=("SupportReplicaDown", "SupportMetricsMissing"),
            kind="states",
            words={"0": "down", "1": "up"},
        ),
    ),
    faults={
        "one of two replicas is down": Fault(
            ('SupportReplicaDown{instance="a"}',),
            {UP_SERIES: GaugeValues(1, 0), 'up{job="support-service",instance="b"}': GaugeValues(1, 1)},
        )
    },
    drills=(
        DrillFault(
            "a replica frozen", ("SupportReplicaDown",), _one_freezes, (Cause(1, '"REPLICA".* 0$'),), actions=(REPLACE,)
        ),
        DrillFault(
            "a replica killed",
            ("SupportReplicaDown",),
            _one_is_killed,
            (Cause(1, '"REPLICA".* 0$'),),
            actions=(REPLACE,),
        ),
        DrillFault(
            "a new replica does not start",
            ("SupportReplicaDown",),
            _a_new_one_does_not_start,
            (Cause(3, 'role "nobody" does not exist'),),
            resolved_within=12,  # Prometheus takes 5 s to forget a target
            actions=(Action("Roll back", page="README.md"),),
        ),
    ),
    exercises=(
        Exercise(
            ("freeze one of several replicas", "làm treo một trong các replica"),
            ("continue its process", "cho process chạy tiếp"),
        ),
    ),
)
