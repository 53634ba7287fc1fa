"""One process migrates at a time. The others say whom they wait for; replicas start meanwhile."""

import asyncio
import re
from contextlib import asynccontextmanager

import asyncpg
import pytest

from support_service.core.errors import Unavailable
from support_service.platform.database import MigrationTimings
from support_service.platform.database.dialect import LockNumber
from support_service.platform.database.migrate import BASELINE, downgrade, read_schema_status, upgrade
from support_service.platform.database.postgres.migrate import run_alone
from tests.support.calls import eventually
from tests.support.process import running
from tests.support.servers import free_port

pytestmark = [pytest.mark.parametrize("backend", ["postgresql"], indirect=True), pytest.mark.usefixtures("processes")]

HOLDERS = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
RESTORED = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'support-service restored,%'"
WAITING = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'database_restores'::regclass"
TABLE = "LOCK TABLE messages IN ACCESS SHARE MODE"  # the migration after 0.2.0 waits for it


@asynccontextmanager
async def migrating(database_url, tmp_path):
    """A migration that waits for a table in use; yields its process, its session, and the user of the table."""
    await asyncio.to_thread(downgrade, database_url, BASELINE)
    user = await asyncpg.connect(database_url)
    try:
        async with user.transaction():
            await user.execute(TABLE)
            async with running("migrate", cwd=tmp_path, SUPPORT_DATABASE_URL=database_url) as process:
                yield process, await eventually(lambda: user.fetchval(HOLDERS)), user
    finally:
        await user.close()


async def test_who_waits_names_the_holder_and_a_deadline(database_url, tmp_path):
    """And fails at the deadline, with the statement that ends the holder's session."""
    async with migrating(database_url, tmp_path) as (first, holder, _):
        async with running("migrate", "--wait", "0.5s", cwd=tmp_path, SUPPORT_DATABASE_URL=database_url) as second:
            status, _, errors = await second.wait_for_exit()
        assert status
        announced, failed = errors.strip().splitlines()[-2:]
        named = rf"session {holder} of PostgreSQL \(support-service migrate, .*, process {first.pid}, from 127.0.0.1"
        assert re.search(
            rf"Another process holds the lock of migrations: {named}.*Waiting until \d\d:\d\d:\d\d UTC", announced
        )
        still = rf"{named}.* still holds the lock of migrations after 0.5 s"
        assert re.search(rf"{still}.*pg_terminate_backend\({holder}\)", failed)


async def test_replica_starts_during_a_migration(database_url, tmp_path):
    """It reads the version of the schema without the lock. The schema before is older than it needs."""
    async with migrating(database_url, tmp_path):
        assert await asyncio.to_thread(read_schema_status, database_url) == "older"
    assert await asyncio.to_thread(upgrade, database_url) == "newest"
    holder = await asyncpg.connect(database_url)
    try:
        await holder.fetchval("SELECT pg_advisory_lock($1)", LockNumber.MIGRATION)  # as the release before holds it
        port = free_port()
        variables = {"SUPPORT_DATABASE_URL": database_url, "SUPPORT_PORT": str(port)}
        async with running("serve", cwd=tmp_path, **variables) as process:
            await process.wait_until_ready(f"http://127.0.0.1:{port}")
        timings = MigrationTimings(max_wait=0.3)
        with pytest.raises(Unavailable, match=r"still holds the lock of migrations after 0\.3 s"):
            await asyncio.to_thread(upgrade, database_url, timings=timings)
    finally:
        await holder.close()


