"""The service behind PgBouncer. In transaction mode each transaction may have another session of PostgreSQL."""

import asyncio

import asyncpg
import pytest
import sqlalchemy as sa

from support_service.commands.runtime import load_migrated_settings, open_maintenance
from support_service.core.errors import Unavailable
from support_service.platform.database import DatabaseTimings, PostgresTimings
from support_service.platform.database.migrate import downgrade, read_schema_status, upgrade
from support_service.platform.database.opening import create_database
from support_service.platform.settings import Settings
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from support_service.privacy.erasure import CustomerErasure, ErasureTimings
from tests.support.calls import add_message, expect_problem, list_cases, open_case, read_case, upload
from tests.support.pgbouncer import SESSIONS, PgBouncer
from tests.support.process import running
from tests.support.timings import PATIENT_DATABASE, patient_timings

pytestmark = [pytest.mark.parametrize("backend", ["postgresql"], indirect=True), pytest.mark.usefixtures("servers")]

CALLERS = 4 * SESSIONS


@pytest.fixture(autouse=True)  # it ends after the clients of the service
def pooler_url(database_url, tmp_path):
    """The URL of the database through PgBouncer in transaction mode."""
    pooler = PgBouncer(tmp_path / "pgbouncer", database_url, "transaction")
    yield pooler.url
    pooler.close()


@pytest.fixture
def environment(environment, pooler_url):
    """The variables of a service behind PgBouncer."""
    return environment | {"SUPPORT_DATABASE_URL": pooler_url, "SUPPORT_DATABASE_PREPARED_STATEMENTS": "false"}


@pytest.fixture
async def pooled(pooler_url):
    """Opens the database through PgBouncer."""
    opened = []

    async def pooled(timings=PATIENT_DATABASE, **options):
        database = create_database(pooler_url, prepared_statements=False, timings=timings, **options)
        await database.open()
        opened.append(database)
        return database

    yield pooled
    for database in opened:
        await database.close()


async def test_cases_are_opened_changed_searched_and_erased(client, environment, pooled):
    """By more callers at a time than PgBouncer has sessions."""

    async def handle(number):
        customer = f"customer-{number}"
        case = await open_case(client, subject=f"parcel{number:02}", customerId=customer)
        await add_message(client, case)
        await upload(client, case)
        for query in ({"q": f"parcel{number:02}"}, {"customerId": customer}):
            assert [each["id"] for each in (await list_cases(client, **query))["items"]] == [case["id"]]
        stored = await read_case(client, case)
        assert (len(stored["messages"]), len(stored["attachments"])) == (1, 1)

    await asyncio.gather(*map(handle, range(CALLERS)))
    settings = Settings.load(environment)
    async with open_maintenance(settings) as maintenance:
        erasure = CustomerErasure(
            settings, maintenance.database, maintenance.garbage_collector, maintenance.instruments, ErasureTimings()
        )
        await erasure.run(SYSTEM_ORIGIN, "customer-1")
    subjects = sa.text("SELECT count(*) AS number FROM tickets WHERE subject LIKE 'parcel%'")
    assert (await (await pooled()).fetch_one(subjects)).number == CALLERS - 1


async def test_a_failed_write_leaves_nothing_in_a_session(client, pooled):
    """The next transaction in the session works."""
    database = await pooled()

    async def fail(number):
        async with database.transaction() as tx:
            await tx.execute(sa.text("UPDATE tickets SET team = :team"), {"team": str(number)})
            raise KeyError

    await open_case(client)
    results = await asyncio.gather(*map(fail, range(CALLERS)), return_exceptions=True)
    assert all(isinstance(result, KeyError) for result in results)
    assert (await database.fetch_one(sa.text("SELECT team FROM tickets"))).team is None


