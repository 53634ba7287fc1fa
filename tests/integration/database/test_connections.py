"""The connections of PostgreSQL's pool: who gets one, what it is left with, and how many there are."""

import asyncio

import asyncpg
import pytest
import sqlalchemy as sa

from support_service.core.errors import Unavailable
from support_service.platform.database.failures import StatementError
from support_service.platform.database.postgres.connection import Connection
from support_service.platform.database.postgres.engine import PostgresDatabase
from support_service.platform.database.statements import planned_by_values
from support_service.platform.database.tables import leases
from support_service.platform.telemetry.logs import cause_chain
from tests.support.calls import eventually
from tests.support.timings import PATIENT_DATABASE

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

SELECT_ONE = sa.text("SELECT 1 AS one")
SELECT_PID = sa.text("SELECT pg_backend_pid() AS pid")
SELECT_MODE = sa.text("SELECT pg_backend_pid() AS pid, current_setting('plan_cache_mode') AS mode")
SLEEP = sa.text("SELECT pg_sleep(60)")
SELECT_LEASE = sa.select(leases).where(leases.c.name == "a")
LEASE = {"name": "a", "holder": "", "fence": 0, "expires_at": 0}


@pytest.fixture
async def open_database(database_url):
    opened = []

    async def open_database(pool_size, **options):
        database = PostgresDatabase(database_url, pool_size=pool_size, timings=PATIENT_DATABASE.postgres, **options)
        await database.open()
        opened.append(database)
        return database

    yield open_database
    for database in opened:
        await database.close()


@pytest.fixture
def sent(monkeypatch):
    """The statements without parameters that are sent, such as SET and COMMIT."""
    statements, execute = [], Connection.execute

    async def note(connection, sql, *arguments, **options):
        statements.append(sql)
        return await execute(connection, sql, *arguments, **options)

    monkeypatch.setattr(Connection, "execute", note)
    return statements


async def test_lists_and_other_reads_have_connections_of_their_own(open_database, sent):
    """Neither changes the settings of its session between two reads. A bound of one connection holds for both."""
    database, only = await open_database(2), await open_database(1)
    sent.clear()
    for _ in range(3):
        assert (await database.fetch_now(SELECT_MODE)).mode == "auto"
        assert (await database.fetch_now(planned_by_values(SELECT_MODE))).mode == "force_custom_plan"
    assert (sent, database.pool_state()[:3]) == ([], (0, 2, 2))
    rows = [await only.fetch_now(each) for each in (planned_by_values(SELECT_MODE), SELECT_MODE) for _ in range(2)]
    assert [row.mode for row in rows] == ["force_custom_plan"] * 2 + ["auto"] * 2
    assert len({row.pid for row in rows}) == 1


async def test_list_gets_a_new_connection_if_the_only_one_was_lost(open_database, monkeypatch):
    """The driver has its own error for a connection that is ended while a statement begins."""
    database = await open_database(1)
    before = (await database.fetch_now(SELECT_PID)).pid

    async def fail(_connection, _mode):
        raise asyncpg.InternalClientError("another operation is in progress")

    monkeypatch.setattr(Connection, "set_plan_mode", fail)
    assert (await database.fetch_now(planned_by_values(SELECT_MODE))).pid != before


async def test_reason_of_a_lost_connection_says_what_happened(open_database, monkeypatch):
    """A repeated read has its own reason. The driver may name its own state, if the server closed while it was idle."""
    database = await open_database(1)

    async def fail(connection, *_):
        connection.terminate()
        raise asyncpg.InternalClientError("cannot switch to state 11")

    async def refuse(*_, **_options):
        raise ConnectionRefusedError

    await database.fetch_now(SELECT_PID)
    monkeypatch.setattr(Connection, "execute", fail)
    with pytest.raises(Unavailable) as lost:
        await database.execute(leases.insert(), LEASE)
    assert isinstance(cause_chain(lost.value)[-1], ConnectionResetError)
    await database.fetch_now(SELECT_PID)
    monkeypatch.setattr(Connection, "fetch", fail)
    monkeypatch.setattr(asyncpg, "connect", refuse)
    with pytest.raises(Unavailable) as refused:
        await database.fetch_now(SELECT_PID)
    assert isinstance(cause_chain(refused.value)[-1], ConnectionRefusedError)


async def test_idle_connection_is_used_if_the_server_refuses_more(open_database, postgres, database_url):
    """A list takes the connection of other reads, and opens none."""
    database = await open_database(2)
    pid = (await database.fetch_now(SELECT_PID)).pid
    name = database_url.rpartition("/")[2]
    postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    assert (await database.fetch_now(planned_by_values(SELECT_MODE))).pid == pid


