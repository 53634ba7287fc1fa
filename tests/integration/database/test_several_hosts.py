"""A URL with several hosts: the service uses the host that accepts changes, and follows a failover."""

import asyncio
import socket
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from support_service.core.errors import Unavailable
from support_service.platform.database import DatabaseTimings, PostgresTimings
from support_service.platform.database.migrate import read_schema_status, upgrade
from support_service.platform.database.shared import create_database
from tests.support.calls import eventually, expect_json, open_case, read_case
from tests.support.servers import free_port
from tests.support.sessions import MIGRATED, copied_postgres
from tests.support.timings import PATIENT_DATABASE

IS_STANDBY = sa.text("SELECT pg_is_in_recovery() AS standby, inet_server_port() AS port")


@pytest.fixture
def standby(postgres_cluster, primary):
    with copied_postgres(postgres_cluster, primary) as server:
        yield server


def url_of(*servers, options="?target_session_attrs=read-write"):
    hosts = ",".join(urlsplit(each if isinstance(each, str) else each.url()).netloc.split("@")[-1] for each in servers)
    return f"postgresql://tests@{hosts}/{MIGRATED}{options}"


@pytest.fixture
async def opened():
    databases = []

    async def opened(url, timings=PATIENT_DATABASE):
        database = create_database(url, timings=timings)
        databases.append(database)
        await database.open()
        return database

    yield opened
    for database in databases:
        await database.close()


async def test_writes_go_on_after_a_failover(make_client, primary, standby):
    """Nothing that was acknowledged is lost, and no restart is needed."""
    client = await make_client(SUPPORT_DATABASE_URL=url_of(primary, standby))
    case = await open_case(client)
    await eventually(lambda: standby.run("SELECT count(*) FROM tickets", MIGRATED) == "1")
    primary.stop()
    standby.run("SELECT pg_promote()")

    async def reopened():
        async with client.post("/support/cases", json={"subject": "A", "channel": "email"}) as response:
            return response.status == 201 and await response.json()

    later = await eventually(reopened)
    assert await read_case(client, later)
    assert (await read_case(client, case))["id"] == case["id"]
    await expect_json(client.get("/readyz"))


async def test_host_that_accepts_changes_is_found_in_any_order(opened, primary, standby):
    """Also by migrations. One that does not answer costs its time only.

    One standby that should be the primary is named at the start, with the reason of the driver.
    """
    url = url_of(standby, primary)
    database = await opened(url)
    row = await database.fetch_now(IS_STANDBY)
    assert (row.standby, row.port) == (False, urlsplit(primary.url()).port)
    await database.ping()
    assert await asyncio.to_thread(upgrade, url) == await asyncio.to_thread(read_schema_status, url) == "newest"
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        timings = DatabaseTimings(postgres=PostgresTimings(connect_timeout=5.0))
        database = await opened(url_of(f"//127.0.0.1:{silent.getsockname()[1]}", primary), timings)
        assert not (await database.fetch_now(IS_STANDBY)).standby
    with pytest.raises(Unavailable, match="read-write") as refusal:
        await opened(url_of(standby))
    assert refusal.value.code == "database_without_primary"


async def test_former_primary_is_left(opened, primary, standby):
    """Also by the reads, which would miss what is written to the new primary.

    Its connections stay open: it does not end, but accepts no changes any more.
    """
    database = await opened(url_of(primary, standby))
    assert not (await database.fetch_now(IS_STANDBY)).standby
    standby.run("SELECT pg_promote()")
    primary.run(f"ALTER DATABASE {MIGRATED} SET default_transaction_read_only = on")
    primary.run("ALTER SYSTEM SET default_transaction_read_only = on")
    primary.run("SELECT pg_reload_conf()")

    async def is_refused():
        try:
            await database.ping()
        except Unavailable as refusal:
            return refusal.code == "database_read_only"

    await eventually(is_refused)
    assert (await database.fetch_now(IS_STANDBY)).port == urlsplit(standby.url()).port
    await database.ping()


async def test_only_standbys_answer(make_client, primary, standby):
    """As `database_without_primary` with `Retry-After`, with one host or several; a promoted standby serves."""
    clients = [
        await make_client(SUPPORT_DATABASE_URL=url_of(primary, standby, options="")),
        await make_client(SUPPORT_DATABASE_URL=url_of(standby, primary)),
    ]
    primary.stop()
    new_case = {"subject": "A", "channel": "email"}

    async def is_refused(client):
        async with client.post("/support/cases", json=new_case) as response:
            body = await response.json()
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
        async with client.get("/readyz") as response:
            ready = await response.json()
            assert response.status == 503
        return body["code"] == ready["database"] == "database_without_primary"

    for client in clients:
        await eventually(lambda client=client: is_refused(client))
    standby.run("SELECT pg_promote()")

    async def is_served(client):
        async with client.post("/support/cases", json=new_case) as response:
            return response.status == 201

    for client in clients:
        await eventually(lambda client=client: is_served(client))


def test_error_names_all_hosts_without_credentials():
    """Of a database that no host serves."""
    first, second = free_port(), free_port()
    url = f"postgresql://u:secret@127.0.0.1:{first},127.0.0.1:{second}/support?password=secret"
    with pytest.raises(Unavailable) as refusal:
        read_schema_status(url)
    assert f"127.0.0.1:{first}, 127.0.0.1:{second} (SUPPORT_DATABASE_URL)" in str(refusal.value)
    assert "secret" not in str(refusal.value)
