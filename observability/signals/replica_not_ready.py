"""SupportReplicaNotReady: one replica runs and does not become ready."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, selector, total_over_replicas

from observability.drill import REPLACE, Cause, Deployment, DrillFault, DrillScenario
from observability.faults import Fault, FlappingValues, GaugeValues
from observability.signal import SERVICE_JOB, Alert, Signal

NOT_READY_FOR = "10m"  # longer than a start with its migration, and than a failover of the database
# Text of a template that names each dependency that fails for the alert's instance, with its code.
UNAVAILABLE = (
    '{{ range query (printf "support_dependency_status{instance=%q,status!~\\"ok|off\\"}" $labels.instance) }}, '
    "{{ .Labels.dependency }}: {{ .Labels.status }}{{ end }}"
)
ONE = 'job="support-service",instance="a"'
READY, OTHER_READY = f"support_replica_ready{{{ONE}}}", 'support_replica_ready{job="support-service",instance="b"}'


@asynccontextmanager
async def _one_does_not_end(deployment: Deployment) -> AsyncIterator[None]:
    """A rollout stops a replica, which reports that it is not ready and does not end."""
    deployment.replicas[-1].process.terminate()
    yield
    deployment.replicas[-1].kill()
    await deployment.replicas[-1].start()


SIGNAL = Signal(
    group="replicas",
    alerts=(
        Alert(
            name="SupportReplicaNotReady",
            short=("one replica runs and does not become ready", "một replica chạy mà không sẵn sàng"),
            expr=f"max by (instance) (support_replica_ready{{{SERVICE_JOB}}}) == 0",
            for_=NOT_READY_FOR,
            severity="warning",
            summary=f"The replica {{{{ $labels.instance }}}} runs and gets no requests: not ready{UNAVAILABLE}",
            description=f"The replica {{{{ $labels.instance }}}} has answered /readyz with 503 for {NOT_READY_FOR} "
            "(ready is {{ $value }}, limit 1). The other replicas have its load. A rollout that waits for it does not "
            "end.",
            stated=(NOT_READY_FOR,),
        ),
    ),
    panels=(
        Panel(
            "Support replicas that are ready",
            "Whether each replica is ready (`/readyz` answers 200): the load balancer sends it requests.",
            row="replicas",
            place=20,
            queries=(Query(selector("support_replica_ready"), "{{instance}}"),),
            unit="short",
            limit=1,
            low=True,
            kind="states",
            words={"0": "not ready", "1": "ready"},
        ),
        Panel(
            "Support dependencies",
            "How many replicas report each status of a dependency, as `/readyz` does. Normal: ok, or off for a source "
            "that is not called. Only the database makes a replica unready.",
            row="replicas",
            place=30,
            queries=(
                Query(
                    total_over_replicas("support_dependency_status", "dependency, status"), "{{dependency}} {{status}}"
                ),
            ),
            unit="short",
        ),
    ),
    faults={
        "a replica never becomes ready": Fault(('SupportReplicaNotReady{instance="a"}',), {READY: GaugeValues(1, 0)}),
        "a replica is not ready at times": Fault((), {READY: GaugeValues(1, 1), OTHER_READY: FlappingValues()}),
    },
    drills=(
        DrillFault(
            "a replica never ready",
            ("SupportReplicaNotReady",),
            _one_does_not_end,
            (Cause(2, '"REPLICA".* 0$'),),
            scenario=DrillScenario(manipulated=True),
            actions=(REPLACE,),
        ),
    ),
)