async def test_restore_and_migration_wait_for_each_other(database_url, tmp_path):
    """`restored` begins when the other process has ended, and a migration says for whom it waits."""
    variables = {"cwd": tmp_path, "SUPPORT_DATABASE_URL": database_url}
    other = await asyncpg.connect(database_url)
    try:
        await other.fetchval("SELECT pg_advisory_lock($1)", LockNumber.MIGRATION)
        async with running("restored", **variables) as restored:
            await eventually(lambda: other.fetchval(RESTORED))
            assert await other.fetchval("SELECT count(*) FROM database_restores") == 0
            async with other.transaction():
                await other.execute("LOCK TABLE database_restores")
                await other.fetchval("SELECT pg_advisory_unlock($1)", LockNumber.MIGRATION)
                holder = await eventually(lambda: other.fetchval(HOLDERS))
                # In this process, since `restored` waits for the table for two seconds only.
                with pytest.raises(Unavailable, match=rf"session {holder} of PostgreSQL \(support-service restored, "):
                    await asyncio.to_thread(upgrade, database_url, timings=MigrationTimings(max_wait=0.1))
            assert (await restored.wait_for_exit())[0] == 0
        assert await other.fetchval("SELECT count(*) FROM database_restores") == 1
    finally:
        await other.close()


@pytest.mark.long
async def test_restore_waits_for_a_migration_of_the_restored_schema(database_url, tmp_path):
    """The backup may be of an earlier release. `restored` then finds the newest schema. The test above is short."""
    variables = {"cwd": tmp_path, "SUPPORT_DATABASE_URL": database_url}
    async with migrating(database_url, tmp_path) as (migration, _, user), running("restored", **variables) as restored:

        async def waits():
            await user.execute("SELECT pg_stat_clear_snapshot()")  # of the transaction
            return await user.fetchval(RESTORED)

        await eventually(waits)
        await user.execute("ROLLBACK")
        assert (await migration.wait_for_exit())[0] == 0
        assert (await restored.wait_for_exit())[0] == 0
        assert await user.fetchval("SELECT count(*) FROM database_restores") == 1


async def test_migration_ends_if_its_lock_is_lost(database_url, tmp_path):
    """Another process may migrate from then on. A repeat completes it."""
    async with migrating(database_url, tmp_path) as (process, holder, user):
        assert await user.fetchval("SELECT pg_terminate_backend($1)", holder)
        status, _, errors = await process.wait_for_exit()
        assert status
        assert "the session that holds the lock of migrations was ended" in errors
        assert await user.fetchval(HOLDERS) is None
    assert await asyncio.to_thread(upgrade, database_url) == "newest"


@pytest.mark.long
async def test_restore_ends_if_its_lock_is_lost(database_url, tmp_path):
    """Another process may migrate from then on. Nothing is recorded. The test above is the short form."""
    other = await asyncpg.connect(database_url)
    try:
        async with other.transaction():
            await other.execute("LOCK TABLE database_restores")
            async with running("restored", cwd=tmp_path, SUPPORT_DATABASE_URL=database_url) as process:
                await eventually(lambda: other.fetchval(WAITING))
                assert await other.fetchval("SELECT pg_terminate_backend($1)", await other.fetchval(HOLDERS))
                status, _, errors = await process.wait_for_exit()
        assert (status, "was ended; run `restored` again" in errors) == (2, True)
        assert await other.fetchval("SELECT count(*) FROM database_restores") == 0
    finally:
        await other.close()


async def test_server_that_refuses_work_under_the_lock_is_named(database_url):
    """Without the driver's traceback."""

    async def refused(_hosts):
        raise asyncpg.TooManyConnectionsError("sorry, too many clients already")

    with pytest.raises(Unavailable, match="sorry, too many clients"):
        await run_alone(database_url, "restored", refused, MigrationTimings())


@pytest.mark.parametrize("level", ["repeatable read", pytest.param("serializable", marks=pytest.mark.long)])
async def test_isolation_level_of_the_role_does_not_hold_up_an_index(database_url, postgres, level):
    """A transaction of these levels would keep its snapshot, for which CREATE INDEX CONCURRENTLY waits."""
    name = database_url.rpartition("/")[2]
    await asyncio.to_thread(downgrade, database_url, BASELINE)
    postgres.run(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    assert await asyncio.to_thread(upgrade, database_url) == "newest"
