"""Each migration goes up, down and up again, and leaves what tables.py says."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from support_service.cases.listing import case_list
from support_service.cases.model.requests import CaseQuery
from support_service.core.domain.principals import SYSTEM
from support_service.core.errors import Unavailable
from support_service.platform.database import MigrationTimings, migrate
from support_service.platform.database.opening import create_database
from support_service.platform.database.tables import metadata
from tests.conftest import both_databases
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.sessions import in_thread, inspect
from tests.support.timings import PATIENT_DATABASE

UPGRADES = Path(__file__).parents[3] / "docs" / "operations" / "upgrades.md"
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
UNDESCRIBED = tuple(
    ("index", name)
    for name in (
        "ix_search_documents_words",
        "ix_tickets_latest_change_seq",
        "ix_tickets_assigned_agent_id_latest_change_seq",
    )
)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request, tmp_path):
    """The address of a database without a table."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/new folder/empty.db"
        return
    server = request.getfixturevalue("postgres")
    name = server.create_database()
    yield server.url(name)
    server.drop_database(name)


def change(url, statements):
    """Run statements, and keep what they did."""

    def run(connection):
        for statement in statements:
            connection.exec_driver_sql(statement)
        connection.commit()

    inspect(url, run)


def inserting(table, **values):
    """The statement that adds a row."""
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(map(repr, values.values()))})"


def tables(url):
    """The names of every table."""
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


def revision(url):
    """The revision that the database says it has."""
    return inspect(url, lambda connection: connection.exec_driver_sql("SELECT * FROM alembic_version").scalar_one())


def described(thing, name, kind, *_):
    """Whether a thing in the database is one that tables.py describes."""
    return not (name or "").startswith(SEARCH) and (kind, name) not in UNDESCRIBED


def expect_only_additions(before, after):
    """Fail unless an older release can work on the columns: nothing is dropped, and new ones may be left out."""
    assert before.keys() <= after.keys()
    for table, known in before.items():
        assert known.items() <= after[table].items(), table
        added = after[table].keys() - known.keys()
        assert all(after[table][name] for name in added), f"an older release can't write to {table}"


def test_each_migration_only_adds_and_can_be_reverted_and_applied_again(empty_url):
    """What it adds is gone when it is reverted."""
    scripts = list(reversed(list(SCRIPTS.walk_revisions())))
    states = [(set(), {})]
    for script in scripts:
        in_thread(migrate.upgrade, empty_url, script.revision)
        states.append(schema(empty_url))
        expect_only_additions(states[-2][1], states[-1][1])
    for script, state in zip(scripts[:0:-1], states[-2:0:-1], strict=True):
        in_thread(migrate.downgrade, empty_url, script.down_revision)
        assert schema(empty_url) == state, script.revision
    in_thread(migrate.downgrade, empty_url, "base")
    assert tables(empty_url) == {"alembic_version"}
    assert in_thread(migrate.read_schema_status, empty_url) == "older"
    in_thread(migrate.upgrade, empty_url)
    assert schema(empty_url) == states[-1]
    assert tables(empty_url) >= set(metadata.tables)
    assert in_thread(migrate.read_schema_status, empty_url) == "newest"


def test_newest_revision_is_read_from_file_names():
    """Without importing Alembic."""
    script = ScriptDirectory(str(migrate.MIGRATIONS))
    assert [migrate.latest_revision()] == script.get_heads()
    for migration in script.walk_revisions():
        assert Path(migration.path).name.startswith(f"{migration.revision}_")


@both_databases
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_migrations_create_the_schema_of_tables_py(database_url):
    """Including every index."""

    def differences(connection):
        options = {"include_object": described, "compare_type": True, "compare_server_default": False}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    assert inspect(database_url, differences) == []