async def test_connection_of_a_cancelled_read_is_replaced(open_database):
    """The statement ends on the server too, and the pool has as many connections as before."""
    database = await open_database(1)
    before = (await database.fetch_now(SELECT_PID)).pid
    reading = asyncio.create_task(database.fetch_now(SLEEP))
    running = sa.text("SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'")
    other = await open_database(1)

    async def is_running():
        return await other.fetch_now(running)

    async def has_ended():
        return not await other.fetch_now(running)

    await eventually(is_running)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (await database.fetch_now(SELECT_PID)).pid != before
    await eventually(has_ended)
    assert database.pool_state()[:3] == (0, 1, 1)


async def test_connection_of_a_failed_transaction_is_used_again(open_database):
    """It is rolled back first."""
    database = await open_database(1)

    async def fail():
        async with database.transaction() as tx:
            await tx.execute(leases.insert(), LEASE)
            raise KeyError((await tx.fetch_now(SELECT_PID)).pid)

    with pytest.raises(KeyError) as failure:
        await fail()
    assert (await database.fetch_now(SELECT_PID)).pid == failure.value.args[0]
    assert await database.fetch_now(SELECT_LEASE) is None


async def test_old_connection_is_replaced(open_database):
    """So that the service leaves a server whose name has moved, and memory of the server is freed."""
    database = await open_database(2, max_age=0.0)
    pids = {(await database.fetch_now(SELECT_PID)).pid for _ in range(3)}
    assert len(pids) == 3
    await eventually(lambda: database.pool_state()[:3] == (0, 0, 2))


async def test_server_that_accepts_no_changes_is_left(open_database, postgres, database_url):
    """Also if the URL has one name, which may lead to another server by now.

    A ping leaves it, too: a replica that only reads would stay with a former primary.
    """
    database = await open_database(1)
    before = (await database.fetch_now(SELECT_PID)).pid
    name = database_url.rpartition("/")[2]
    postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    postgres.run(f"SELECT pg_terminate_backend({before})")

    async def read_if_connected(database):
        try:
            return (await database.fetch_now(SELECT_PID)).pid
        except Unavailable:
            return None

    other = await open_database(1)
    stale = [await eventually(lambda each=each: read_if_connected(each)) for each in (database, other)]
    postgres.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    with pytest.raises(Unavailable) as refusal:
        await database.execute(leases.insert(), LEASE)
    assert refusal.value.code == "database_read_only"
    assert await database.execute(leases.insert(), LEASE) == 1
    with pytest.raises(Unavailable, match="accepts no changes"):
        await other.ping()
    await other.ping()
    assert {before, *stale}.isdisjoint([(await each.fetch_now(SELECT_PID)).pid for each in (database, other)])


async def test_transaction_that_the_server_has_rolled_back_is_not_reported_as_committed(open_database, sent):
    """Its block has caught the error of a statement; PostgreSQL rolls back at COMMIT without an error.

    A transaction without statements sends neither BEGIN nor COMMIT.
    """
    database = await open_database(1)
    sent.clear()
    async with database.transaction():
        pass
    assert sent == []

    async def go_on():
        async with database.transaction() as tx:
            await tx.execute(leases.insert(), LEASE)
            with pytest.raises(StatementError):
                await tx.execute(leases.insert(), LEASE)

    with pytest.raises(StatementError):
        await go_on()
    assert await database.fetch_now(SELECT_LEASE) is None


async def test_columns_given_as_text_have_names(open_database):
    """In a statement that is text as a whole, and in one with a column of text."""
    database = await open_database(1)
    column = sa.text("(SELECT 2) AS two")
    rows = [await database.fetch_now(SELECT_ONE), await database.fetch_now(sa.select(leases.c.name, column).limit(1))]
    assert [row._asdict() for row in rows] == [{"one": 1}, {"name": "relay", "two": 2}]


async def test_more_reads_than_connections_wait(open_database):
    """The state of the pool tells how many."""
    database = await open_database(2)
    async with database.transaction() as tx:
        await tx.fetch_now(SELECT_ONE)
        reads = [asyncio.create_task(database.fetch_now(SELECT_PID)) for _ in range(5)]
        await asyncio.sleep(0)
        assert database.pool_state() == (2, 0, 2, 4)
        await asyncio.gather(*reads)
    assert database.pool_state() == (0, 2, 2, 0)
