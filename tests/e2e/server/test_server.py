"""`support-service serve` as a process: it starts, serves and stops cleanly."""

import asyncio
import json
import signal
import sqlite3
from contextlib import closing

import aiohttp
import pytest

from tests.support.calls import eventually, expect_json, expect_problem, open_case, parse_log, read_case, read_detail
from tests.support.process import running
from tests.support.servers import RedisServer, accepts, free_port

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
def port():
    return free_port()


@pytest.fixture
def empty(port, tmp_path):
    return {"SUPPORT_PORT": str(port), "cwd": tmp_path}


@pytest.fixture
def variables(empty, migrated_folder):
    """Variables of a service that has migrated the database in its own folder."""
    return empty


@pytest.fixture
def newer_schema(database_url):
    """Change a database as a newer release might; return its URL."""
    statements = (
        "ALTER TABLE tickets ADD COLUMN mood VARCHAR(16) NOT NULL DEFAULT 'calm'",
        "CREATE TABLE moods (name VARCHAR(16) PRIMARY KEY)",
        "UPDATE alembic_version SET version_num = '9999'",
    )
    with closing(sqlite3.connect(database_url.removeprefix("sqlite:///"))) as connection:
        connection.executescript("; ".join(statements))
    return database_url


@pytest.fixture
async def session(port):
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        yield session