def test_files_named_only_by_notes_become_internal(empty_url):
    """Customers did not see them before files had a visibility of their own."""
    in_thread(migrate.upgrade, empty_url, "0007")
    at = {"created_at": "2026-05-12 08:30:00"}
    of_case = {"subject": "", "status": "open", "priority": "low", "channel": "email", "context": "[]", "tags": "[]"}
    rows = [inserting("tickets", id="case", search_text="", updated_at=at["created_at"], **of_case, **at)]
    file = {"ticket_id": "case", "filename": "", "content_type": "", "size_bytes": 1, "sha256": "", "storage": "local"}
    rows += [
        inserting("attachments", id=name, storage_key=name, **file, **at)
        for name in ("noted", "both", "said", "unnamed")
    ]
    said = {"ticket_id": "case", "author_type": "agent", "message": ""}
    named = [("noted", "internal"), ("both", "internal"), ("both", "public"), ("said", "public")]
    rows += [
        inserting("messages", id=str(number), visibility=visibility, attachment_uri=f"/a/{name}/b", **said, **at)
        for number, (name, visibility) in enumerate(named)
    ]
    change(empty_url, rows)
    in_thread(migrate.upgrade, empty_url)
    found = inspect(empty_url, lambda reader: reader.execute(sa.text("SELECT id, visibility FROM attachments")).all())
    assert {tuple(row) for row in found} == {
        ("noted", "internal"),
        ("both", "public"),
        ("said", "public"),
        ("unnamed", "public"),
    }


def test_existing_messages_count_for_the_conversation_size(empty_url):
    """With all their bytes; a case without messages has 0."""
    in_thread(migrate.upgrade, empty_url, "0008")
    at = {"created_at": "2026-05-12 08:30:00"}
    of_case = {"subject": "", "status": "open", "priority": "low", "channel": "email", "context": "[]", "tags": "[]"}
    rows = [
        inserting("tickets", id=name, search_text="", updated_at=at["created_at"], **of_case, **at)
        for name in ("spoken", "silent")
    ]
    said = {"ticket_id": "spoken", "author_type": "agent"} | at
    rows.append(inserting("messages", id="1", message="đ" * 1000, **said))
    rows.append(
        inserting(
            "messages", id="2", message="", attachment_uri="u" * 2000, metadata='["' + "đ" * 50_000 + '"]', **said
        )
    )
    change(empty_url, rows)
    in_thread(migrate.upgrade, empty_url)
    found = inspect(
        empty_url, lambda reader: reader.execute(sa.text("SELECT id, conversation_bytes FROM tickets")).all()
    )
    assert {tuple(row) for row in found} == {("spoken", 2000 + 2000 + 100_004 + 2 * 256), ("silent", 0)}


def test_backfill_reaches_the_last_row(empty_url):
    """It works in batches."""
    in_thread(migrate.upgrade, empty_url, "0009")
    change(empty_url, [row for seq in (1, 1000, 1001, 2500) for row in spoken(f"case-{seq}", seq=seq)])
    in_thread(migrate.upgrade, empty_url)
    counted = inspect(empty_url, lambda reader: reader.execute(sa.text("SELECT conversation_bytes FROM tickets")).all())
    assert [tuple(row) for row in counted] == [(len("hello") + 256,)] * 4


def found_by(url, q):
    """Return the ids of the cases that a search finds."""

    async def search():
        database = create_database(url, timings=PATIENT_DATABASE)
        await database.open()
        page = await case_list.find_cases(database, CaseQuery(q=q), None, SYSTEM)
        await database.close()
        return [case.id for _, case in page.cases]

    return in_thread(asyncio.run, search())


def test_cases_and_messages_that_exist_are_found_by_a_search(empty_url):
    """So are cases that the previous release opens, changes and deletes afterwards."""
    in_thread(migrate.upgrade, empty_url, "0011")
    of_case = {"subject": "", "status": "open", "priority": "low", "channel": "email", "context": "[]", "tags": "[]"}
    of_case |= {"created_at": "2026-05-12 08:30:00", "updated_at": "2026-05-12 08:30:00"}
    of_message = {"author_type": "agent", "created_at": "2026-05-12 08:30:00"}
    rows = [inserting("tickets", id=f"case-{number}", search_text="late parcel", **of_case) for number in range(3)]
    rows += [
        inserting("messages", id=f"{number}", ticket_id="case-1", message=text, **of_message)
        for number, text in enumerate(("Đơn hàng", "thiếu món"))
    ]
    change(empty_url, rows)
    in_thread(migrate.upgrade, empty_url)
    assert found_by(empty_url, "parc") == ["case-2", "case-1", "case-0"]
    assert found_by(empty_url, "thieu m") == ["case-1"]
    assert found_by(empty_url, '"don hang"') == ["case-1"]
    change(
        empty_url,
        [
            inserting("tickets", id="case-3", search_text="late letter", **of_case),
            "UPDATE tickets SET search_text = 'letter' WHERE id = 'case-2'",
            "DELETE FROM tickets WHERE id = 'case-1'",
        ],
    )
    assert found_by(empty_url, "letter") == ["case-3", "case-2"]
    assert found_by(empty_url, "parcel") == ["case-0"]
    assert found_by(empty_url, "hang") == []


