"""SupportReplicaSaturated: a replica is near its limit of memory, files or connections."""

import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import psutil
from grafana.panel import Panel, Query, selector

from observability.drill import REPLACE, Cause, Deployment, DrillFault
from observability.faults import Fault, GaugeValues
from observability.signal import SERVICE_JOB, SYMPTOM_FOR, Alert, Signal

MEMORY_SHARE = 0.85  # share of the memory limit, at which the kernel ends the process
SATURATED_SHARE = 0.9  # share of file descriptors, or of connections to the database
POOL = 'db_client_connection_pool_name="database"'


def _used_share(resource: str, used: str, limit: str, most: float) -> str:
    """Return the share of a resource in use by instance where it is over `most`, with the label `resource`."""
    shares = f"max by (instance) ({used}) / max by (instance) ({limit})"
    return f'label_replace({shares} > {most}, "resource", "{resource}", "", "")'


def _used(used: str, limit: str, legend: str, where: str = "", state: str = "") -> Query:
    """Return the share of a limit in use, by replica."""
    both = ",".join(filter(None, (where, state)))
    return Query(
        f"max by (instance) ({selector(used, both)}) / max by (instance) ({selector(limit, where)})",
        f"{{{{instance}}}} {legend}",
    )


ONE = 'job="support-service",instance="a"'
SATURATED = 'SupportReplicaSaturated{instance="a",resource="%s"}'
ONE_POOL = f'{ONE},db_client_connection_pool_name="database"'


@asynccontextmanager
async def _one_runs_out_of_descriptors(deployment: Deployment) -> AsyncIterator[None]:
    process = psutil.Process(deployment.replicas[-1].process.pid)
    _, most = usual = process.rlimit(resource.RLIMIT_NOFILE)
    process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds() + 1, most))
    yield
    with suppress(psutil.NoSuchProcess):  # it was replaced
        process.rlimit(resource.RLIMIT_NOFILE, usual)


SIGNAL = Signal(
    group="replicas",
    alerts=(
        Alert(
            name="SupportReplicaSaturated",
            short=(
                "a replica is near its limit of memory, files or connections",
                "một replica gần giới hạn bộ nhớ, file hoặc kết nối",
            ),
            expr=" or ".join(
                (
                    _used_share(
                        "memory",
                        f"process_memory_usage_bytes{{{SERVICE_JOB}}}",
                        f"process_memory_limit_bytes{{{SERVICE_JOB}}}",
                        MEMORY_SHARE,
                    ),
                    _used_share(
                        "file descriptors",
                        f"process_unix_file_descriptors{{{SERVICE_JOB}}}",
                        f"process_unix_file_descriptor_limit{{{SERVICE_JOB}}}",
                        SATURATED_SHARE,
                    ),
                    _used_share(
                        "database connections",
                        f'db_client_connections{{{SERVICE_JOB},{POOL},db_client_connection_state="used"}}',
                        f"db_client_connection_max{{{SERVICE_JOB},{POOL}}}",
                        SATURATED_SHARE,
                    ),
                )
            ),
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="{{ $labels.instance }} uses {{ $value | humanizePercentage }} of its {{ $labels.resource }}",
            description="{{ $labels.instance }} uses {{ $value | humanizePercentage }} of its {{ $labels.resource }} "
            f"(limit {MEMORY_SHARE:.0%} of memory, {SATURATED_SHARE:.0%} of file descriptors and database "
            "connections). At 100 % it is ended, or its requests wait and fail.",
            stated=(f"{MEMORY_SHARE * 100:g} %", f"{SATURATED_SHARE * 100:g} %", SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support limits of replicas",
            f"Used share of each limit by replica. Alerts: {MEMORY_SHARE:.0%} of memory, {SATURATED_SHARE:.0%} of "
            "file descriptors and of connections to the database.",
            row="replicas",
            place=40,
            queries=(
                _used("process_memory_usage_bytes", "process_memory_limit_bytes", "memory"),
                _used("process_unix_file_descriptors", "process_unix_file_descriptor_limit", "files"),
                _used(
                    "db_client_connections",
                    "db_client_connection_max",
                    "database connections",
                    'db_client_connection_pool_name="database"',
                    'db_client_connection_state="used"',
                ),
            ),
            unit="percentunit",
            limit=SATURATED_SHARE,
            top=1,
        ),
    ),
    faults={
        "the memory is nearly used": Fault(
            (SATURATED % "memory",),
            {
                f"process_memory_usage_bytes{{{ONE}}}": GaugeValues(5e8, 9e8),
                f"process_memory_limit_bytes{{{ONE}}}": GaugeValues(1e9, 1e9),
            },
        ),
        "files are left open": Fault(
            (SATURATED % "file descriptors",),
            {
                f"process_unix_file_descriptors{{{ONE}}}": GaugeValues(200, 950),
                f"process_unix_file_descriptor_limit{{{ONE}}}": GaugeValues(1024, 1024),
            },
        ),
        "all connections to the database are used": Fault(
            (SATURATED % "database connections",),
            {
                f'db_client_connections{{{ONE_POOL},db_client_connection_state="used"}}': GaugeValues(3, 10),
                f"db_client_connection_max{{{ONE_POOL}}}": GaugeValues(10, 10),
            },
        ),
        "most connections to the database are used": Fault(
            (),
            {
                f'db_client_connections{{{ONE_POOL},db_client_connection_state="used"}}': GaugeValues(3, 8),
                f"db_client_connection_max{{{ONE_POOL}}}": GaugeValues(10, 10),
            },
        ),
    },
    drills=(
        DrillFault(
            "a replica out of file descriptors",
            ("SupportReplicaSaturated",),
            _one_runs_out_of_descriptors,
            (Cause(2, r'"REPLICA".* (0\.9|1)'),),
            actions=(REPLACE,),
        ),
    ),
)
