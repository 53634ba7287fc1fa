"""Each fault of a database that answers has a problem code of its own, with status 503."""

import logging
import sqlite3
from contextlib import AsyncExitStack, suppress
from dataclasses import replace

import asyncpg
import pytest
import sqlalchemy as sa

from support_service.core.errors import Unavailable
from support_service.platform.database import DatabaseTimings
from support_service.platform.database.failures import CODE_BY_SQLSTATE, code_of_sqlstate
from support_service.platform.database.shared import create_database
from support_service.platform.telemetry.logs import LIMITED_LOGGERS, RateLimitFilter
from tests.support.calls import expect_problem, open_case, read_case
from tests.support.timings import PATIENT_DATABASE, PATIENT_POSTGRES, patient_timings

on_postgresql = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
NEW_CASE = {"subject": "A", "channel": "email"}
SHORT_WAITS = DatabaseTimings(postgres=replace(PATIENT_POSTGRES, lock_timeout=0.05))
SHORT_STATEMENTS = DatabaseTimings(postgres=replace(PATIENT_POSTGRES, statement_timeout=0.3))


@pytest.fixture
def connections():
    opened = []

    def note(connection, _):
        opened.append(connection)

    sa.event.listen(sa.Engine, "connect", note)
    yield opened
    sa.event.remove(sa.Engine, "connect", note)


@on_postgresql
async def test_locked_table_is_busy(make_client, database_url):
    """While another session locks `tickets`, reads and writes of cases are `database_busy`."""
    client = await make_client(timings=patient_timings(database=SHORT_WAITS))
    case = await open_case(client)
    other = create_database(database_url, timings=PATIENT_DATABASE)
    async with other.transaction() as tx:
        await tx.execute(sa.text("LOCK TABLE tickets IN ACCESS EXCLUSIVE MODE"))
        await expect_problem(await client.get(f"/support/cases/{case['id']}"), 503, "database_busy")
        await expect_problem(await client.post("/support/cases", json=NEW_CASE), 503, "database_busy")
    await other.close()
    assert (await read_case(client, case))["id"] == case["id"]


@on_postgresql
async def test_read_only_database_refuses_changes_only(client, postgres, database_url):
    """Cases are read; each change is `database_read_only`, and succeeds once the database accepts changes."""
    name = database_url.rpartition("/")[2]

    def set_read_only(value):
        postgres.run(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    case = await open_case(client)
    set_read_only("on")
    assert (await read_case(client, case))["id"] == case["id"]
    await expect_problem(await client.post("/support/cases", json=NEW_CASE), 503, "database_read_only")
    response = await client.post(f"/support/cases/{case['id']}/messages", json={"authorType": "agent", "message": "A"})
    await expect_problem(response, 503, "database_read_only")
    async with client.get("/readyz") as response:
        body = await response.json()
        assert (response.status, body["status"], body["database"]) == (200, "ready", "database_read_only")
    set_read_only("off")
    assert (await read_case(client, case))["id"] == case["id"]
    await open_case(client)


@on_postgresql
async def test_server_at_its_connection_limit_has_its_own_code(database_url):
    """A replica that gets no connection because of `max_connections` reports it, for reads and changes.

    A statement that the server cancels is `database_slow`, which the driver must not hide behind its own timeout.
    """
    slow, database = [create_database(database_url, timings=SHORT_STATEMENTS) for _ in range(2)]
    with pytest.raises(Unavailable) as refusal:
        await slow.fetch_now(sa.text("SELECT pg_sleep(60)"))
    assert refusal.value.code == "database_slow"
    await slow.close()
    async with AsyncExitStack() as others:
        with suppress(asyncpg.TooManyConnectionsError):
            while True:
                other = await asyncpg.connect(database_url)
                others.push_async_callback(other.close)
        for call in (database.fetch_now(sa.text("SELECT 1")), database.transaction().__aenter__()):
            with pytest.raises(Unavailable) as refusal:
                await call
            assert refusal.value.code == "database_connections_exhausted"
    await database.close()


@on_postgresql
async def test_sqlstates_have_their_codes(client, postgres, database_url):
    """A full disk and a deadlock have codes of their own; states without a row of the table follow their class."""
    codes = {"53100": "database_full", "40P01": "database_busy", "53200": "database_unavailable"}
    for state, code in codes.items():
        postgres.run(
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$; "
            "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON tickets FOR EACH ROW EXECUTE FUNCTION refuse()",
            database_url.rpartition("/")[2],
        )
        await expect_problem(await client.post("/support/cases", json=NEW_CASE), 503, code)


@pytest.mark.parametrize("pragma", [("max_page_count=1", "database_full"), ("query_only=1", "database_read_only")])
async def test_sqlite_write_failures_have_their_codes(connections, client, pragma, caplog):
    """A full disk and a read-only file: one line a minute names it. Reads continue, and so do writes afterwards."""

    def set_pragma(pragma):
        for connection in connections:
            with suppress(sqlite3.ProgrammingError):  # it was closed
                connection.execute(f"PRAGMA {pragma}")

    case = await open_case(client)
    statement, code = pragma
    set_pragma(statement)
    body = {"subject": "A", "channel": "email", "description": "x" * 60_000}
    with caplog.at_level(logging.INFO), caplog.filtering(RateLimitFilter(*LIMITED_LOGGERS)):
        for _ in range(3):
            await expect_problem(await client.post("/support/cases", json=body), 503, code)
    assert len([record for record in caplog.records if record.message.startswith("SQLite failed")]) == 1
    assert (await read_case(client, case))["id"] == case["id"]
    set_pragma("max_page_count=1000000")
    set_pragma("query_only=0")
    await open_case(client)


@pytest.mark.usefixtures("backend")
def test_states_without_a_code():
    """Errors of a statement, and failures without a state, have none."""
    assert [code_of_sqlstate(state) for state in ("23505", "42P01", "", None)] == [None] * 4
    assert all(code_of_sqlstate(state) == code for state, code in CODE_BY_SQLSTATE.items())