def test_messages_of_the_previous_release_are_marked_for_the_search(empty_url):
    """It may add some while the migrations run, and later. Messages that were there before have a document."""
    in_thread(migrate.upgrade, empty_url, "0011")
    change(empty_url, spoken("before"))
    in_thread(migrate.upgrade, empty_url, "0037")
    change(empty_url, spoken("since"))
    in_thread(migrate.upgrade, empty_url)
    change(empty_url, spoken("after"))

    def marked(reader):
        return reader.execute(sa.text("SELECT ticket_id FROM messages WHERE NOT has_document ORDER BY seq")).all()

    assert [row.ticket_id for row in inspect(empty_url, marked)] == ["since", "after"]
    assert found_by(empty_url, "hello") == ["before"]


@pytest.fixture
async def busy(postgres):
    """The address of a database of release 0003 with a case in it, and two connections of somebody who uses it."""
    name = postgres.create_database()
    url = postgres.url(name)
    await asyncio.to_thread(migrate.upgrade, url, "0003")
    await asyncio.to_thread(change, url, spoken("case-1"))
    users = [await asyncpg.connect(url) for _ in range(2)]
    yield url, *users
    for user in users:
        await user.close()
    postgres.drop_database(name)


def spoken(case, **more):
    """The statements that keep a case with a message."""
    at = {"created_at": "2026-05-12 08:30:00"}
    of_case = {"subject": "", "status": "open", "priority": "low", "channel": "email", "context": "[]", "tags": "[]"}
    said = {"ticket_id": case, "author_type": "agent", "message": "hello"}
    return [
        inserting("tickets", id=case, search_text="", updated_at=at["created_at"], **of_case, **at, **more),
        inserting("messages", id=f"message-of-{case}", **said, **at),
    ]


async def waits(user, table, mode):
    """Wait until the migration waits for a lock of a table."""
    waiting = "SELECT 1 FROM pg_locks WHERE relation = $1::regclass AND mode = $2 AND NOT granted"
    await eventually(lambda: user.fetchval(waiting, table, mode))


async def test_cases_are_read_while_rows_are_filled_in(busy):
    """While a migration fills in existing rows, cases are read and changed."""
    url, holder, user = busy
    await asyncio.to_thread(migrate.upgrade, url, "0008")
    async with holder.transaction():
        # From here on only what counts the messages asks for them, and is held up for as long as we like.
        await holder.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url))
        await waits(holder, "messages", "AccessShareLock")
        async with asyncio.timeout(GENEROUS_TIMEOUT):
            assert await user.execute("UPDATE tickets SET subject = 'read'") == "UPDATE 1"
            assert await user.fetchval("SELECT subject FROM tickets") == "read"
    assert await migrating == "newest"
    assert await user.fetchval("SELECT conversation_bytes FROM tickets") == len("hello") + 256


async def test_migration_waits_for_a_table_in_use(busy):
    """It gives up its lock request between attempts, so that other sessions are not blocked."""
    timings = MigrationTimings(lock_timeout=0.2, retry_pause=0.01, attempts=10_000)
    url, holder, user = busy
    async with holder.transaction():
        await holder.fetchval("SELECT count(*) FROM tickets")
        migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url, timings=timings))
        await waits(holder, "tickets", "AccessExclusiveLock")
        async with asyncio.timeout(GENEROUS_TIMEOUT):
            assert await user.fetchval("SELECT count(*) FROM tickets") == 1
        assert not migrating.done()
    assert await migrating == "newest"


