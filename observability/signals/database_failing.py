"""SupportDatabaseFailing: the database fails."""

from grafana.panel import Panel, Query, rate, share

from observability.faults import Counter, Fault
from observability.signal import CAUSE_KEPT, SERVICE_JOB, SYMPTOM_WINDOW, Alert, Signal

DATABASE_ERROR_SHARE = 0.05  # share of one replica's operations; a healthy database causes none
DATABASE_ERRORS = 5  # errors, or timeouts, per window; one lost connection is not an outage
DATABASE_FOR = "3m"  # longer than the failover of a database
OPERATIONS = "db_client_operation_duration_seconds_count"
OF_DATABASE = 'db_system_name!="redis"'
FAILED, TIMEOUT = 'error_type!=""', 'error_type="timeout"'


def _database(where: str = "") -> str:
    selected = ",".join(filter(None, (SERVICE_JOB, OF_DATABASE, where)))
    return f"sum by (instance) (increase({OPERATIONS}{{{selected}}}[{SYMPTOM_WINDOW}]))"


def _operations(error: str = "", instance: str = "a") -> str:
    labels = f'job="support-service",instance="{instance}",db_system_name="postgresql",db_operation_name="SELECT"'
    return f'{OPERATIONS}{{{labels},error_type="{error}"}}'


SIGNAL = Signal(
    group="dependencies",
    alerts=(
        Alert(
            name="SupportDatabaseFailing",
            short=("the database fails", "database lỗi"),
            expr=f"({_database(FAILED)} / {_database()} > {DATABASE_ERROR_SHARE}"
            f" and {_database(FAILED)} >= {DATABASE_ERRORS})"
            f" or ({_database(FAILED)} / {_database()} and {_database(TIMEOUT)} >= {DATABASE_ERRORS})",
            for_=DATABASE_FOR,
            severity="critical",
            summary="Agents cannot read or change cases: {{ $value | humanizePercentage }} of the database operations "
            "of {{ $labels.instance }} fail",
            description="{{ $value | humanizePercentage }} of the database operations of {{ $labels.instance }} fail "
            f"(limit {DATABASE_ERROR_SHARE:.0%} and {DATABASE_ERRORS} errors, or {DATABASE_ERRORS} timeouts, in "
            f"{SYMPTOM_WINDOW}). Requests about cases are answered with 503; acknowledged data is not lost.",
            keep_firing_for=CAUSE_KEPT,
            stated=(
                f"{DATABASE_ERROR_SHARE * 100:g} %",
                f"{DATABASE_ERRORS} ",
                SYMPTOM_WINDOW,
                DATABASE_FOR,
            ),
        ),
    ),
    panels=(
        Panel(
            "Support database errors",
            "Share of database operations that fail, by replica; on the right, timeouts a second: a lock, a slow "
            "statement, or no free connection. Normal: 0.",
            row="dependencies",
            place=10,
            queries=(
                Query(
                    share(
                        rate(OPERATIONS, "instance", f"{OF_DATABASE},{FAILED}", SYMPTOM_WINDOW),
                        rate(OPERATIONS, "instance", OF_DATABASE, SYMPTOM_WINDOW),
                    ),
                    "{{instance}}",
                ),
                Query(
                    rate(OPERATIONS, where=f'{OF_DATABASE},error_type="timeout"') + " or vector(0)",
                    "timeouts",
                    right="ops",
                ),
            ),
            unit="percentunit",
            limit=DATABASE_ERROR_SHARE,
            top=1,
        ),
    ),
    faults={
        "PostgreSQL is down for one of two replicas": Fault(
            ('SupportDatabaseFailing{instance="a"}',),
            {
                _operations(): Counter(300, 10),
                _operations("_OTHER"): Counter(0, 100),
                _operations(instance="b"): Counter(300, 300),
                _operations("_OTHER", "b"): Counter(0, 0.5),
            },
        ),
        "a few statements of many wait for a lock": Fault(
            ('SupportDatabaseFailing{instance="a"}',),
            {_operations(): Counter(3000, 3000), _operations("timeout"): Counter(0, 6)},
        ),
        "a few operations of many fail": Fault(
            (), {_operations(): Counter(3000, 3000), _operations("_OTHER"): Counter(0, 30)}
        ),
    },
)