async def test_time_limits_hold_and_stay_in_their_transaction(pooled, database):
    """A statement and a wait for a lock are cut off; another client of the session has its own limits."""
    limits = PostgresTimings(lock_timeout=0.05, statement_timeout=0.3)
    limited = await pooled(DatabaseTimings(postgres=limits))
    with pytest.raises(Unavailable) as refusal:
        await limited.fetch_one(sa.text("SELECT pg_sleep(60)"))
    assert refusal.value.code == "database_slow"
    async with database.transaction() as tx:
        await tx.execute(sa.text("LOCK TABLE tickets IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(Unavailable) as refusal:
            await limited.fetch_one(sa.text("SELECT 1 FROM tickets"))
    assert refusal.value.code == "database_busy"


async def test_settings_of_reads_hold_in_each_session(pooled):
    database = await pooled()
    rows = await asyncio.gather(*(database.fetch_all(sa.text("SHOW jit")) for _ in range(CALLERS)))
    assert {row.jit for each in rows for row in each} == {"off"}


async def test_locked_case_refuses_its_writers_only(make_client, database):
    """As without a pooler."""
    limits = DatabaseTimings(postgres=PostgresTimings(lock_timeout=0.05, pool_timeout=0.2))
    client = await make_client(timings=patient_timings(database=limits))
    case, other = await open_case(client), await open_case(client)
    async with database.transaction() as tx:
        await tx.fetch_all(sa.text("SELECT 1 FROM tickets WHERE id = :id FOR UPDATE"), {"id": case["id"]})
        body = {"authorType": "agent", "message": "Hello"}
        response = await client.post(f"/support/cases/{case['id']}/messages", json=body)
        await expect_problem(response, 503, "database_busy")
        await add_message(client, other)


@pytest.fixture
def session_pooler_url(database_url, tmp_path):
    """The URL of the database through PgBouncer in session mode."""
    pooler = PgBouncer(tmp_path / "session-pgbouncer", database_url, "session")
    yield pooler.url
    pooler.close()


async def test_session_mode_needs_the_same_setting(session_pooler_url):
    """PgBouncer refuses the settings of a session, and migrations run through it."""
    refused = create_database(session_pooler_url, timings=PATIENT_DATABASE)
    with pytest.raises(Unavailable) as refusal:
        await refused.open()
    assert "unsupported startup parameter" in str(refusal.value.__cause__)
    database = create_database(session_pooler_url, prepared_statements=False, timings=PATIENT_DATABASE)
    await database.open()
    assert (await database.fetch_one(sa.text("SHOW jit"))).jit == "off"
    await database.close()
    assert await asyncio.to_thread(upgrade, session_pooler_url) == "newest"


async def test_schema_is_read_without_a_trace(pooler_url, database, environment):
    """By any number of replicas that start, and by commands. No lock of migrations stays in a session."""
    statuses = [asyncio.to_thread(read_schema_status, pooler_url) for _ in range(CALLERS)]
    assert await asyncio.gather(*statuses) == ["newest"] * CALLERS
    assert (await asyncio.to_thread(load_migrated_settings, environment)).database.url == pooler_url
    locks = sa.text("SELECT count(*) AS number FROM pg_locks WHERE locktype = 'advisory'")
    assert (await database.fetch_one(locks)).number == 0


@pytest.mark.usefixtures("processes")
async def test_migrations_run_in_transaction_mode(environment, pooler_url, postgres, tmp_path):
    """Each of its own, also those that build indexes concurrently. Neither a lock nor a setting stays in a session."""
    name = postgres.create_database()
    url = pooler_url.rpartition("/")[0] + f"/{name}"
    async with running("migrate", cwd=tmp_path, **(environment | {"SUPPORT_DATABASE_URL": url})) as process:
        assert await process.wait_for_exit() == (0, "The database has the newest schema.\n", "")
    assert postgres.run("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", name) == "0"
    async with asyncpg.create_pool(url, min_size=SESSIONS, statement_cache_size=0) as clients:
        timeouts = [await clients.fetchval("SHOW statement_timeout") for _ in range(2 * SESSIONS)]
    assert {*timeouts} == {"0"}
    assert await asyncio.to_thread(read_schema_status, postgres.url(name)) == "newest"


async def test_migrations_are_refused_where_a_pooler_would_end_them(pooler_url, database_url, postgres):
    """An index may take longer than the time that the role has for a statement."""
    name = database_url.rpartition("/")[2]
    await asyncio.to_thread(downgrade, database_url, "0041")
    postgres.run(f"ALTER DATABASE {name} SET statement_timeout = '15s'")
    with pytest.raises(Unavailable, match="statement_timeout = 15s, which is too short to build an index"):
        await asyncio.to_thread(upgrade, pooler_url)
    assert await asyncio.to_thread(upgrade, database_url) == "newest"
