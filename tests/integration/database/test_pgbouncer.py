"""The service behind PgBouncer. In transaction mode each transaction may have another session of PostgreSQL."""

import asyncio
import re
from dataclasses import replace
from urllib.parse import urlsplit

import aiohttp
import asyncpg
import pytest
import sqlalchemy as sa

from support_service.commands.runtime import load_migrated_settings, open_maintenance
from support_service.core.errors import Unavailable
from support_service.platform.database import DatabaseTimings, MigrationTimings
from support_service.platform.database.migrate import BASELINE, downgrade, read_schema_status, upgrade
from support_service.platform.database.postgres.connection import Hosts
from support_service.platform.database.postgres.migrate import run_locked
from support_service.platform.database.shared import create_database
from support_service.platform.database.statements import planned_by_values
from support_service.platform.settings import Settings
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from support_service.privacy.erasure import CustomerErasure, ErasureTimings
from tests.support.calls import (
    GENEROUS_TIMEOUT,
    add_message,
    eventually,
    list_cases,
    open_case,
    parse_log,
    read_case,
    upload,
)
from tests.support.deployments import ROOT
from tests.support.pgbouncer import SESSIONS, PgBouncer
from tests.support.process import running
from tests.support.servers import free_port
from tests.support.service import service_of
from tests.support.sessions import copied_postgres
from tests.support.timings import PATIENT_DATABASE, PATIENT_POSTGRES

pytestmark = [pytest.mark.parametrize("backend", ["postgresql"], indirect=True), pytest.mark.usefixtures("servers")]

CALLERS = 4 * SESSIONS


@pytest.fixture(autouse=True)  # it ends after the clients of the service
def pooler_url(database_url, tmp_path):
    pooler = PgBouncer(tmp_path / "pgbouncer", database_url, "transaction")
    yield pooler.url
    pooler.close()


@pytest.fixture
def environment(environment, pooler_url):
    return environment | {"SUPPORT_DATABASE_URL": pooler_url, "SUPPORT_DATABASE_PREPARED_STATEMENTS": "false"}


@pytest.fixture
async def pooled(pooler_url):
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
    assert (await (await pooled()).fetch_now(subjects)).number == CALLERS - 1


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
    assert (await database.fetch_now(sa.text("SELECT team FROM tickets"))).team is None


