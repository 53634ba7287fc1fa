"""SupportReplicaDependencyFailing: one replica can't use what the others can."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, rate, selector

from observability.drill import MOVE_REPLICA, Cause, Deployment, DrillFault, DrillScenario, restarted_with
from observability.faults import REPAIRED_MINUTE, CounterValues, Fault, GaugeValues, SeriesValues
from observability.signal import CAUSE_FOR, SERVICE_JOB, SHARE_OF_REQUESTS, WINDOW, Alert, Record, Signal
from observability.signals.timeline_source_down import (
    CALLS,
    FAILED_CALLS,
    SOURCE_CALLS,
    SOURCE_DOWN_SHARE,
    SOURCE_WINDOW,
)

# Each replica asks the database and Redis every 10 s. Half of a window would let SupportDatabaseFailing page first.
PING_FAILED_SHARE = 0.25  # share of the window; more than a single failed ping
ONE_REPLICA_KEPT = "5m"  # as long as SupportProbeFlapping looks back: what one of several replicas lacks fails at times
FEW_REPLICAS = 0.5  # share of replicas; if more fail, the dependency is the cause, and it has alerts of its own
OTHERS_FAIL = 0.1  # share of the calls of the other replicas; if more fail, a replica stands out by chance
PINGED = f'{SERVICE_JOB},dependency=~"database|cache|events"'
STATUS = "support_dependency_status"
FAILING = "instance:support_dependency_failing:ratio"


def _pings(where: str = "") -> str:
    return f"sum by (instance, dependency) (count_over_time({STATUS}{{{PINGED}{where}}}[{SOURCE_WINDOW}]))"


def _of_source(where: str = "") -> str:
    return f"sum by (instance, service) (increase({CALLS}_count{{{where}}}[{SOURCE_WINDOW}]))"


FAILING_PINGS = f"""{_pings(',status!~"ok|off"')} / {_pings()} > {PING_FAILED_SHARE}"""
FAILED_SHARE = f"{_of_source(FAILED_CALLS)} / {_of_source()}"
FAILING_CALLS = (
    f"{FAILED_SHARE} > {SOURCE_DOWN_SHARE} and {_of_source(FAILED_CALLS)} >= {SOURCE_CALLS}"
    f" unless on (service) avg by (service) ({FAILED_SHARE} <= {SOURCE_DOWN_SHARE}) > {OTHERS_FAIL}"
)
# A replica whose settings lack a dependency that others have. Without Redis it publishes into its memory, and is `ok`.
POOL = "db_client_connection_pool_name"
POOLS = f'label_replace(db_client_connection_max{{{SERVICE_JOB}}}, "dependency", "$1", "{POOL}", "(.*)")'
WITHOUT = (
    f'max by (instance, dependency) ({STATUS}{{{SERVICE_JOB},dependency=~"cache|events"}})'
    f" unless on (instance, dependency) {POOLS} and on (dependency) {POOLS}"
    f' or max by (instance, dependency) (max_over_time({STATUS}{{{SERVICE_JOB},status="off"}}'
    f'[{SOURCE_WINDOW}])) and on (dependency) {STATUS}{{{SERVICE_JOB},status!="off"}}'
)
OF_DEPENDENCY = f'sum by (instance, dependency) (label_replace({FAILING_CALLS}, "dependency", "$1", "service", "(.*)"))'
REPLICAS = f"count(count by (instance) ({STATUS}{{{SERVICE_JOB}}}))"
# Text of a template: the code that the replica gives for the dependency, if it has one.
CODE = (
    f'{{{{ range query (printf `{STATUS}{{instance=%q,dependency=%q,status!="ok"}}` $labels.instance '
    "$labels.dependency) }} ({{ .Labels.status }}){{ end }}"
)


def _status(instance: str, status: str, dependency: str = "database") -> str:
    return f'{STATUS}{{job="support-service",instance="{instance}",dependency="{dependency}",status="{status}"}}'


def _pool(instance: str) -> str:
    return f'db_client_connection_max{{job="support-service",instance="{instance}",{POOL}="events"}}'


def _calls(instance: str, outcome: str) -> str:
    return f'{CALLS}_count{{instance="{instance}",service="payment",outcome="{outcome}"}}'


OTHERS_WORK: dict[str, SeriesValues] = {_status(instance, "ok"): GaugeValues(1, 1) for instance in ("b", "c")}
OTHERS_CALL: dict[str, SeriesValues] = {_calls(instance, "ok"): CounterValues(20, 20) for instance in ("b", "c")}
KEPT_UNTIL = REPAIRED_MINUTE + 8
EVENTS_WORK: dict[str, SeriesValues] = {_status(each, "ok", "events"): GaugeValues(1, 1) for each in ("a", "b", "c")}
KNOWN: dict[str, SeriesValues] = {_status(each, "ok", "payment"): GaugeValues(1, 1) for each in ("b", "c")}
AT_FAULT = GaugeValues(None, 1)  # of a status that appears with the fault
ONE_CAN_NOT = 'SupportReplicaDependencyFailing{dependency="%s",instance="a"}'


@asynccontextmanager
async def _payment_refuses_one(deployment: Deployment) -> AsyncIterator[None]:
    async with deployment.links["payment"].refused():
        yield


@asynccontextmanager
async def _redis_is_half_open(deployment: Deployment) -> AsyncIterator[None]:
    async with deployment.links["redis"].half_open():
        yield


@asynccontextmanager
async def _database_is_half_open(deployment: Deployment) -> AsyncIterator[None]:
    async with deployment.links["database"].half_open():
        yield


@asynccontextmanager
async def _one_has_no_redis(deployment: Deployment) -> AsyncIterator[None]:
    """The settings of one replica lack Redis, so that it publishes events into its own memory."""
    async with restarted_with(deployment.replicas[-1], SUPPORT_REDIS_URL="", SUPPORT_EVENTS_REDIS_URL=""):
        yield


LINKED = DrillScenario(linked=True)
SIGNAL = Signal(
    group="replicas",
    alerts=(
        Alert(
            name="SupportReplicaDependencyFailing",
            short=(
                "one replica can't use what the others can",
                "một replica không dùng được thứ các replica khác dùng được",
            ),
            expr=f"{FAILING} and on (dependency)"
            f" (count by (dependency) ({FAILING}) <= on () group_left () ({FEW_REPLICAS} * {REPLICAS}))",
            for_=CAUSE_FOR,
            severity="warning",
            summary=f"{{{{ $labels.instance }}}} can't use {{{{ $labels.dependency }}}}{CODE}, which the other "
            f"replicas can. It gets {SHARE_OF_REQUESTS} of all requests",
            description="{{ $value | humanizePercentage }} of the checks or calls of {{ $labels.dependency }} by "
            f"{{{{ $labels.instance }}}} fail. The limit is {PING_FAILED_SHARE:.0%} of the checks of the database "
            f"and Redis, or {SOURCE_DOWN_SHARE:.0%} of the calls to a source and {SOURCE_CALLS} calls, in "
            f"{SOURCE_WINDOW}. At most {OTHERS_FAIL:.0%} of the calls of the other replicas fail. A replica whose "
            "settings lack it has 100%. At most half of the replicas have this failure.",
            keep_firing_for=ONE_REPLICA_KEPT,
            stated=(
                f"{PING_FAILED_SHARE * 100:g} %",
                f"{SOURCE_DOWN_SHARE * 100:g} %",
                f"{SOURCE_CALLS} ",
                f"{OTHERS_FAIL * 100:g} %",
                SOURCE_WINDOW,
                CAUSE_FOR,
            ),
        ),
    ),
    records=(Record(FAILING, f"{FAILING_PINGS} or {OF_DEPENDENCY} or {WITHOUT}"),),
    panels=(
        Panel(
            "Support dependencies by replica",
            "Replicas that can't use the database, Redis or another dependency, with the code. On the right: failed "
            "calls a second to each source, by replica. Normal: nothing.",
            row="replicas",
            place=60,
            queries=(
                Query(
                    f"""sum by (instance, dependency, status) ({selector(STATUS, 'status!~"ok|off"')})""",
                    "{{instance}} {{dependency}}: {{status}}",
                ),
                Query(
                    rate(f"{CALLS}_count", "instance, service", FAILED_CALLS, WINDOW) + " > 0",
                    "{{instance}} {{service}}",
                    right="ops",
                ),
            ),
            unit="short",
        ),
    ),
    faults={
        "half of the checks of the database fail on one of three replicas": Fault(
            (ONE_CAN_NOT % "database",),
            OTHERS_WORK | {_status("a", "ok"): GaugeValues(1, 1), _status("a", "database_unavailable"): AT_FAULT},
            resolved_after=KEPT_UNTIL,
        ),
        "all replicas lose Redis": Fault(
            (),
            {
                key: values
                for each in ("a", "b", "c")
                for key, values in (
                    (_status(each, "ok", "cache"), GaugeValues(1, None)),
                    (_status(each, "cache_unavailable", "cache"), AT_FAULT),
                )
            },
        ),
        "payment fails on one of three replicas": Fault(
            (ONE_CAN_NOT % "payment",),
            OTHERS_WORK
            | OTHERS_CALL
            | {
                _status("a", "ok"): GaugeValues(1, 1),
                _calls("a", "ok"): CounterValues(4, 0),
                _calls("a", "error"): CounterValues(0, 1),
                _calls("a", "open"): CounterValues(0, 3),
            },
            resolved_after=KEPT_UNTIL,
        ),
        "payment fails on one of three replicas, and for a fifth of the calls of the others": Fault(
            (),
            OTHERS_WORK
            | {_calls(instance, "ok"): CounterValues(20, 16) for instance in ("b", "c")}
            | {_calls(instance, "error"): CounterValues(0, 4) for instance in ("b", "c")}
            | {
                _status("a", "ok"): GaugeValues(1, 1),
                _calls("a", "ok"): CounterValues(4, 0),
                _calls("a", "error"): CounterValues(0, 1),
                _calls("a", "open"): CounterValues(0, 3),
            },
        ),
        "one of three replicas has no Redis": Fault(
            (ONE_CAN_NOT % "events",),
            EVENTS_WORK
            | {_pool("a"): GaugeValues(16, None), _pool("b"): GaugeValues(16, 16), _pool("c"): GaugeValues(16, 16)},
            resolved_after=KEPT_UNTIL,
        ),
        "no replica has Redis": Fault((), EVENTS_WORK),
        "one of three replicas does not know the address of payment": Fault(
            (ONE_CAN_NOT % "payment",),
            KNOWN | {_status("a", "ok", "payment"): GaugeValues(1, None), _status("a", "off", "payment"): AT_FAULT},
            resolved_after=KEPT_UNTIL,
        ),
        "payment is switched off": Fault(
            (),
            {
                key: values
                for each in ("a", "b")
                for key, values in (
                    (_status(each, "ok", "payment"), GaugeValues(1, None)),
                    (_status(each, "off", "payment"), AT_FAULT),
                )
            },
        ),
        "a replica that nobody asks for timelines still has an open breaker": Fault(
            (),
            OTHERS_WORK
            | OTHERS_CALL
            | {
                _status("a", "ok", "payment"): GaugeValues(1, None),
                _status("a", "source_unavailable", "payment"): AT_FAULT,
            },
        ),
    },
    drills=(
        DrillFault(
            "payment refuses one replica",
            ("SupportReplicaDependencyFailing[payment]",),
            _payment_refuses_one,
            (Cause(1, r'"payment", "instance": "REPLICA"'),),
            scenario=LINKED,
            actions=(MOVE_REPLICA,),
            resolved_within=8,  # the alert is kept for longer than others
        ),
        DrillFault(
            "one replica without Redis",
            ("SupportReplicaDependencyFailing[cache]", "SupportReplicaDependencyFailing[events]"),
            _one_has_no_redis,
            (Cause(1, '"events", "instance": "REPLICA"'),),
            only_repair="the replica needs the address of Redis",
            resolved_within=8,
        ),
        DrillFault(
            "Redis half open on one replica",
            ("SupportReplicaDependencyFailing[cache]", "SupportReplicaDependencyFailing[events]"),
            _redis_is_half_open,
            (Cause(1, r'"cache", "instance": "REPLICA"'),),
            scenario=LINKED,
            actions=(MOVE_REPLICA,),
            resolved_within=8,  # the alert is kept for longer than others
        ),
        DrillFault(
            "PostgreSQL half open on one replica",
            ("SupportReplicaDependencyFailing[database]",),
            _database_is_half_open,
            (Cause(1, r'"database", "instance": "REPLICA"'),),
            scenario=LINKED,
            actions=(MOVE_REPLICA,),
            resolved_within=10,  # what hangs is given up first, and the alert is kept for longer than others
        ),
    ),
)