async def test_migration_gives_up_on_a_table_that_stays_in_use(busy):
    """It reports this, keeps what was done, and continues when it is run again."""
    timings = MigrationTimings(lock_timeout=0.05, retry_pause=0.01, attempts=3)
    url, holder, _ = busy
    async with holder.transaction():
        await holder.fetchval("SELECT count(*) FROM tickets")
        with pytest.raises(Unavailable, match="lock timeout"):
            await asyncio.to_thread(migrate.upgrade, url, timings=timings)
    assert await asyncio.to_thread(revision, url) == "0004"
    assert await asyncio.to_thread(migrate.upgrade, url) == "newest"


WAITED_FOR = """
SELECT DISTINCT c.relname
FROM pg_locks AS waiting JOIN pg_locks AS lock ON lock.pid = waiting.pid JOIN pg_class AS c ON c.oid = lock.relation
WHERE NOT waiting.granted AND waiting.locktype IN ('relation', 'virtualxid') AND c.relkind = 'r'
    AND lock.relation = coalesce(waiting.relation, lock.relation) AND c.relname = ANY($1)
"""


@pytest.mark.parametrize("mode", ["ACCESS SHARE", "ROW EXCLUSIVE"])
async def test_no_session_waits_behind_a_migration_that_waits_for_a_table(busy, mode):
    """A dump reads each table, or a writer changes each, during each migration of a release.

    The migration waits for one table after the other. Meanwhile all tables can be read and written.
    """
    timings = MigrationTimings(lock_timeout=0.05, retry_pause=0.01, attempts=1_000_000)
    url, *holders = busy
    await asyncio.to_thread(migrate.upgrade, url, "0011")
    await holders[0].execute(tagging("case-1", '["a"]'))
    waited_for = set()
    async with connected(url, lock_timeout=f"{GENEROUS_TIMEOUT}s") as user:
        for script in reversed(list(SCRIPTS.iterate_revisions("head", "0011"))):
            held = await asyncio.to_thread(tables, url) - {"alembic_version"}
            await lock(holders[0], held, mode)
            migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url, script.revision, timings))

            async def waits_or_ends(migrating=migrating, held=held):
                return await user.fetch(WAITED_FOR, list(held)) or migrating.done()

            while (found := await eventually(waits_or_ends)) is not True:
                async with user.transaction():
                    await user.execute(f"LOCK TABLE {', '.join(sorted(held))} IN {mode} MODE")
                names = {row["relname"] for row in found}
                waited_for |= {(script.revision, name) for name in names}
                held -= names
                await lock(holders[1], held, mode)
                await holders[0].execute("ROLLBACK")
                holders.reverse()
            await migrating
            await holders[0].execute("ROLLBACK")
    assert waited_for >= {("0035", "messages"), ("0035", "tickets"), ("0055", "tickets"), ("0055", "case_links")}


async def test_filled_rows_can_be_changed_while_a_migration_waits_for_another_row(busy):
    """A migration that fills in many rows gives up the locks of these rows while it waits."""
    timings = MigrationTimings(lock_timeout=0.05, retry_pause=0.01, attempts=1_000_000)
    url, holder, _ = busy
    await asyncio.to_thread(migrate.upgrade, url, "0036")
    for statement in (*spoken("case-2"), tagging("case-1", '["a"]'), tagging("case-2", '["b"]')):
        await holder.execute(statement)
    async with connected(url, lock_timeout=f"{GENEROUS_TIMEOUT}s") as user:
        async with holder.transaction():
            await holder.fetchval("SELECT 1 FROM tickets WHERE id = 'case-2' FOR UPDATE")
            migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url, timings=timings))
            row = "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
            await eventually(lambda: user.fetchval(row))
            await user.execute(tagging("case-1", '["c"]'))
            assert not migrating.done()
        assert await migrating == "newest"
    assert await asyncio.to_thread(stored_tags, url) == {("case-1", "c"), ("case-2", "b")}


