"""`support-service database waits` as a process."""

import asyncio
from functools import partial
from uuid import uuid4

import asyncpg
import pytest

from tests.conftest import both_databases
from tests.support.calls import eventually
from tests.support.process import running

pytestmark = pytest.mark.usefixtures("processes")


async def run_waits(folder, url):
    async with running("database", "waits", cwd=folder, SUPPORT_DATABASE_URL=url) as process:
        status, out, errors = await process.wait_for_exit()
    assert (status, errors) == (0, "")
    return out


@pytest.fixture
def waits(tmp_path, database_url):
    return partial(run_waits, tmp_path, database_url)


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
    """The session that holds the lock is to be ended, although the first waiting session blocks the second as well."""

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
    assert all(text in holding for text in ("idle in transaction", "LOCK TABLE tickets IN ACCESS SHARE MODE"))
    waiting = {line.split()[0]: line for line in lines[lines.index("Sessions that wait:") + 2 :] if line}
    line = waiting[str(first.get_server_pid())]
    assert line.split()[1] == str(pid)
    assert all(text in line for text in ("AccessExclusiveLock on tickets", "TABLE tickets IN ACCESS EXCLUSIVE MODE"))
    assert str(first.get_server_pid()) in waiting[str(second.get_server_pid())].split()[1:3]
    assert f"SELECT pg_terminate_backend({pid});" in out
    assert out.count("pg_terminate_backend(") == 1

    _end(postgres, second, first, holder)
    await asyncio.gather(*blocked, return_exceptions=True)
    await eventually(lambda: _waiting(postgres, 0))
    assert await waits() == "No session waits for a lock.\n"


@pytest.fixture
async def restricted(tmp_path, database_url, postgres):
    """A role that may use the tables but not see the sessions of others: its URL, and the command as this role."""
    role = f"r{uuid4().hex}"
    postgres.run(f"CREATE ROLE {role} LOGIN IN ROLE pg_read_all_data, pg_write_all_data")
    url = database_url.replace("//tests@", f"//{role}@")

    yield role, url, partial(run_waits, tmp_path, url)
    postgres.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
    postgres.run(f"DROP ROLE {role}")


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_chain_of_another_users_sessions(restricted, database_url, postgres):
    """Only the session that waits for none is proposed, although the service's role sees no state of the others."""
    role, url, run = restricted
    holder, between = [await asyncpg.connect(database_url) for _ in range(2)]
    last = await asyncpg.connect(url)
    await holder.execute("BEGIN; LOCK TABLE tickets IN ACCESS SHARE MODE")
    blocked = [asyncio.create_task(between.execute("BEGIN; LOCK TABLE tickets IN ACCESS EXCLUSIVE MODE"))]
    await eventually(lambda: _waiting(postgres, 1))
    blocked.append(asyncio.create_task(last.fetch("SELECT id FROM tickets")))
    await eventually(lambda: _waiting(postgres, 2))
    out = await run()
    pid = holder.get_server_pid()
    holding, waiting = (part.splitlines() for part in out.split("Sessions that wait:"))
    (line,) = [each for each in holding if each[:1].isdigit()]
    assert line.split() == [str(pid), "2", "-", "tests", "hidden", "hidden", "hidden"]
    pids = {each.split()[0]: each.split()[1] for each in waiting if each[:1].isdigit()}
    assert pids[str(between.get_server_pid())] == str(pid)
    assert pids.keys() == {str(each.get_server_pid()) for each in (between, last)}
    assert f"as tests or a superuser: SELECT pg_terminate_backend({pid});" in out
    assert out.count("pg_terminate_backend(") == 1
    assert f"GRANT pg_read_all_stats TO {role};" in out
    _end(postgres, last, between, holder)
    await asyncio.gather(*blocked, return_exceptions=True)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_session_of_the_same_role(restricted, postgres):
    """The role sees all of its own sessions."""
    role, url, run = restricted
    holder, waiting = [await asyncpg.connect(url) for _ in range(2)]
    await holder.execute("BEGIN; LOCK TABLE tickets IN ROW EXCLUSIVE MODE")
    blocked = asyncio.create_task(waiting.execute("BEGIN; LOCK TABLE tickets IN SHARE MODE"))
    await eventually(lambda: _waiting(postgres, 1))
    out = await run()
    (line,) = [each for each in out.splitlines() if each.startswith(f"{holder.get_server_pid()} ") and role in each]
    assert "idle in transaction" in line
    assert "LOCK TABLE tickets IN ROW EXCLUSIVE MODE" in line
    assert "hidden" not in out
    _end(postgres, holder)
    await blocked
    await waiting.close()


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_prepared_transaction(restricted, database_url, postgres):
    """A prepared transaction has no session: it is named, and no session is proposed to be ended."""
    _, url, run = restricted
    preparing, waiting = await asyncpg.connect(database_url), await asyncpg.connect(url)
    identifier = f"order's {uuid4().hex}"
    await preparing.execute("BEGIN; LOCK TABLE tickets IN ROW EXCLUSIVE MODE; SELECT txid_current()")
    await preparing.execute(f"PREPARE TRANSACTION '{identifier.replace(chr(39), chr(39) * 2)}'")
    blocked = asyncio.create_task(waiting.execute("BEGIN; LOCK TABLE tickets IN SHARE MODE; ROLLBACK"))
    await eventually(lambda: _waiting(postgres, 1))
    out = await run()
    (line,) = [each for each in out.splitlines() if "prepared transaction " in each and identifier in each]
    assert line.split()[:4] == ["-", "1", "-", "tests"]
    rollback = f"ROLLBACK PREPARED '{identifier.replace(chr(39), chr(39) * 2)}'"
    assert f"{rollback};" in out
    assert "pg_terminate_backend(" not in out
    await preparing.execute(rollback)
    await blocked
    await asyncio.gather(preparing.close(), waiting.close())


def _end(postgres, *sessions):
    """End sessions, of which some wait for a lock."""
    for session in sessions:
        postgres.run(f"SELECT pg_terminate_backend({session.get_server_pid()})")
        session.terminate()


def _waiting(postgres, number):
    return postgres.run("SELECT count(*) FROM pg_locks WHERE NOT granted") == str(number)
