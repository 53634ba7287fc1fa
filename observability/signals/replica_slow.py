"""SupportReplicaSlow: one replica answers far more slowly than another."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp
from grafana.panel import Panel, quantile, query_for_each_replica

from observability.drill import MOVE_REPLICA, Cause, Deployment, DrillFault, DrillScenario, repeatedly
from observability.faults import CounterValues, Fault, SeriesValues
from observability.signal import CAUSE_FOR, CAUSE_KEPT, SHARE_OF_REQUESTS, SYMPTOM_WINDOW, Alert, Record, Signal
from observability.signals.api_error_budget import REQUESTS, SHOWN_ROUTES
from observability.signals.api_latency_high import (
    API_LATENCY_REQUESTS,
    LARGE_ROUTES,
    TIMED,
    TIMELINE_ROUTES,
    UNTIMED_ROUTES,
    USUAL_EDGES,
    Edges,
    latency_p95,
    request_times,
)

REPLICA_P95 = 0.5  # s; a bucket boundary, and several times what a busy replica takes
REPLICA_SLOWER = 5  # multiple of the fastest replica; replicas that share the load differ by less than half
WRITERS = 12  # agents of the drill: the alert counts requests in a window that is divided, by a limit that is not
SLOW_ROUTES = f'http_route!~"{TIMELINE_ROUTES}|{LARGE_ROUTES}"'  # take long by themselves, and not on each replica
P95 = f"instance:{REQUESTS}:p95"
TIMES_SLOWER = (
    f"{{{{ range query (printf `{P95}{{instance=%q}} / on () group_left () min({P95})` $labels.instance) }}}}, "
    '{{ printf "%.0f" .Value }} times as long as on the fastest replica{{ end }}'
)


@asynccontextmanager
async def _database_is_far_from_one(deployment: Deployment) -> AsyncIterator[None]:
    """Each answer of the database reaches one replica late, as from another region, while agents write messages."""
    body = {"authorType": "agent", "message": "It is on its way."}
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(deployment.traffic.session())
        for _ in range(WRITERS):
            path = f"/support/cases/{await deployment.traffic.open_case(read=False)}/messages"

            async def write(path: str = path) -> None:
                with suppress(aiohttp.ClientError, TimeoutError):
                    async with session.post(path, json=body):
                        pass

            await stack.enter_async_context(repeatedly(write, 0.1))
        deployment.links["database"].delay = 0.15
        yield
        deployment.links["database"].delay = 0.0


def _answers(
    instance: str, fast: CounterValues, slow: CounterValues, edges: Edges = USUAL_EDGES
) -> dict[str, SeriesValues]:
    labels = f'instance="{instance}",http_request_method="POST",http_route="/support/cases/{{case_id}}/messages"'
    return request_times(fast, slow, labels, edges)


STEADY = CounterValues(60, 60)
FAST, SLOW, NONE = CounterValues(12, 0), CounterValues(0, 12), CounterValues(0, 0)
UNDER_A_SECOND = ("0.1", "0.5", "1.0")  # s; edges of buckets

SIGNAL = Signal(
    group="replicas",
    alerts=(
        Alert(
            name="SupportReplicaSlow",
            short=("one replica is far slower than another", "một replica chậm hơn hẳn replica khác"),
            expr=f"{P95} > {REPLICA_P95:g} and {P95} > on () group_left () ({REPLICA_SLOWER} * min({P95}))",
            for_=CAUSE_FOR,
            severity="warning",
            summary="{{ $labels.instance }} is slow: 5 of 100 of its requests take over "
            f"{{{{ $value | humanizeDuration }}}}{TIMES_SLOWER}. It gets {SHARE_OF_REQUESTS} of all requests",
            description="The 95th percentile of the requests of {{ $labels.instance }} is "
            f"{{{{ $value | humanizeDuration }}}} (limit {REPLICA_P95:g} s and {REPLICA_SLOWER} times the fastest "
            "replica). Timelines, files, bulk changes and reports do not count.",
            keep_firing_for=CAUSE_KEPT,
            stated=(f"{REPLICA_P95:g} s", f"{REPLICA_SLOWER} ", f"{API_LATENCY_REQUESTS} ", SYMPTOM_WINDOW, CAUSE_FOR),
        ),
    ),
    records=(Record(P95, latency_p95("instance", f"{TIMED},{SLOW_ROUTES}")),),
    panels=(
        Panel(
            "Support p95 latency by replica",
            "95 of 100 requests of each replica take at most this long, without timelines, files, bulk changes and "
            "reports. Normal: all alike, under 100 ms.",
            row="replicas",
            place=50,
            queries=query_for_each_replica(
                quantile(0.95, REQUESTS, "instance", f'{SHOWN_ROUTES},{SLOW_ROUTES},http_route!~"{UNTIMED_ROUTES}"')
            ),
            unit="s",
            limit=REPLICA_P95,
        ),
    ),
    faults={
        "one of two replicas is slow": Fault(
            (
                'SupportReplicaSlow{instance="a"}',
                'SupportApiLatencyHigh{http_route="/support/cases/{case_id}/messages"}',
            ),
            _answers("a", FAST, SLOW) | _answers("b", STEADY, NONE),
        ),
        "one of two replicas takes ten times as long, and less than a second": Fault(
            ('SupportReplicaSlow{instance="a"}',),
            _answers("a", FAST, SLOW, UNDER_A_SECOND) | _answers("b", STEADY, NONE, UNDER_A_SECOND),
        ),
        "both replicas are slow": Fault(
            ('SupportApiLatencyHigh{http_route="/support/cases/{case_id}/messages"}',),
            _answers("a", FAST, SLOW) | _answers("b", FAST, SLOW),
        ),
        "a replica with few requests is slow": Fault(
            (), _answers("a", CounterValues(60, 0), CounterValues(0, 2)) | _answers("b", STEADY, NONE)
        ),
    },
    drills=(
        DrillFault(
            "the database is far from one replica",
            ("SupportReplicaSlow",),
            _database_is_far_from_one,
            (Cause(1, r'"REPLICA"} 0\.[3-9]|"REPLICA"} [1-9]'),),
            scenario=DrillScenario(linked=True, settings={"SUPPORT_DATABASE_POOL": "25"}),
            actions=(MOVE_REPLICA,),
        ),
    ),
)