@asynccontextmanager
async def connected(url, **settings):
    """A connection with settings of its session."""
    connection = await asyncpg.connect(url, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def lock(holder, names, mode):
    """Begin a transaction that holds a lock of tables."""
    await holder.execute(f"BEGIN; LOCK TABLE {', '.join(sorted(names))} IN {mode} MODE")


def test_invalid_index_is_built_again(postgres):
    """Columns that were committed before their unique index do not prevent it."""
    name = postgres.create_database()
    url = postgres.url(name)
    (migration,) = (each for each in SCRIPTS.walk_revisions() if each.path.endswith("_columns.py"))
    in_thread(migrate.upgrade, url, migration.down_revision)
    index = "ix_tickets_channel_external_id"
    change(
        url,
        [
            "ALTER TABLE tickets ADD COLUMN external_id VARCHAR(255)",
            f"CREATE INDEX {index} ON tickets (channel)",
            f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass",
        ],
    )
    in_thread(migrate.upgrade, url)
    definition = "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_tickets_channel_external_id'"
    found = inspect(url, lambda connection: connection.execute(sa.text(definition)).scalar_one())
    assert ("UNIQUE" in found, "(channel, external_id) WHERE" in found) == (True, True)
    postgres.drop_database(name)


def test_interrupted_migrations_can_be_repeated(postgres):
    """Migrations that commit on their way, up to their last step: the revision is recorded after it."""
    name = postgres.create_database()
    url = postgres.url(name)
    in_thread(migrate.upgrade, url, "0011")
    change(url, [*spoken("case-1"), tagging("case-1", '["a"]')])
    for migration in reversed(list(SCRIPTS.iterate_revisions("head", "0011", inclusive=True))):
        if "autocommit_block" in Path(migration.path).read_text():
            in_thread(migrate.upgrade, url, migration.revision)
            done = schema(url)
            change(url, [f"UPDATE alembic_version SET version_num = '{migration.down_revision}'"])
            in_thread(migrate.upgrade, url, migration.revision)
            assert schema(url) == done
    in_thread(migrate.upgrade, url)
    kept, real = number_of_cases(url)
    assert kept == real == {("open", "low", 1)}
    assert stored_tags(url) == {("case-1", "a")}
    assert found_by(url, "hello") == ["case-1"]
    postgres.drop_database(name)


@both_databases
def test_second_upgrade_changes_nothing(database_url):
    in_thread(migrate.upgrade, database_url)
    assert in_thread(migrate.read_schema_status, database_url) == "newest"


@both_databases
def test_schema_of_a_newer_release_is_unchanged(database_url):
    """It is recognized as newer."""
    change(database_url, ["UPDATE alembic_version SET version_num = '9999'"])
    assert in_thread(migrate.upgrade, database_url) == "newer"
    assert in_thread(migrate.read_schema_status, database_url) == "newer"
    assert revision(database_url) == "9999"


@both_databases
@pytest.mark.parametrize("revision_id", migrate.UNRELEASED_REVISIONS)
def test_database_of_an_unreleased_version_is_refused(database_url, revision_id):
    """One line says so, and nothing is changed."""
    change(database_url, [f"UPDATE alembic_version SET version_num = '{revision_id}'"])
    for call in (migrate.read_schema_status, migrate.upgrade):
        with pytest.raises(Unavailable, match=f"has revision {revision_id} of a version that was not rel") as refusal:
            in_thread(call, database_url)
        assert refusal.value.code == "database_of_unreleased_version"
        assert "\n" not in str(refusal.value)
    assert revision(database_url) == revision_id


def test_documented_statement_adopts_the_database_of_the_last_unreleased_version(empty_url):
    """Later migrations then apply to it."""
    (statement,) = re.findall("^ *(UPDATE alembic_version .*);$", UPGRADES.read_text(), re.MULTILINE)
    (adopted,) = re.findall(r"SET version_num = '(\d+)'", statement)
    in_thread(migrate.upgrade, empty_url, adopted)
    change(empty_url, ["UPDATE alembic_version SET version_num = '0034'", statement])
    in_thread(migrate.upgrade, empty_url)
    assert in_thread(migrate.read_schema_status, empty_url) == "newest"


@both_databases
def test_unknown_revision_is_refused(database_url):
    """No release of this service could have created it."""
    change(database_url, ["UPDATE alembic_version SET version_num = 'cafe0123'"])
    assert in_thread(migrate.read_schema_status, database_url) == "older"
    with pytest.raises(Unavailable):
        in_thread(migrate.upgrade, database_url)


@pytest.mark.parametrize("call", [migrate.upgrade, migrate.read_schema_status])
@pytest.mark.parametrize("revision_id", [None, "7c1f2ab90d3e", "0011", "9999"])
def test_the_database_of_the_earlier_service_is_refused_unchanged(empty_url, call, revision_id):
    """Whatever revision it claims, one line says why and what to do, and nothing is added, not even WAL mode."""
    if empty_url.startswith("sqlite:"):
        Path(empty_url.removeprefix("sqlite:///")).parent.mkdir()
    given = ["CREATE TABLE support_tickets (id VARCHAR(36) PRIMARY KEY)"]
    if revision_id:
        given += [
            "CREATE TABLE alembic_version (version_num VARCHAR(32))",
            inserting("alembic_version", version_num=revision_id),
        ]
    change(empty_url, given)
    before = tables(empty_url)
    with pytest.raises(Unavailable, match="earlier support-service") as refusal:
        in_thread(call, empty_url)
    assert refusal.value.code == "database_of_earlier_service"
    assert "\n" not in str(refusal.value)
    assert tables(empty_url) == before
    if empty_url.startswith("sqlite:"):
        assert (
            inspect(empty_url, lambda connection: connection.exec_driver_sql("PRAGMA journal_mode").scalar())
            == "delete"
        )


def test_earlier_service_may_use_another_schema_of_the_database(postgres):
    """On PostgreSQL, with a search path per role."""
    name, role = postgres.create_database(), f"r{uuid4().hex}"
    url = postgres.url(name)
    change(
        url,
        [
            "CREATE TABLE support_tickets (id VARCHAR(36) PRIMARY KEY)",
            f"CREATE ROLE {role} LOGIN SUPERUSER",
            f"CREATE SCHEMA support AUTHORIZATION {role}",
            f"ALTER ROLE {role} IN DATABASE {name} SET search_path = support",
        ],
    )
    own = sa.make_url(url).set(username=role).render_as_string(hide_password=False)
    assert in_thread(migrate.upgrade, own) == "newest"
    assert tables(url) == {"support_tickets"}
    postgres.drop_database(name)
    postgres.run(f"DROP ROLE {role}")


@both_databases
def test_tables_beside_those_of_the_service_are_no_reason_to_refuse(database_url):
    """A table that another program adds later stops no start."""
    change(database_url, ["CREATE TABLE support_tickets (id VARCHAR(36) PRIMARY KEY)"])
    assert in_thread(migrate.upgrade, database_url) == "newest"


@both_databases
def test_database_with_two_revisions_is_refused(database_url):
    """Its content is unknown."""
    change(database_url, ["INSERT INTO alembic_version VALUES ('0001')"])
    for call in (migrate.read_schema_status, migrate.upgrade):
        with pytest.raises(Unavailable, match="alembic_version"):
            in_thread(call, database_url)


def test_concurrent_upgrades_run_one_after_another(empty_url):
    """None of the processes fails."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(migrate.upgrade, [empty_url] * 4))
    assert in_thread(migrate.read_schema_status, empty_url) == "newest"


@pytest.mark.parametrize(
    "url", ["sqlite:////proc/nowhere/a.db", "postgresql://nobody@127.0.0.1:1/nothing", "postgresql://nobody@[::1]:1/no"]
)
async def test_unreachable_database_is_reported(url):
    """By the migration and by the service."""
    with pytest.raises(Unavailable):
        await asyncio.to_thread(migrate.upgrade, url)
    database = create_database(url)
    with pytest.raises(Unavailable):
        await database.open()
    await database.close()


def number_of_cases(url):
    """Return the number of cases by (status, priority): as kept by the triggers, and counted one by one."""
    kept = "SELECT status, priority, sum(number) FROM case_counts GROUP BY 1, 2 HAVING sum(number) <> 0"
    real = "SELECT status, priority, count(*) FROM tickets WHERE channel <> 'synthetic' GROUP BY 1, 2"
    return [
        {tuple(row) for row in inspect(url, lambda reader, query=query: reader.exec_driver_sql(query).all())}
        for query in (kept, real)
    ]


def test_cases_are_counted_by_a_migration(empty_url):
    """Cases of before the triggers, and cases that a previous release writes afterwards."""
    in_thread(migrate.upgrade, empty_url, "0036")
    change(empty_url, [each for number in range(3) for each in spoken(f"case-{number}")])
    change(empty_url, ["UPDATE tickets SET channel = 'synthetic' WHERE id = 'case-2'"])
    in_thread(migrate.upgrade, empty_url)
    later = [
        *spoken("case-3"),
        "UPDATE tickets SET status = 'closed' WHERE id = 'case-0'",
        "DELETE FROM messages WHERE ticket_id = 'case-1'",
        "DELETE FROM tickets WHERE id = 'case-1'",
    ]
    change(empty_url, later)
    kept, real = number_of_cases(empty_url)
    assert kept == real == {("open", "low", 1), ("closed", "low", 1)}


async def test_no_change_is_lost_while_cases_are_counted(busy):
    """A previous release opens and closes cases during the migrations."""
    url, writer, _ = busy
    await asyncio.to_thread(migrate.upgrade, url, "0036")
    migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url))
    number = 1
    while not migrating.done() or number < 50:
        number += 1
        for statement in spoken(f"case-{number}"):
            await writer.execute(statement)
        await writer.execute("UPDATE tickets SET status = 'closed' WHERE id = $1", f"case-{number - 1}")
    assert await migrating == "newest"
    kept, real = await asyncio.to_thread(number_of_cases, url)
    assert kept == real == {("open", "low", 1), ("closed", "low", number - 1)}


def test_cases_of_agents_are_counted_by_a_migration(empty_url):
    """Cases of before the triggers, and cases that a previous release writes afterwards."""
    in_thread(migrate.upgrade, empty_url, "0053")
    change(empty_url, [each for number in range(4) for each in spoken(f"case-{number}", assigned_agent_id="a")])
    change(empty_url, ["UPDATE tickets SET channel = 'synthetic' WHERE id = 'case-2'"])
    in_thread(migrate.upgrade, empty_url)
    later = [
        *spoken("case-4", assigned_agent_id="b"),
        *spoken("case-5"),
        "UPDATE tickets SET status = 'pending', priority = 'high' WHERE id = 'case-0'",
        "UPDATE tickets SET status = 'closed' WHERE id = 'case-1'",
        "UPDATE tickets SET assigned_agent_id = NULL WHERE id = 'case-3'",
        "UPDATE tickets SET assigned_agent_id = 'c' WHERE id = 'case-5'",
        "DELETE FROM messages WHERE ticket_id = 'case-4'",
        "DELETE FROM tickets WHERE id = 'case-4'",
    ]
    change(empty_url, later)
    query = "SELECT agent_id, status, sum(number) FROM agent_counts GROUP BY 1, 2 HAVING sum(number) <> 0"
    kept = inspect(empty_url, lambda reader: reader.exec_driver_sql(query).all())
    assert {tuple(row) for row in kept} == {("a", "pending", 1), ("c", "open", 1)}


def stored_tags(url):
    """Return (id of the case, tag) of each tag in the table."""
    query = "SELECT id, tag FROM ticket_tags JOIN tickets USING (seq)"
    return {tuple(row) for row in inspect(url, lambda reader: reader.exec_driver_sql(query).all())}


def test_tags_that_exist_are_filled_in(empty_url):
    """Triggers keep them for rows that the previous release writes afterwards."""
    in_thread(migrate.upgrade, empty_url, "0036")
    change(empty_url, [each for number in (1, 1000, 1001) for each in spoken(f"case-{number}", seq=number)])
    change(empty_url, [tagging("case-1", '["a", "b", "a"]'), tagging("case-1001", '["a"]')])
    in_thread(migrate.upgrade, empty_url)
    assert stored_tags(empty_url) == {("case-1", "a"), ("case-1", "b"), ("case-1001", "a")}
    later = [
        tagging("case-1", '["b", "c", "c"]'),
        tagging("case-1000", "[]"),
        "DELETE FROM messages WHERE ticket_id = 'case-1001'",
        "DELETE FROM tickets WHERE id = 'case-1001'",
    ]
    change(empty_url, later)
    assert stored_tags(empty_url) == {("case-1", "b"), ("case-1", "c")}
    kept = inspect(empty_url, lambda reader: reader.exec_driver_sql("SELECT count(*) FROM ticket_tags").scalar())
    assert kept == 2


def test_references_that_a_context_names_beside_its_own_id_are_filled_in(empty_url):
    """Existing references stay, and a repeat adds none."""
    in_thread(migrate.upgrade, empty_url, "0039")
    change(empty_url, [each for number in (1, 1000, 1001) for each in spoken(f"case-{number}", seq=number)])
    context = '[{"type": "payment", "paymentId": "PAY-1", "orderId": "ORD-1"}, {"type": "note", "orderId": "ORD-9"}]'
    setting = [f"UPDATE tickets SET context = '{context}' WHERE id = '{case}'" for case in ("case-1", "case-1001")]
    own = inserting("ticket_references", ticket_id="case-1", kind="payment", value="PAY-1")
    change(empty_url, [*setting, own])
    query = "SELECT ticket_id, kind, value FROM ticket_references"
    for _ in range(2):
        in_thread(migrate.upgrade, empty_url, "0040")
        found = {tuple(row) for row in inspect(empty_url, lambda reader: reader.exec_driver_sql(query).all())}
        references = (("order", "ORD-1"), ("payment", "PAY-1"))
        assert found == {(case, *each) for case in ("case-1", "case-1001") for each in references}
        change(empty_url, ["UPDATE alembic_version SET version_num = '0039'"])


def tagging(case, tags):
    """The statement that sets the tags of a case."""
    return f"UPDATE tickets SET tags = '{tags}' WHERE id = '{case}'"


async def test_backfill_of_tags_waits_for_uncommitted_changes(busy):
    url, writer, _ = busy
    await asyncio.to_thread(migrate.upgrade, url, "0036")
    await writer.execute(tagging("case-1", '["a"]'))
    migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url))
    number = 0
    while not migrating.done() or number < 50:
        number += 1
        await writer.execute(tagging("case-1", f'["{number}"]'))
    assert await migrating == "newest"
    assert await asyncio.to_thread(stored_tags, url) == {("case-1", str(number))}


def waits_since(url):
    """Return since when the customer of each case waits, as text, by the id of the case."""
    query = "SELECT id, CAST(waiting_since AS VARCHAR(19)) FROM tickets"
    return dict(map(tuple, inspect(url, lambda reader: reader.exec_driver_sql(query).all())))


def test_cases_with_a_description_wait_from_the_start(empty_url):
    """Existing cases, and cases that the previous release opens afterwards; not cases that an agent has answered."""
    in_thread(migrate.upgrade, empty_url, "0036")
    opened, later = "2026-05-12 08:30:00", "2026-05-12 09:30:00"
    kinds = {
        "described": ({"description": "Where?"}, opened),
        "closed": ({"description": "Where?", "status": "closed"}, opened),
        "answered": ({"description": "Where?", "answered_at": later}, None),
        "asked": ({"description": "Where?", "waiting_since": later}, later),
        "empty": ({"description": ""}, None),
        "silent": ({}, None),
    }

    def rows(when):
        of_case = {"subject": "", "search_text": "", "status": "open", "priority": "low", "channel": "email"}
        of_case |= {"context": "[]", "tags": "[]", "created_at": opened, "updated_at": opened}
        return [inserting("tickets", id=f"{name} {when}", **of_case | fields) for name, (fields, _) in kinds.items()]

    change(empty_url, rows("before"))
    in_thread(migrate.upgrade, empty_url)
    change(empty_url, rows("after"))
    expected = {f"{name} {when}": since for when in ("before", "after") for name, (_, since) in kinds.items()}
    assert waits_since(empty_url) == expected


def test_changes_of_the_ledger_stay_counted_after_a_downgrade(empty_url):
    """The earlier release reads the totals only."""
    in_thread(migrate.upgrade, empty_url, "0041")
    changes = (("local", 2, 30), ("s3", 5, 500), ("local", -1, -10))
    names = ("storage", "files", "bytes")
    table = "attachment_ledger_changes"
    change(empty_url, [inserting(table, **dict(zip(names, each, strict=True))) for each in changes])
    in_thread(migrate.downgrade, empty_url, "0040")
    query = "SELECT storage, files, bytes FROM attachment_ledger"
    totals = {tuple(row) for row in inspect(empty_url, lambda reader: reader.exec_driver_sql(query).all())}
    assert totals == {("local", 1, 20), ("s3", 5, 500)}