async def test_serve_creates_its_database_and_keeps_cases_over_restarts_and_a_crash(empty, session, port, tmp_path):
    """The port is the only required setting. Each case that was acknowledged exists after a stop, and after a kill.

    A stop merges the write-ahead log of SQLite into one file. Invalid HTTP is answered with 400, without a traceback.
    """
    cases = []
    for turn, number in enumerate((signal.SIGINT, signal.SIGKILL, signal.SIGTERM)):
        async with running("serve", **empty, forked=turn > 0) as service:
            await service.wait_until_ready(f"http://127.0.0.1:{port}")
            for case in cases:
                assert await read_case(session, case) == case | {"timeline": []}
            cases += await asyncio.gather(*(open_case(session) for _ in range(10)))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            assert b" 400 " in await reader.readline()
            writer.close()
            service.stop(number)
            status, out, log = await service.wait_for_exit()
        assert (status, out) == (-number if number == signal.SIGKILL else 0, "")
        lines = parse_log(log)
        assert {line["level"] for line in lines} == {"INFO"}
        assert any(f"http://127.0.0.1:{port}" in line["message"] for line in lines)
        assert ("Traceback" in log, all(line["message"] for line in lines)) == (False, True)
    assert [path.name for path in (tmp_path / "var").glob("support.db*")] == ["support.db"]
    with closing(sqlite3.connect(tmp_path / "var" / "support.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_stop_waits_for_requests_in_flight(variables, session, port, orders):
    """After SIGTERM a slow request gets its complete response, and the exit status is 0."""
    orders.add("ORD-1")
    timeouts = {"SUPPORT_TIMELINE_SOURCE_TIMEOUT": "30"}
    async with running("serve", **variables, **timeouts, SUPPORT_ORDER_URL=orders.url) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        case = await open_case(session, context={"type": "order", "orderId": "ORD-1"})
        release = orders.hang()
        reading = asyncio.create_task(read_detail(session, case))
        await eventually(lambda: orders.waiting == 2)
        service.stop()
        await eventually(lambda: not accepts(port))
        assert not reading.done()
        release.set()
        assert (await reading)["timelineSources"]["order"]["status"] == "fresh"
        assert (await service.wait_for_exit())[0] == 0


async def test_readiness_is_off_during_the_stop_delay(variables, session, port):
    """While the stop waits for the load balancer, the service is not ready but still serves requests."""
    async with running("serve", **variables, SUPPORT_STOP_DELAY="60") as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        service.stop()

        async def stopping():
            async with session.get("/readyz") as response:
                return (response.status, (await response.json())["status"]) == (503, "stopping")

        await eventually(stopping)
        await open_case(session)
        await expect_json(session.get("/livez"))


async def test_very_long_case_id_is_not_found(shared_address):
    async with aiohttp.ClientSession(shared_address) as session:
        await expect_problem(await session.get(f"/support/cases/{'x' * 8_000}"), 404, "case_not_found")


async def test_serve_requires_a_migrated_postgresql(variables, postgres):
    """`serve` does not change the schema but asks for `migrate`, which is then sufficient."""
    name = postgres.create_database()
    url = {"SUPPORT_DATABASE_URL": postgres.url(name)}
    async with running("serve", **variables, **url) as service:
        status, _, errors = await service.wait_for_exit()
    assert status == 2
    assert "support-service migrate" in error_line(errors)
    async with running("migrate", **variables, **url) as migration:
        assert (await migration.wait_for_exit())[0] == 0
    async with running("serve", **variables, **url) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{variables['SUPPORT_PORT']}")
        service.stop()
        assert (await service.wait_for_exit())[0] == 0
    postgres.drop_database(name)


@pytest.mark.parametrize("command", ["serve", "migrate"])
async def test_refusal_of_the_earlier_services_database_comes_with_its_variables(variables, tmp_path, command):
    """Who starts this service with the variables of the earlier one learns their new names, too."""
    with closing(sqlite3.connect(tmp_path / "earlier.db")) as connection:
        connection.execute("CREATE TABLE support_tickets (id VARCHAR(36) PRIMARY KEY)")
    given = {"SUPPORT_DATABASE_URL": f"sqlite:///{tmp_path}/earlier.db", "SERVICE_REDIS_URL": "redis://cache/0"}
    async with running(command, **variables, **given) as service:
        status, _, errors = await service.wait_for_exit()
    assert status == 2
    assert "SERVICE_REDIS_URL is now SUPPORT_REDIS_URL" in errors
    assert "that of the earlier support-service" in errors


async def test_older_release_works_with_a_newer_schema(variables, session, port, newer_schema):
    """After a rollback the service starts with one warning, its commands work, and `migrate` changes nothing."""
    url = {"SUPPORT_DATABASE_URL": newer_schema}
    unchanged = "The database is newer than this release: nothing was changed.\n"
    async with running("migrate", **variables, **url) as migration:
        assert await migration.wait_for_exit() == (0, unchanged, "")
    async with running("serve", **variables, **url) as service:
        await service.wait_until_ready(f"http://127.0.0.1:{port}")
        case = await open_case(session)
        assert await read_case(session, case) == case | {"timeline": []}
        service.stop()
        status, _, log = await service.wait_for_exit()
    assert status == 0
    warnings = [entry["message"] for entry in parse_log(log) if entry["level"] != "INFO"]
    assert warnings == [
        "The database is newer than this release; tables and columns that are unknown to this release are ignored"
    ]
    for command in ("sweep", "export", "timeline status"):
        async with running(*command.split(), **variables, **url) as process:
            status, out, errors = await process.wait_for_exit()
        assert (status, bool(out), errors) == (0, True, "")


def error_line(errors):
    """Return the line with the reason; fail unless the rest is a log in JSON without warnings."""
    *log, line = errors.splitlines()
    assert {json.loads(entry)["level"] for entry in log} <= {"INFO"}
    assert line.startswith("support-service: ")
    return line


@pytest.mark.usefixtures("servers")
async def test_cluster_that_answers_after_the_start_stops_the_service(variables, port, tmp_path):
    """A service that starts before its Redis ends with the sentence that refuses its start."""
    node = RedisServer(tmp_path, cluster_enabled="yes", cluster_port=str(free_port()))
    try:
        async with running("serve", **variables, SUPPORT_REDIS_URL=node.url) as service:
            await service.wait_until_ready(f"http://127.0.0.1:{port}")
            node.start()
            status, _, errors = await service.wait_for_exit()
    finally:
        node.close()
    expected = "support-service: SUPPORT_REDIS_URL: the server at this URL is a node of a Redis Cluster"
    assert (status, errors.splitlines()[-1].startswith(expected)) == (2, True), errors
