"""Rows that another session of PostgreSQL locks: who needs them is refused soon, and everything else goes on."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import sqlalchemy as sa

from support_service.core.errors import Unavailable
from support_service.platform.database import DatabaseTimings, PostgresTimings
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import secrets
from support_service.timings import ApiTimings
from tests.support.calls import eventually, expect_json, open_case, read_case, upload
from tests.support.timings import PATIENT_DATABASE, PATIENT_POSTGRES, patient_timings

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

WRITERS = 90
FEW_WAITING = DatabaseTimings(postgres=replace(PATIENT_POSTGRES, max_waiting=30))
LONG = 60.0


@pytest.fixture
async def locked(database_url):
    other = create_database(database_url, timings=PATIENT_DATABASE)
    await other.open()

    @asynccontextmanager
    async def lock(statement, **parameters):
        async with other.transaction() as tx:
            await tx.fetch_all(sa.text(statement), parameters)
            yield

    yield lock
    await other.close()


async def statuses(calls):
    """Return how many calls were answered with each code; None for success."""

    async def code(call):
        async with call as response:
            return None if response.status < 300 else (await response.json())["code"]

    codes = await asyncio.gather(*map(code, calls))
    return {each: codes.count(each) for each in set(codes)}


def message(client, case):
    return client.post(f"/support/cases/{case['id']}/messages", json={"authorType": "agent", "message": "Hello"})


async def test_writers_of_a_locked_case_do_not_block_others(make_client, locked):
    """Other cases are read and changed, and readiness stays on."""
    timings = patient_timings(api=ApiTimings(ping_timeout=LONG), database=FEW_WAITING)
    client = await make_client(timings=timings)
    case, other = await open_case(client), await open_case(client)
    async with locked("SELECT 1 FROM tickets WHERE id = :id FOR UPDATE", id=case["id"]):
        writers = [asyncio.create_task(statuses([message(client, case)])) for _ in range(WRITERS)]
        refused, _ = await asyncio.wait(writers, return_when=asyncio.FIRST_COMPLETED)
        assert {code for each in refused for code in each.result()} == {"writes_waiting"}
        for _ in range(5):
            assert (await read_case(client, case))["id"] == case["id"]
            assert (await read_case(client, other))["id"] == other["id"]
            assert await statuses([message(client, other)]) == {None: 1}
            await open_case(client)
            await upload(client, other)
            await expect_json(client.get("/readyz"))
    answers = await asyncio.gather(*writers)
    done = sum(each.get(None, 0) for each in answers)
    assert 0 < done < WRITERS
    assert sum(each.get("writes_waiting", 0) for each in answers) == WRITERS - done
    assert len((await read_case(client, case))["messages"]) == done  # the turns that were taken are free again


async def test_uploads_do_not_wait_for_the_totals_of_the_ledger(client, locked):
    """Replicas merge changes into the totals, and correct them, while files are added and removed."""
    cases = [await open_case(client) for _ in range(12)]
    async with locked("SELECT 1 FROM attachment_ledger FOR UPDATE"):
        stored = await asyncio.gather(*(upload(client, each) for each in cases))
        await expect_json(client.delete(f"/support/cases/{cases[0]['id']}/attachments/{stored[0]['id']}"), 204)


async def test_change_of_a_locked_case_is_refused_as_busy(make_client, locked):
    """So are the changes that wait behind it."""
    timings = DatabaseTimings(postgres=replace(PATIENT_POSTGRES, lock_timeout=0.05, pool_timeout=0.2))
    client = await make_client(timings=patient_timings(database=timings))
    case = await open_case(client)
    async with locked("SELECT 1 FROM tickets WHERE id = :id FOR UPDATE", id=case["id"]):
        assert await statuses(message(client, case) for _ in range(10)) == {"database_busy": 10}
    assert await statuses([message(client, case)]) == {None: 1}


async def test_transactions_leave_connections_to_reads(database_url):
    """A request without a connection gets its own code, and the ping has its own connection."""
    timings = DatabaseTimings(postgres=replace(PATIENT_POSTGRES, pool_timeout=0.05))
    database = create_database(database_url, pool_size=2, timings=timings)
    await database.open()
    async with database.transaction() as tx:
        await tx.fetch_now(sa.text("SELECT pg_advisory_xact_lock(1)"))
        with pytest.raises(Unavailable) as refusal:
            async with database.transaction():
                pass
        assert refusal.value.code == "database_pool_exhausted"
        assert await database.fetch_now(sa.text("SELECT 1"))
        waiting = asyncio.create_task(database.fetch_now(sa.text("SELECT pg_advisory_lock(1)")))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as refusal:
            await database.fetch_now(sa.text("SELECT 1"))
        assert refusal.value.code == "database_pool_exhausted"
        await database.ping()
    await waiting
    await database.close()


async def test_shared_statements_leave_connections_to_reads(database_url, locked):
    """Statements of transactions without locks wait for the lock of a table."""
    timings = DatabaseTimings(postgres=replace(PATIENT_POSTGRES, pool_timeout=0.05))
    database = create_database(database_url, pool_size=2, timings=timings)
    await database.open()

    async def write(name):
        async with database.transaction(without_locks=True) as tx:
            await tx.execute_later(secrets.insert(), {"name": name, "value": ""})

    async with locked("LOCK TABLE secrets"):
        one = asyncio.create_task(write("one"))
        await eventually(lambda: database.pool.used)
        other = asyncio.create_task(write("other"))
        for _ in range(5):  # until its statement was sent, or waits
            await asyncio.sleep(0)
        assert await database.fetch_now(sa.text("SELECT 1"))
        assert not one.done()
    answers = await asyncio.gather(one, other, return_exceptions=True)
    assert answers[0] is None
    await database.close()


@pytest.mark.usefixtures("backend")
def test_lock_timeout_is_shorter_than_the_pool_timeout():
    """A transaction that waits for a lock returns its connection before others stop waiting for one."""
    timings = PostgresTimings()
    assert timings.lock_timeout < timings.pool_timeout < timings.statement_timeout
