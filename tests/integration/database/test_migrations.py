"""Each migration goes up, down and up again, and leaves what tables.py says."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from support_service.core.errors import SupportError, Unavailable
from support_service.platform.database import MigrationTimings, migrate
from support_service.platform.database.postgres.migrate import run_locked
from support_service.platform.database.shared import create_database
from support_service.platform.database.tables import metadata
from tests.conftest import both_databases
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.sessions import in_thread, inspect

pytestmark = pytest.mark.usefixtures("servers")  # any test may be the last of the module, which stops its database

SCRIPTS = ScriptDirectory(str(migrate.MIGRATIONS))
SEARCH = "ticket_search"  # SQLite's search index and its shadow tables, which no table here describes
NAMES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite%'",
    "postgresql": """
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    """,
}
# Indexes of a form that each database has of its own.
UNDESCRIBED = (
    "ix_search_documents_words",
    "ix_tickets_latest_change_seq",
    "ix_tickets_assigned_agent_id_latest_change_seq",
)
REPEATING = MigrationTimings(lock_timeout=0.05, retry_pause=0.01, attempts=1_000_000)
EARLIER_SERVICE = "CREATE TABLE support_tickets (id VARCHAR(36) PRIMARY KEY)"
AT = "2026-05-12 08:30:00"
ADD_CASE = f"""
INSERT INTO tickets (id, subject, status, priority, channel, context, tags, search_text, created_at, updated_at)
VALUES ('{{}}', '', 'open', 'low', 'email', '[]', '[]', '', '{AT}', '{AT}')
"""
ADD_MESSAGE = f"""
INSERT INTO messages (id, ticket_id, author_type, message, has_document, created_at)
VALUES ('message-1', 'case-1', 'agent', 'hello', true, '{AT}')
"""
ADD_DELIVERY = f"""
INSERT INTO webhook_deliveries (endpoint, type, event, state, tries, since, due)
VALUES ('all', '{{}}', '{{{{}}}}', 'failed', 1, '{AT}', '{AT}')
"""
# A statement that lets nobody write to a table until the index is built.
BLOCKING_INDEX = re.compile(r"\s*CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY).*? ON \"?(\w+)", re.DOTALL | re.IGNORECASE)


@contextmanager
def new_database(request, database, folder):
    """The address of a database without a table."""
    if database == "sqlite":
        yield f"sqlite:///{folder}/new folder/empty.db"
        return
    server = request.getfixturevalue("postgres_server")
    server.start()
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    with new_database(request, request.param, tmp_path) as url:
        yield url


def change(url, *statements):
    def run(connection):
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()

    inspect(url, run)


def rows(url, query):
    return {tuple(each) for each in inspect(url, lambda reader: reader.exec_driver_sql(query).all())}


def tables(url):
    return set(inspect(url, lambda connection: sa.inspect(connection).get_table_names()))


def schema(url):
    """Return the names of all tables, indexes, triggers and functions, and the columns of every table.

    The columns tell whether an insert may leave each out.
    """

    def look(connection):
        inspector = sa.inspect(connection)
        columns = {
            table: {each["name"]: each["nullable"] or each["default"] is not None for each in columns}
            for (_, table), columns in inspector.get_multi_columns().items()
            if not table.startswith(SEARCH)  # written by triggers only
        }
        return set(connection.exec_driver_sql(NAMES[connection.dialect.name]).scalars()), columns

    return inspect(url, look)


def expect_only_additions(before, after):
    """Fail unless an older release can work on the columns: nothing is dropped, and new ones may be left out."""
    assert before.keys() <= after.keys()
    for table, known in before.items():
        assert known.items() <= after[table].items(), table
        added = after[table].keys() - known.keys()
        assert all(after[table][name] for name in added), f"an older release can't write to {table}"


@contextmanager
def recorded_statements():
    """The statements that SQLAlchemy runs in a block."""
    statements = []

    def record(_connection, _cursor, statement, *_):
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    yield statements
    sa.event.remove(sa.Engine, "before_cursor_execute", record)


def test_each_migration_only_adds_and_can_be_reverted_and_applied_again(empty_url):
    """What it adds is gone when it is reverted, and no case or message.

    On PostgreSQL it builds an index of a table that exists while others write.
    """
    in_thread(migrate.upgrade, empty_url, migrate.BASELINE)
    change(empty_url, ADD_CASE.format("case-1"), ADD_MESSAGE)
    scripts = list(reversed(list(SCRIPTS.iterate_revisions("head", migrate.BASELINE))))
    states = [schema(empty_url)]
    for script in scripts:
        with recorded_statements() as statements:
            in_thread(migrate.upgrade, empty_url, script.revision)
        states.append(schema(empty_url))
        expect_only_additions(states[-2][1], states[-1][1])
        if empty_url.startswith("postgresql:"):
            blocked = [each[1] for each in map(BLOCKING_INDEX.match, statements) if each and each[1] in states[-2][1]]
            assert not blocked, f"{Path(script.path).name} keeps writers of {blocked} waiting: use CONCURRENTLY"
    for script, state in zip(scripts[::-1], states[-2::-1], strict=True):
        in_thread(migrate.downgrade, empty_url, script.down_revision)
        assert schema(empty_url) == state, script.revision
        assert in_thread(migrate.read_schema_status, empty_url) == "older"
    assert rows(empty_url, "SELECT ticket_id FROM messages JOIN tickets ON tickets.id = ticket_id") == {("case-1",)}
    in_thread(migrate.upgrade, empty_url)
    assert schema(empty_url) == states[-1]
    assert tables(empty_url) >= set(metadata.tables)
    assert in_thread(migrate.read_schema_status, empty_url) == "newest"


def test_newest_revision_is_read_from_file_names():
    """Without importing Alembic."""
    assert SCRIPTS.get_bases() == [migrate.BASELINE]
    assert [migrate.latest_revision()] == SCRIPTS.get_heads()
    for migration in SCRIPTS.walk_revisions():
        assert Path(migration.path).name.startswith(f"{migration.revision}_")


@both_databases
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_migrations_create_the_schema_of_tables_py(database_url):
    """Including every index."""

    def described(_thing, name, kind, *_):
        return not (name or "").startswith(SEARCH) and (kind != "index" or name not in UNDESCRIBED)

    def differences(connection):
        options = {"include_object": described, "compare_type": True, "compare_server_default": False}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    assert inspect(database_url, differences) == []


@pytest.fixture
async def busy(postgres):
    """The address of a database of 0.2.0 with two cases in it, and two connections of somebody who uses it."""
    name = postgres.create_database()
    url = postgres.url(name)
    await asyncio.to_thread(migrate.upgrade, url, migrate.BASELINE)
    await asyncio.to_thread(change, url, *(ADD_CASE.format(f"case-{number}") for number in (1, 2)))
    users = [await asyncpg.connect(url) for _ in range(2)]
    yield url, *users
    for user in users:
        await user.close()
    postgres.drop_database(name)


def migrating(url, timings, *statements, commits_each=False):
    """Run statements as a migration does: in one transaction, or each in one of its own."""

    def run(connection):
        if commits_each:
            connection.execution_options(isolation_level="AUTOCOMMIT")
        with connection.begin():
            for statement in statements:
                connection.exec_driver_sql(statement)

    return asyncio.create_task(asyncio.to_thread(run_locked, url, run, timings))


@pytest.mark.parametrize("commits_each", [False, True])
async def test_migration_waits_for_a_table_in_use(busy, commits_each):
    """It gives up its lock request between attempts, so that other sessions are not blocked.

    If the table stays in use, it reports this.
    """
    url, holder, user = busy
    add = "ALTER TABLE tickets ADD COLUMN added TEXT"
    async with holder.transaction():
        await holder.fetchval("SELECT count(*) FROM tickets")
        once = MigrationTimings(lock_timeout=0.05, retry_pause=0.01, attempts=3)
        with pytest.raises(sa.exc.DBAPIError, match="lock timeout"):
            await migrating(url, once, add, commits_each=commits_each)
        timings = MigrationTimings(lock_timeout=0.2, retry_pause=0.01, attempts=10_000)
        migration = migrating(url, timings, add, commits_each=commits_each)
        waiting = "SELECT 1 FROM pg_locks WHERE relation = 'tickets'::regclass AND mode = $1 AND NOT granted"
        await eventually(lambda: user.fetchval(waiting, "AccessExclusiveLock"))
        async with asyncio.timeout(GENEROUS_TIMEOUT):
            assert await user.fetchval("SELECT count(*) FROM tickets") == 2
        assert not migration.done()
    await migration
    assert await user.fetchval("SELECT count(added) FROM tickets") == 0


WAITED_FOR = """
SELECT DISTINCT c.relname
FROM pg_locks AS waiting JOIN pg_locks AS lock ON lock.pid = waiting.pid JOIN pg_class AS c ON c.oid = lock.relation
WHERE NOT waiting.granted AND waiting.locktype IN ('relation', 'virtualxid') AND c.relkind = 'r'
    AND lock.relation = coalesce(waiting.relation, lock.relation) AND c.relname = ANY($1)