async def test_time_limits_hold_and_stay_in_their_transaction(pooled, database):
    """A statement and a wait for a lock are cut off; another client of the session has its own limits.

    Settings of reads hold in each session.
    """
    given = await pooled()
    rows = await asyncio.gather(*(given.fetch_all(sa.text("SHOW jit")) for _ in range(CALLERS)))
    assert {row.jit for each in rows for row in each} == {"off"}
    limited = await pooled(DatabaseTimings(postgres=replace(PATIENT_POSTGRES, statement_timeout=0.3)))
    with pytest.raises(Unavailable) as refusal:
        await limited.fetch_now(sa.text("SELECT pg_sleep(60)"))
    assert refusal.value.code == "database_slow"
    limited = await pooled(DatabaseTimings(postgres=replace(PATIENT_POSTGRES, lock_timeout=0.05)))
    async with database.transaction() as tx:
        await tx.execute(sa.text("LOCK TABLE tickets IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(Unavailable) as refusal:
            await limited.fetch_now(sa.text("SELECT 1 FROM tickets"))
    assert refusal.value.code == "database_busy"


IGNORED = (
    "jit, max_parallel_workers_per_gather, random_page_cost, statement_timeout, lock_timeout, "
    "idle_in_transaction_session_timeout, plan_cache_mode"
)
MODE = sa.text("SELECT current_setting('plan_cache_mode') AS mode")


@pytest.fixture
def start_pooler(database_url, tmp_path):
    started = []

    def start(mode, **settings):
        pooler = PgBouncer(tmp_path / f"pgbouncer-{mode}-{len(started)}", database_url, mode, **settings)
        started.append(pooler)
        return pooler

    yield start
    for each in started:
        each.close()


@pytest.mark.usefixtures("processes")
async def test_default_configuration_is_refused_with_the_remedy(start_pooler, tmp_path):
    """PgBouncer refuses the settings of a session in each mode. Without prepared statements none are sent."""
    for mode in ("session", "transaction"):
        url = start_pooler(mode).url
        refused = create_database(url, timings=PATIENT_DATABASE)
        with pytest.raises(Unavailable, match=r"startup parameter: .*SUPPORT_DATABASE_PREPARED_STATEMENTS"):
            await refused.open()
        await refused.close()
        async with running("serve", cwd=tmp_path, SUPPORT_DATABASE_URL=url, SUPPORT_PORT="0") as process:
            status, _, errors = await process.wait_for_exit()
        assert status
        assert "unsupported startup parameter: " in errors.splitlines()[-1]
        database = create_database(url, prepared_statements=False, timings=PATIENT_DATABASE)
        await database.open()
        assert (await database.fetch_now(sa.text("SHOW jit"))).jit == "off"
        await database.close()


@pytest.mark.parametrize(
    ("mode", "kept_by_pooler", "named"), [("transaction", 10, True), ("transaction", 0, False), ("session", 0, True)]
)
async def test_prepared_statements_are_used_where_sessions_keep_them(
    start_pooler, make_client, mode, kept_by_pooler, named
):
    """The service finds out. Nothing that it sets stays in a session that others get."""
    url = start_pooler(mode, ignore_startup_parameters=IGNORED, max_prepared_statements=kept_by_pooler).url
    variables = {"SUPPORT_DATABASE_URL": url, "SUPPORT_DATABASE_PREPARED_STATEMENTS": "true"}
    client = await make_client(**variables, SUPPORT_DATABASE_POOL="1" if mode == "session" else "10")
    database = service_of(client).database
    assert database.prepared_statements == named

    async def handle(number):
        case = await open_case(client, subject=f"parcel{number:02}")
        await add_message(client, case)
        assert [each["id"] for each in (await list_cases(client, q=f"parcel{number:02}"))["items"]] == [case["id"]]

    await asyncio.gather(*map(handle, range(CALLERS)))
    modes = [(await database.fetch_now(planned_by_values(MODE))).mode for _ in range(SESSIONS)]
    assert {*modes} <= ({"force_custom_plan"} if named else {"auto"})
    if mode == "transaction":
        async with asyncpg.create_pool(url, min_size=SESSIONS, statement_cache_size=0) as others:
            for setting, default in (("plan_cache_mode", "auto"), ("statement_timeout", "0"), ("jit", "on")):
                assert {await others.fetchval(f"SHOW {setting}") for _ in range(2 * SESSIONS)} == {default}


EXPLAINED = "auto_explain"  # tells the client the settings that each statement was planned with


async def test_driver_reads_types_with_a_query_that_is_not_compiled(start_pooler, database_url, postgres):
    """To compile the query takes a second, in each connection. Sessions behind a pooler compile by default."""
    name = database_url.rpartition("/")[2]
    explaining = {"log_min_duration": 0, "log_settings": "on", "log_level": "notice"}
    postgres.run(f"ALTER DATABASE {name} SET session_preload_libraries = '{EXPLAINED}'")
    for setting, value in explaining.items():
        postgres.run(f"ALTER DATABASE {name} SET {EXPLAINED}.{setting} = {value}")
    notices = []
    connection = await Hosts(start_pooler("session").url, PATIENT_POSTGRES.connect_timeout).connect()
    try:
        connection.add_log_listener(lambda _, notice: notices.append(notice.message))
        assert await connection.fetchval("SELECT $1::bigint[]", [1, 2]) == [1, 2]
        (read,) = [notice for notice in notices if "typeinfo_tree" in notice]
        assert "jit = 'off'" in read
        assert await connection.fetchval("SHOW jit") == "on"
        assert not connection.is_in_transaction()
    finally:
        await connection.close()


@pytest.mark.parametrize("change", ["restart", "reload"])
async def test_service_goes_on_when_the_pooler_keeps_statements_no_longer(
    start_pooler, change, make_client, database_url, caplog
):
    """Its configuration was changed after the start. Reads and changes work without prepared statements at once."""
    pooler = start_pooler("transaction", ignore_startup_parameters=IGNORED, max_prepared_statements=10)
    variables = {"SUPPORT_DATABASE_URL": pooler.url, "SUPPORT_DATABASE_PREPARED_STATEMENTS": "true"}
    client = await make_client(**variables)
    database = service_of(client).database
    cases = await asyncio.gather(*(open_case(client, subject="parcel") for _ in range(CALLERS)))
    assert database.prepared_statements
    if change == "reload":
        pooler.reload(max_prepared_statements=0)
    else:
        pooler.close()
        start_pooler("transaction", port=pooler.port, ignore_startup_parameters=IGNORED)
    changes = [asyncio.create_task(add_message(client, case)) for case in cases]
    reads = [sa.text(f"SELECT {number % 5} AS number FROM pg_sleep(0.001)") for number in range(20 * CALLERS)]
    rows = await asyncio.gather(*map(database.fetch_now, reads))
    assert [row.number for row in rows] == [number % 5 for number in range(len(reads))]
    await asyncio.gather(*changes)
    assert not database.prepared_statements
    assert caplog.text.count("has forgotten a prepared statement") == 1
    for case in cases:
        assert len((await read_case(client, case))["messages"]) == 1


async def test_each_missing_setting_is_named_with_its_repair(start_pooler, database_url, postgres, caplog):
    """The statements of the log repair all of them."""
    url = start_pooler("transaction", ignore_startup_parameters=IGNORED, max_prepared_statements=10).url

    async def repairs():
        caplog.clear()
        database = create_database(url, timings=PATIENT_DATABASE)
        await database.open()
        await database.close()
        return re.findall(r"ALTER ROLE tests SET (\w+ = \S+)", caplog.text)

    missing = await repairs()
    assert {each.partition(" ")[0] for each in missing} == {*IGNORED.split(", ")} - {"plan_cache_mode"}
    name = database_url.rpartition("/")[2]
    for each in missing:
        postgres.run(f"ALTER ROLE tests IN DATABASE {name} SET {each}")
    postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    async def is_repaired():
        try:
            return await repairs() == []
        except Unavailable:  # PgBouncer still gives a session that was ended
            return False

    await eventually(is_repaired)


async def test_schema_is_read_without_a_trace(pooler_url, database, environment):
    """By any number of replicas that start, and by commands. No lock of migrations stays in a session."""
    statuses = [asyncio.to_thread(read_schema_status, pooler_url) for _ in range(CALLERS)]
    assert await asyncio.gather(*statuses) == ["newest"] * CALLERS
    assert (await asyncio.to_thread(load_migrated_settings, environment)).database.url == pooler_url
    locks = sa.text("SELECT count(*) AS number FROM pg_locks WHERE locktype = 'advisory'")
    assert (await database.fetch_now(locks)).number == 0


@pytest.mark.usefixtures("processes")
async def test_migrations_run_in_transaction_mode(environment, pooler_url, postgres, tmp_path):
    """Each migration of its own, also migrations that build indexes concurrently.

    Neither a lock nor a setting stays in a session.
    """
    name = postgres.create_database()
    url = pooler_url.rpartition("/")[0] + f"/{name}"
    async with running("migrate", cwd=tmp_path, **(environment | {"SUPPORT_DATABASE_URL": url})) as process:
        assert await process.wait_for_exit() == (0, "The database has the newest schema.\n", "")
    assert postgres.run("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", name) == "0"
    async with asyncpg.create_pool(url, min_size=SESSIONS, statement_cache_size=0) as clients:
        timeouts = [await clients.fetchval("SHOW statement_timeout") for _ in range(2 * SESSIONS)]
    assert {*timeouts} == {"0"}
    assert await asyncio.to_thread(read_schema_status, postgres.url(name)) == "newest"


async def test_no_session_waits_behind_a_migration_through_a_pooler(pooler_url, database_url):
    """A session of the pooler has no limit of its own for the wait for a table."""

    def migrate(connection):
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql("ALTER TABLE tickets ADD COLUMN added TEXT")

    timings = MigrationTimings(lock_timeout=0.05, retry_pause=0.01, attempts=1_000_000)
    limit = {"lock_timeout": f"{GENEROUS_TIMEOUT}s"}
    async with asyncpg.create_pool(database_url, min_size=2, server_settings=limit) as pool:
        async with pool.acquire() as holder, holder.transaction(), pool.acquire() as user:
            await holder.execute("LOCK TABLE tickets IN ACCESS SHARE MODE")
            migrating = asyncio.create_task(asyncio.to_thread(run_locked, pooler_url, migrate, timings))
            waiting = "SELECT 1 FROM pg_locks WHERE relation = 'tickets'::regclass AND NOT granted"
            await eventually(lambda: user.fetchval(waiting))
            assert await user.fetchval("SELECT count(*) FROM tickets") == 0
            assert not migrating.done()
        await migrating


async def test_migrations_are_refused_where_a_pooler_would_end_them(pooler_url, database_url, postgres):
    """An index may take longer than the time that the role has for a statement."""
    name = database_url.rpartition("/")[2]
    await asyncio.to_thread(downgrade, database_url, BASELINE)
    postgres.run(f"ALTER DATABASE {name} SET statement_timeout = '15s'")
    with pytest.raises(Unavailable, match="statement_timeout = 15s, which is too short to build an index"):
        await asyncio.to_thread(upgrade, pooler_url)
    assert await asyncio.to_thread(upgrade, database_url) == "newest"


@pytest.mark.usefixtures("processes")
async def test_documented_configuration_works(postgres_cluster, tmp_path):
    """To the letter, except for addresses and paths: commands of the page, without a warning."""
    page = (ROOT / "docs" / "operations" / "postgresql.md").read_text()
    (configuration,) = re.findall("```ini\n(.*?)```", page, re.DOTALL)
    urls = re.findall(r"SUPPORT_DATABASE_URL=(postgresql://\S+) support-service (\w+)", page)
    (users,) = re.findall(r"userlist.txt` has the user and the password: `(.*?)`", page)
    with copied_postgres(postgres_cluster) as server:
        server.run("CREATE ROLE support LOGIN PASSWORD 'secret'")
        server.run("CREATE DATABASE support OWNER support")
        server.require("host all support 127.0.0.1/32 scram-sha-256")
        address = f"host=127.0.0.1 port={urlsplit(server.url()).port} "
        for stated, real in (
            ("host=db.example port=5432 ", address),
            ("0.0.0.0", "127.0.0.1"),
            ("6432", "LISTEN_PORT\nunix_socket_dir ="),
        ):
            assert stated in configuration
            configuration = configuration.replace(stated, real)
        files = {"/etc/pgbouncer/userlist.txt": f"{users}\n"}
        pooler = PgBouncer(tmp_path / "documented", server.url(), configuration=configuration, files=files)
        try:
            url_of = {
                command: url.replace("pgbouncer.example:6432", f"127.0.0.1:{pooler.port}") for url, command in urls
            }
            async with running("migrate", cwd=tmp_path, SUPPORT_DATABASE_URL=url_of["migrate"]) as process:
                assert await process.wait_for_exit() == (0, "The database has the newest schema.\n", "")
            port = str(free_port())
            async with running(
                "serve", cwd=tmp_path, SUPPORT_DATABASE_URL=url_of["serve"], SUPPORT_PORT=port
            ) as process:
                await process.wait_until_ready(f"http://127.0.0.1:{port}")
                async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
                    cases = await asyncio.gather(*(open_case(client, subject="parcel") for _ in range(CALLERS)))
                    assert len((await list_cases(client, q="parcel"))["items"]) == len(cases)
                process.stop()
                status, _, log = await process.wait_for_exit()
            assert status == 0
            assert [line for line in parse_log(log) if line["level"] != "INFO"] == []
        finally:
            pooler.close()
