"""SupportReplicaDown: one replica does not respond."""

from grafana.panel import Panel, Query, series

from observability.faults import UP, Fault, Gauge
from observability.signal import SERVICE_JOB, Alert, Signal

REPLICA_DOWN_FOR = "5m"  # longer than a restart and than a node's replacement; other replicas answer meanwhile

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
            "{{ $value }}, limit 1). The other replicas have its load.",
            stated=(REPLICA_DOWN_FOR,),
        ),
    ),
    panels=(
        Panel(
            "Support replicas that answer",
            "Whether each replica answers Prometheus.",
            row="replicas",
            place=10,
            queries=(Query(series("up"), "{{instance}}"),),
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
            {UP: Gauge(1, 0), 'up{job="support-service",instance="b"}': Gauge(1, 1)},
        ),
    },
)