"""


@pytest.mark.long
@pytest.mark.parametrize("mode", ["ACCESS SHARE", "ROW EXCLUSIVE"])
async def test_no_session_waits_behind_a_migration_that_waits_for_a_table(busy, mode):
    """A dump reads each table, or a writer changes each, during each migration of a release.

    The migration waits for one table after the other. Meanwhile all tables can be read and written. The short form is
    `test_migration_waits_for_a_table_in_use`.
    """
    url, *holders = busy
    waited_for = set()
    async with connected(url, lock_timeout=f"{GENEROUS_TIMEOUT}s") as user:
        for script in reversed(list(SCRIPTS.iterate_revisions("head", migrate.BASELINE))):
            held = await asyncio.to_thread(tables, url) - {"alembic_version"}
            await lock(holders[0], held, mode)
            migration = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url, script.revision, REPEATING))

            async def waits_or_ends(migration=migration, held=held):
                return await user.fetch(WAITED_FOR, list(held)) or migration.done()

            while (found := await eventually(waits_or_ends)) is not True:
                async with user.transaction():
                    await user.execute(f"LOCK TABLE {', '.join(sorted(held))} IN {mode} MODE")
                names = {row["relname"] for row in found}
                waited_for |= {(script.revision, name) for name in names}
                held -= names
                await lock(holders[1], held, mode)
                await holders[0].execute("ROLLBACK")
                holders.reverse()
            await migration
            await holders[0].execute("ROLLBACK")
    assert waited_for >= {("0061", "messages")}


async def test_filled_rows_can_be_changed_while_a_migration_waits_for_another_row(busy):
    """A migration that fills in many rows gives up the locks of these rows while it waits."""
    url, holder, _ = busy
    fill = [f"UPDATE tickets SET subject = 'filled' WHERE id = 'case-{number}'" for number in (1, 2)]
    async with connected(url, lock_timeout=f"{GENEROUS_TIMEOUT}s") as user:
        async with holder.transaction():
            await holder.fetchval("SELECT 1 FROM tickets WHERE id = 'case-2' FOR UPDATE")
            migration = migrating(url, REPEATING, *fill, commits_each=True)
            waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
            await eventually(lambda: user.fetchval(waiting))
            await user.execute("UPDATE tickets SET subject = 'changed' WHERE id = 'case-1'")
            assert not migration.done()
        await migration
    found = await asyncio.to_thread(rows, url, "SELECT id, subject FROM tickets")
    assert found == {("case-1", "changed"), ("case-2", "filled")}


@asynccontextmanager
async def connected(url, **settings):
    connection = await asyncpg.connect(url, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def lock(holder, names, mode):
    await holder.execute(f"BEGIN; LOCK TABLE {', '.join(sorted(names))} IN {mode} MODE")


def test_interrupted_migrations_can_be_repeated(postgres):
    """Migrations that commit on their way: in their first step, which left an unusable index, and in their last one."""
    name = postgres.create_database()
    url = postgres.url(name)
    in_thread(migrate.upgrade, url, migrate.BASELINE)
    index = "ix_messages_ticket_id_external_id_visibility"
    unusable = f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass"
    change(url, f"CREATE INDEX {index} ON messages (id)", unusable)
    for migration in reversed(list(SCRIPTS.iterate_revisions("head", migrate.BASELINE))):
        in_thread(migrate.upgrade, url, migration.revision)
        if "autocommit_block" in Path(migration.path).read_text():
            done = schema(url)
            change(url, f"UPDATE alembic_version SET version_num = '{migration.down_revision}'")
            in_thread(migrate.upgrade, url, migration.revision)
            assert schema(url) == done
    ((definition,),) = rows(url, f"SELECT indexdef FROM pg_indexes WHERE indexname = '{index}'")
    assert ("UNIQUE" in definition, "(ticket_id, external_id, visibility) WHERE" in definition) == (True, True)
    postgres.drop_database(name)


BETWEEN = "a version between 0.1.0 and 0.2.0"
EARLIER_REVISIONS = {"0001": "release 0.1.0", "0011": "release 0.1.0", "0012": BETWEEN, "0059": BETWEEN}


@both_databases
def test_database_of_another_version_is_unchanged(database_url, subtests):
    """One of a newer release is used. One line says what to do with one of an earlier release."""

    def read_revisions():
        return {revision for (revision,) in rows(database_url, "SELECT * FROM alembic_version")}

    assert in_thread(migrate.upgrade, database_url) == in_thread(migrate.read_schema_status, database_url) == "newest"
    change(database_url, EARLIER_SERVICE)  # of another program, which stops no start beside the tables of the service
    assert in_thread(migrate.upgrade, database_url) == "newest"
    change(database_url, "UPDATE alembic_version SET version_num = '9999'")
    assert in_thread(migrate.upgrade, database_url) == in_thread(migrate.read_schema_status, database_url) == "newer"
    assert read_revisions() == {"9999"}
    for revision, release in EARLIER_REVISIONS.items():
        change(database_url, f"UPDATE alembic_version SET version_num = '{revision}'")
        reason = rf"is of {release} \(revision {revision}\).*: run `support-service migrate` of 0\.2\.0, then of this"
        for call in (migrate.read_schema_status, migrate.upgrade):
            with subtests.test(revision), pytest.raises(SupportError, match=reason) as refusal:
                in_thread(call, database_url)
            assert (refusal.value.code, "\n" in str(refusal.value)) == ("database_of_earlier_release", False)
        assert read_revisions() == {revision}
    change(database_url, "UPDATE alembic_version SET version_num = 'cafe0123'")  # no release could have created it
    assert in_thread(migrate.read_schema_status, database_url) == "older"
    with pytest.raises(Unavailable):
        in_thread(migrate.upgrade, database_url)
    change(database_url, "INSERT INTO alembic_version VALUES ('0001')")
    for call in (migrate.read_schema_status, migrate.upgrade):
        with pytest.raises(Unavailable, match="alembic_version"):
            in_thread(call, database_url)


UNFINISHED = {
    "messages without search documents": (
        "UPDATE messages SET has_document = false",
        "UPDATE messages SET has_document = true",
    ),
    "an interrupted `reports rebuild`": (
        f"UPDATE report_state SET rebuilding_from = '{AT}'",
        "UPDATE report_state SET rebuilding_from = NULL",
    ),
    "events without a case": (
        ADD_DELIVERY.format("support.case.updated.v1"),
        "UPDATE webhook_deliveries SET type = 'support.database.restored.v1'",
    ),
}


@both_databases
@pytest.mark.parametrize("left", UNFINISHED)
def test_a_database_whose_upgrade_to_0_2_0_is_unfinished_is_refused(database_url, left):
    """A start and `migrate` name what only 0.2.0 does, until 0.2.0 has done it. `migrate` changes nothing before."""
    unfinished, finished = UNFINISHED[left]
    change(database_url, ADD_CASE.format("case-1"), ADD_MESSAGE, unfinished)
    for revision in (migrate.latest_revision(), migrate.BASELINE):
        change(database_url, f"UPDATE alembic_version SET version_num = '{revision}'")
        for call in (migrate.read_schema_status, migrate.upgrade):
            with pytest.raises(SupportError, match=f"has {left}, and was not changed") as refusal:
                in_thread(call, database_url)
            assert refusal.value.code == "database_of_earlier_release"
        assert rows(database_url, "SELECT * FROM alembic_version") == {(revision,)}
    change(database_url, f"UPDATE alembic_version SET version_num = '{migrate.latest_revision()}'")
    change(database_url, finished)
    assert in_thread(migrate.read_schema_status, database_url) == in_thread(migrate.upgrade, database_url) == "newest"


def test_the_database_of_the_earlier_service_is_refused_unchanged(empty_url):
    """Whatever revision it claims, one line says why and what to do, and nothing is added, not even WAL mode."""
    if is_file := empty_url.startswith("sqlite:"):
        Path(empty_url.removeprefix("sqlite:///")).parent.mkdir()
    change(empty_url, EARLIER_SERVICE)
    for revision in (None, "7c1f2ab90d3e", "0011", "9999"):
        if revision:
            change(empty_url, "DROP TABLE IF EXISTS alembic_version")
            change(empty_url, "CREATE TABLE alembic_version (version_num VARCHAR(32))")
            change(empty_url, f"INSERT INTO alembic_version VALUES ('{revision}')")
        before = tables(empty_url)
        for call in (migrate.upgrade, migrate.read_schema_status):
            with pytest.raises(SupportError, match="earlier support-service") as refusal:
                in_thread(call, empty_url)
            assert (refusal.value.code, "\n" in str(refusal.value)) == ("database_of_earlier_service", False)
        assert tables(empty_url) == before
        assert not is_file or rows(empty_url, "PRAGMA journal_mode") == {("delete",)}


def test_earlier_service_may_use_another_schema_of_the_database(postgres):
    """On PostgreSQL, with a search path per role."""
    name, role = postgres.create_database(), f"r{uuid4().hex}"
    url = postgres.url(name)
    change(
        url,
        EARLIER_SERVICE,
        f"CREATE ROLE {role} LOGIN SUPERUSER",
        f"CREATE SCHEMA support AUTHORIZATION {role}",
        f"ALTER ROLE {role} IN DATABASE {name} SET search_path = support",
    )
    own = sa.make_url(url).set(username=role).render_as_string(hide_password=False)
    assert in_thread(migrate.upgrade, own) == "newest"
    assert tables(url) == {"support_tickets"}
    postgres.drop_database(name)
    postgres.run(f"DROP ROLE {role}")


def test_concurrent_upgrades_run_one_after_another(empty_url):
    """None of the processes fails."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrate.upgrade, [empty_url] * 4))
    assert in_thread(migrate.read_schema_status, empty_url) == "newest"


async def test_unreachable_database_is_reported():
    """By the migration and by the service."""
    postgres = (f"postgresql://nobody@{host}:1/nothing" for host in ("127.0.0.1", "[::1]"))
    for url in ("sqlite:////proc/nowhere/a.db", *postgres):
        with pytest.raises(Unavailable):
            await asyncio.to_thread(migrate.upgrade, url)
        database = create_database(url)
        with pytest.raises(Unavailable):
            await database.open()
        await database.close()
