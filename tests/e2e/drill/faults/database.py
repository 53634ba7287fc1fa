"""Faults of PostgreSQL, held for a block and repaired after it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.e2e.drill import TIME
from tests.e2e.drill.database import NAME, ROLE
from tests.e2e.drill.deployment import Deployment
from tests.e2e.drill.fault import fault
from tests.e2e.drill.injection import changed
from tests.e2e.drill.runbook_checks import Cause

FAILOVER = 40 / TIME  # seconds
MANY = 20.0  # requests per second: the alert counts errors in a window that is divided, by a limit that is not
DISCONNECT = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
DATABASE = "SupportDatabaseFailing"


@asynccontextmanager
async def postgresql_is_down(deployment: Deployment) -> AsyncIterator[None]:
    await asyncio.to_thread(deployment.database.server.stop)
    yield
    await deployment.database.start()


@asynccontextmanager
async def postgresql_freezes(deployment: Deployment) -> AsyncIterator[None]:
    deployment.database.server.freeze()
    yield
    deployment.database.server.thaw()


@asynccontextmanager
async def tickets_are_locked(deployment: Deployment) -> AsyncIterator[None]:
    async with deployment.database.holding("LOCK TABLE tickets IN ACCESS EXCLUSIVE MODE"):
        yield


@asynccontextmanager
async def outbox_is_locked(deployment: Deployment) -> AsyncIterator[None]:
    lock = deployment.database.holding("LOCK TABLE outbox IN SHARE MODE")
    async with lock, changed(deployment.traffic, unread_cases=MANY):
        yield


@asynccontextmanager
async def ledger_row_is_locked(deployment: Deployment) -> AsyncIterator[None]:
    lock = deployment.database.holding("SELECT * FROM attachment_ledger FOR UPDATE")
    async with lock, changed(deployment.traffic, uploads=MANY):
        yield


@asynccontextmanager
async def statements_are_slow(deployment: Deployment) -> AsyncIterator[None]:
    """Each new case takes long, as without an index, and many come."""
    slow = deployment.database.trigger("BEFORE INSERT ON tickets", "PERFORM pg_sleep(0.9)")
    async with slow, changed(deployment.traffic, unread_cases=3 * MANY):
        yield


@asynccontextmanager
async def connections_are_used_up(deployment: Deployment) -> AsyncIterator[None]:
    await deployment.database.run(f"ALTER ROLE {ROLE} CONNECTION LIMIT 1; {DISCONNECT}")
    yield
    await deployment.database.run(f"ALTER ROLE {ROLE} CONNECTION LIMIT -1")


@asynccontextmanager
async def database_is_read_only(deployment: Deployment) -> AsyncIterator[None]:
    setting = f"ALTER DATABASE {NAME}"
    await deployment.database.run(f"{setting} SET default_transaction_read_only = on")
    await deployment.database.run(DISCONNECT)
    yield
    await asyncio.to_thread(deployment.database.server.run, f"{setting} RESET default_transaction_read_only")
    await asyncio.to_thread(deployment.database.server.run, DISCONNECT)


@asynccontextmanager
async def database_disk_is_full(deployment: Deployment) -> AsyncIterator[None]:
    """Every change of a case is refused with the error of a full disk."""
    action = "RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'"
    refused = deployment.database.trigger("BEFORE INSERT ON outbox", action)
    async with refused, changed(deployment.traffic, unread_cases=MANY):
        yield


@asynccontextmanager
async def migration_is_missing(deployment: Deployment) -> AsyncIterator[None]:
    """A release starts on the schema of the one before."""
    (revision,) = (await deployment.database.run("SELECT version_num FROM alembic_version")).splitlines()
    await deployment.database.run("UPDATE alembic_version SET version_num = '0001'")
    for replica in deployment.replicas:
        await replica.stop()
        replica.spawn()
    yield
    await deployment.database.run(f"UPDATE alembic_version SET version_num = '{revision}'")
    await asyncio.gather(*(replica.start() for replica in deployment.replicas))


@asynccontextmanager
async def database_fails_over(deployment: Deployment) -> AsyncIterator[None]:
    await asyncio.to_thread(deployment.database.server.stop)
    await asyncio.sleep(FAILOVER)
    await deployment.database.start()
    yield


FAULTS = (
    fault("PostgreSQL down", DATABASE, postgresql_is_down, Cause(3, "database_unavailable")),
    fault(
        "PostgreSQL frozen",
        DATABASE,
        postgresql_freezes,
        Cause(4, "can't be used"),
        resolved_within=8,  # what hangs is given up first
    ),
    fault("tickets locked", DATABASE, tickets_are_locked, Cause(4, r"psql +tests[\s\S]*on tickets")),
    fault("outbox locked", DATABASE, outbox_is_locked, Cause(4, r"psql +tests[\s\S]*on outbox")),
    fault(
        "a row locked",
        DATABASE,
        ledger_row_is_locked,
        Cause(4, r"psql +tests[\s\S]*UPDATE attachment_ledger"),
    ),
    fault(
        "connection pool exhausted",
        DATABASE,
        statements_are_slow,
        Cause(2, "database_pool_exhausted"),
    ),
    fault(
        "max_connections reached",
        DATABASE,
        connections_are_used_up,
        Cause(2, "database_connections_exhausted"),
    ),
    fault("database read-only", DATABASE, database_is_read_only, Cause(2, "database_read_only")),
    fault("disk of the database full", DATABASE, database_disk_is_full, Cause(2, "database_full")),
    fault("migration missing", "SupportServiceDown", migration_is_missing, Cause(2, "migrat")),
)
