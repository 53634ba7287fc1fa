"""SupportDatabaseFailing: the database fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, rate, ratio

from observability.drill import (
    DATABASE_AND_ROLE,
    END_SESSION,
    Action,
    Cause,
    Deployment,
    DrillFault,
    Exercise,
    changed_attributes,
)
from observability.faults import CounterValues, Fault
from observability.signal import CAUSE_KEPT, SERVICE_JOB, SYMPTOM_WINDOW, Alert, Signal
from observability.signals.api_error_budget import REQUESTS_FAILING

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


MANY = 20.0  # requests per second: the alert counts errors in a window that is divided, by a limit that is not


@asynccontextmanager
async def _postgresql_is_down(deployment: Deployment) -> AsyncIterator[None]:
    await asyncio.to_thread(deployment.database.server.stop)
    yield
    await deployment.database.start()


@asynccontextmanager
async def _postgresql_freezes(deployment: Deployment) -> AsyncIterator[None]:
    deployment.database.server.freeze()
    yield
    deployment.database.server.thaw()


@asynccontextmanager
async def _tickets_are_locked(deployment: Deployment) -> AsyncIterator[None]:
    async with deployment.database.holding("LOCK TABLE tickets IN ACCESS EXCLUSIVE MODE"):
        yield


@asynccontextmanager
async def _outbox_is_locked(deployment: Deployment) -> AsyncIterator[None]:
    """Every change waits for it. Many files come, since as many cases would be a spike once the session has ended."""
    lock = deployment.database.holding("LOCK TABLE outbox IN SHARE MODE")
    async with lock, changed_attributes(deployment.traffic, uploads=MANY):
        yield


@asynccontextmanager
async def _attachments_are_locked(deployment: Deployment) -> AsyncIterator[None]:
    lock = deployment.database.holding("LOCK TABLE attachments IN SHARE MODE")
    async with lock, changed_attributes(deployment.traffic, uploads=MANY):
        yield


@asynccontextmanager
async def _statements_are_slow(deployment: Deployment) -> AsyncIterator[None]:
    """Each new case takes long, as without an index, and many come."""
    slow = deployment.database.trigger("BEFORE INSERT ON tickets", "PERFORM pg_sleep(0.9)")
    async with slow, changed_attributes(deployment.traffic, unread_cases=3 * MANY):
        yield


DISCONNECT = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{DATABASE_AND_ROLE}'"


@asynccontextmanager
async def _connections_are_used_up(deployment: Deployment) -> AsyncIterator[None]:
    await deployment.database.run(f"ALTER ROLE {DATABASE_AND_ROLE} CONNECTION LIMIT 1; {DISCONNECT}")
    yield
    await deployment.database.run(f"ALTER ROLE {DATABASE_AND_ROLE} CONNECTION LIMIT -1")


@asynccontextmanager
async def _database_is_read_only(deployment: Deployment) -> AsyncIterator[None]:
    setting = f"ALTER DATABASE {DATABASE_AND_ROLE}"
    await deployment.database.run(f"{setting} SET default_transaction_read_only = on")
    await deployment.database.run(DISCONNECT)
    yield
    await asyncio.to_thread(deployment.database.server.run, f"{setting} RESET default_transaction_read_only")
    await asyncio.to_thread(deployment.database.server.run, DISCONNECT)


@asynccontextmanager
async def _database_disk_is_full(deployment: Deployment) -> AsyncIterator[None]:
    """Every change of a case is refused with the error of a full disk."""
    action = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'"
    refused = deployment.database.trigger("BEFORE INSERT ON outbox", action)
    async with refused, changed_attributes(deployment.traffic, unread_cases=MANY):
        yield


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
            summary="{{ $value | humanizePercentage }} of the database operations of {{ $labels.instance }} fail: "
            f"{REQUESTS_FAILING}",
            description="{{ $value | humanizePercentage }} of the database operations of {{ $labels.instance }} fail "
            f"(limit {DATABASE_ERROR_SHARE:.0%} and {DATABASE_ERRORS} errors, or {DATABASE_ERRORS} timeouts, in "
            f"{SYMPTOM_WINDOW}). Their requests are answered with 503. Acknowledged data is not lost.",
            keep_firing_for=CAUSE_KEPT,
            stated=(f"{DATABASE_ERROR_SHARE * 100:g} %", f"{DATABASE_ERRORS} ", SYMPTOM_WINDOW, DATABASE_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support database errors",
            "Share of database operations that fail, by replica. On the right: timeouts a second, because of a lock, a "
            "slow statement, or no free connection. Normal: 0.",
            row="dependencies",
            place=10,
            queries=(
                Query(
                    ratio(
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
        "an operation in eleven fails on one of two replicas": Fault(
            ('SupportDatabaseFailing{instance="a"}',),
            {
                _operations(): CounterValues(30, 30),
                _operations("_OTHER"): CounterValues(0, 3),
                _operations(instance="b"): CounterValues(300, 300),
                _operations("_OTHER", "b"): CounterValues(0, 0.5),
            },
        ),
        "a few statements of many wait for a lock": Fault(
            ('SupportDatabaseFailing{instance="a"}',),
            {_operations(): CounterValues(3000, 3000), _operations("timeout"): CounterValues(0, 6)},
        ),
        "a few operations of many fail": Fault(
            (), {_operations(): CounterValues(3000, 3000), _operations("_OTHER"): CounterValues(0, 30)}
        ),
    },
    drills=(
        DrillFault(
            "PostgreSQL down",
            ("SupportDatabaseFailing",),
            _postgresql_is_down,
            (Cause(1, "database_unavailable"),),
            actions=(Action("Start PostgreSQL"),),
        ),
        DrillFault(
            "PostgreSQL frozen",
            ("SupportDatabaseFailing",),
            _postgresql_freezes,
            (Cause(2, "can't be used"),),
            resolved_within=8,  # what hangs is given up first
            actions=(Action("Start PostgreSQL"),),
        ),
        DrillFault(
            "tickets locked",
            ("SupportDatabaseFailing",),
            _tickets_are_locked,
            (Cause(2, r"psql +tests[\s\S]*on tickets"),),
            actions=(END_SESSION,),
        ),
        DrillFault(
            "outbox locked",
            ("SupportDatabaseFailing",),
            _outbox_is_locked,
            (Cause(2, r"psql +tests[\s\S]*on outbox"),),
            actions=(END_SESSION,),
        ),
        DrillFault(
            "attachments locked",
            ("SupportDatabaseFailing",),
            _attachments_are_locked,
            (Cause(2, r"psql +tests[\s\S]*on attachments"),),
            actions=(END_SESSION,),
        ),
        DrillFault(
            "connection pool exhausted",
            ("SupportDatabaseFailing",),
            _statements_are_slow,
            (Cause(1, "database_pool_exhausted"),),
            only_repair="the statement has to become faster",
        ),
        DrillFault(
            "max_connections reached",
            ("SupportDatabaseFailing",),
            _connections_are_used_up,
            (Cause(1, "database_connections_exhausted"),),
            only_repair="the role has a limit of its own, which its owner has to raise",
        ),
        DrillFault(
            "database read-only",
            ("SupportDatabaseFailing",),
            _database_is_read_only,
            (Cause(1, "database_read_only"),),
            only_repair="the database has to permit changes again",
        ),
        DrillFault(
            "disk of the database full",
            ("SupportDatabaseFailing",),
            _database_disk_is_full,
            (Cause(1, "database_full"),),
            only_repair="the disk needs space",
        ),
    ),
    exercises=(
        Exercise(("stop PostgreSQL", "dừng PostgreSQL"), ("start PostgreSQL", "khởi động PostgreSQL")),
        Exercise(
            (
                "hold a lock: `BEGIN; LOCK TABLE tickets;` in `psql`",
                "giữ khoá: `BEGIN; LOCK TABLE tickets;` trong `psql`",
            ),
            ("`ROLLBACK;`", "`ROLLBACK;`"),
        ),
    ),
)
