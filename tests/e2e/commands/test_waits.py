"""`support-service database waits` as a process."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from tests.conftest import both_databases
from tests.support.calls import eventually
from tests.support.process import running

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
def waits(tmp_path, database_url):
    """Run the command; return its output, which has no errors."""

    async def run():
        async with running("database", "waits", cwd=tmp_path, SUPPORT_DATABASE_URL=database_url) as process:
            status, out, errors = await process.wait_for_exit()
        assert (status, errors) == (0, "")
        return out

    return run


@both_databases
async def test_output_without_waits(waits, backend, database_url):
    """PostgreSQL without waits is one line; SQLite says what to do instead."""
    out = await waits()
    if backend == "postgresql":
        assert out == "No session waits for a lock.\n"
    else:
        assert f"fuser -v {database_url.removeprefix('sqlite:///')}" in out


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_session_that_blocks_others(waits, database_url, postgres):
    """The session that holds the lock is the one to end, although the first that waits blocks the second as well."""

    async def connect(name):
        return await asyncpg.connect(database_url, server_settings={"application_name": name})

    holder, first, second = [await connect(name) for name in ("nightly-report", "first", "second")]
    await holder.execute("BEGIN; LOCK TABLE tickets IN ACCESS SHARE MODE")
    blocked = [asyncio.create_task(first.execute("BEGIN; LOCK TABLE  tickets\n IN ACCESS EXCLUSIVE MODE"))]
    await eventually(lambda: _waiting(postgres, 1))
    blocked.append(asyncio.create_task(second.fetch("SELECT id FROM tickets")))
    await eventually(lambda: _waiting(postgres, 2))

    out = await waits()
    lines = out.splitlines()
    pid = holder.get_server_pid()
    (holding,) = [line for line in lines if line.startswith(str(pid))]
    assert holding.split()[:3] == [str(pid), "2", "nightly-report"]
    assert "idle in transaction" in holding
    assert "LOCK TABLE tickets IN ACCESS SHARE MODE" in holding
    waiting = {line.split()[0]: line for line in lines[lines.index("Sessions that wait:") + 2 :] if line}
    line = waiting[str(first.get_server_pid())]
    assert line.split()[1] == str(pid)
    assert "AccessExclusiveLock on tickets" in line
    assert "LOCK TABLE tickets IN ACCESS EXCLUSIVE MODE" in line
    assert str(first.get_server_pid()) in waiting[str(second.get_server_pid())].split()[1:3]
    assert f"SELECT pg_terminate_backend({pid});" in out
    assert out.count("pg_terminate_backend(") == 1

    for each in (second, first, holder):
        postgres.run(f"SELECT pg_terminate_backend({each.get_server_pid()})")
    await asyncio.gather(*blocked, return_exceptions=True)
    assert await waits() == "No session waits for a lock.\n"


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_session_of_another_user(tmp_path, database_url, postgres):
    """The service's role sees who holds the lock, but not what a superuser's session does."""
    role = f"r{uuid4().hex}"
    postgres.run(f"CREATE ROLE {role} LOGIN IN ROLE pg_read_all_data, pg_write_all_data")
    url = database_url.replace("//tests@", f"//{role}@")
    holder, waiting = await asyncpg.connect(database_url), await asyncpg.connect(url)
    await holder.execute("BEGIN; LOCK TABLE tickets IN ACCESS EXCLUSIVE MODE")
    blocked = asyncio.create_task(waiting.fetch("SELECT id FROM tickets"))
    await eventually(lambda: _waiting(postgres, 1))
    async with running("database", "waits", cwd=tmp_path, SUPPORT_DATABASE_URL=url) as process:
        _, out, _ = await process.wait_for_exit()
    (holding,) = [line for line in out.splitlines() if line.startswith(str(holder.get_server_pid()))]
    assert holding.split()[3:5] == ["tests", "hidden"]
    await holder.close()
    await blocked
    await waiting.close()
    postgres.run(f"DROP ROLE {role}")


def _waiting(postgres, number):
    return postgres.run("SELECT count(*) FROM pg_locks WHERE NOT granted") == str(number)
