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

from support_service.cases.listing import case_list
from support_service.cases.model.requests import CaseQuery
from support_service.core.domain.principals import SYSTEM
from support_service.core.errors import SupportError, Unavailable
from support_service.platform.database import MigrationTimings, migrate
from support_service.platform.database.opening import create_database
from support_service.platform.database.tables import metadata
from tests.conftest import both_databases
from tests.support.calls import GENEROUS_TIMEOUT, eventually
from tests.support.sessions import in_thread, inspect
from tests.support.timings import PATIENT_DATABASE

pytestmark = pytest.mark.usefixtures("servers")  # any test may be the last of the module, which stops its database

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
UNDESCRIBED = (
    "ix_search_documents_words",
    "ix_tickets_latest_change_seq",
    "ix_tickets_assigned_agent_id_latest_change_seq",
)
REPEATING = MigrationTimings(lock_timeout=0.05, retry_pause=0.01, attempts=1_000_000)
EARLIER_SERVICE = "CREATE TABLE support_tickets (id VARCHAR(36) PRIMARY KEY)"
AT, LATER = "2026-05-12 08:30:00", "2026-05-12 09:30:00"
DEFAULTS = {
    "tickets": {"subject": "", "status": "open", "priority": "low", "channel": "email", "context": "[]", "tags": "[]"}
    | {"search_text": "", "created_at": AT, "updated_at": AT},
    "messages": {"author_type": "agent", "message": "hello", "created_at": AT},
    "attachments": {"filename": "", "content_type": "", "size_bytes": 1, "sha256": "", "storage": "local"}
    | {"created_at": AT},
}


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


def row(table, **values):
    """The statement that adds a row, with what a former release had to give."""
    values = DEFAULTS.get(table, {}) | values
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(map(repr, values.values()))})"


def spoken(case, message="hello", **fields):
    """The statements that keep a case with a message."""
    said = row("messages", id=f"message-of-{case}", ticket_id=case, message=message)
    return [row("tickets", id=case, **fields), said]


def tagging(case, tags):
    return f"UPDATE tickets SET tags = '{tags}' WHERE id = '{case}'"


def deleting(case):
    return [f"DELETE FROM messages WHERE ticket_id = '{case}'", f"DELETE FROM tickets WHERE id = '{case}'"]


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


@pytest.mark.parametrize("empty_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_each_migration_only_adds_and_can_be_reverted_and_applied_again(empty_url):
    """What it adds is gone when it is reverted, and no case or message. On PostgreSQL this is a long test."""
    scripts = list(reversed(list(SCRIPTS.walk_revisions())))
    states = [(set(), {})]
    for script in scripts:
        in_thread(migrate.upgrade, empty_url, script.revision)
        states.append(schema(empty_url))
        expect_only_additions(states[-2][1], states[-1][1])
    change(empty_url, *spoken("case-1"))
    for script, state in zip(scripts[:0:-1], states[-2:0:-1], strict=True):
        in_thread(migrate.downgrade, empty_url, script.down_revision)
        assert schema(empty_url) == state, script.revision
    assert rows(empty_url, "SELECT ticket_id FROM messages JOIN tickets ON tickets.id = ticket_id") == {("case-1",)}
    in_thread(migrate.downgrade, empty_url, "base")
    assert tables(empty_url) == {"alembic_version"}
    assert in_thread(migrate.read_schema_status, empty_url) == "older"
    in_thread(migrate.upgrade, empty_url)
    assert schema(empty_url) == states[-1]
    assert tables(empty_url) >= set(metadata.tables)
    assert in_thread(migrate.read_schema_status, empty_url) == "newest"


def test_newest_revision_is_read_from_file_names():
    """Without importing Alembic."""
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
    """The address of a database of release 0003 with a case in it, and two connections of somebody who uses it."""
    name = postgres.create_database()
    url = postgres.url(name)
    await asyncio.to_thread(migrate.upgrade, url, "0003")
    await asyncio.to_thread(change, url, *spoken("case-1"))
    users = [await asyncpg.connect(url) for _ in range(2)]
    yield url, *users
    for user in users:
        await user.close()
    postgres.drop_database(name)


async def waits(user, table, mode):
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
    """It gives up its lock request between attempts, so that other sessions are not blocked.

    If the table stays in use, it reports this, keeps what was done, and continues when it is run again.
    """
    url, holder, user = busy
    async with holder.transaction():
        await holder.fetchval("SELECT count(*) FROM tickets")
        once = MigrationTimings(lock_timeout=0.05, retry_pause=0.01, attempts=3)
        with pytest.raises(Unavailable, match="lock timeout"):
            await asyncio.to_thread(migrate.upgrade, url, timings=once)
        assert await user.fetchval("SELECT version_num FROM alembic_version") == "0004"
        timings = MigrationTimings(lock_timeout=0.2, retry_pause=0.01, attempts=10_000)
        migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url, timings=timings))
        await waits(holder, "tickets", "AccessExclusiveLock")
        async with asyncio.timeout(GENEROUS_TIMEOUT):
            assert await user.fetchval("SELECT count(*) FROM tickets") == 1
        assert not migrating.done()
    assert await migrating == "newest"


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
    await asyncio.to_thread(migrate.upgrade, url, "0011")
    await holders[0].execute(tagging("case-1", '["a"]'))
    waited_for = set()
    async with connected(url, lock_timeout=f"{GENEROUS_TIMEOUT}s") as user:
        for script in reversed(list(SCRIPTS.iterate_revisions("head", "0011"))):
            held = await asyncio.to_thread(tables, url) - {"alembic_version"}
            await lock(holders[0], held, mode)
            migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url, script.revision, REPEATING))

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
    url, holder, _ = busy
    await asyncio.to_thread(migrate.upgrade, url, "0036")
    for statement in (*spoken("case-2"), tagging("case-1", '["a"]'), tagging("case-2", '["b"]')):
        await holder.execute(statement)
    async with connected(url, lock_timeout=f"{GENEROUS_TIMEOUT}s") as user:
        async with holder.transaction():
            await holder.fetchval("SELECT 1 FROM tickets WHERE id = 'case-2' FOR UPDATE")
            migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url, timings=REPEATING))
            waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
            await eventually(lambda: user.fetchval(waiting))
            await user.execute(tagging("case-1", '["c"]'))
            assert not migrating.done()
        assert await migrating == "newest"
    assert await asyncio.to_thread(rows, url, TAGS) == {("case-1", "c"), ("case-2", "b")}


@asynccontextmanager
async def connected(url, **settings):
    connection = await asyncpg.connect(url, server_settings=settings)
    try:
        yield connection
    finally:
        await connection.close()


async def lock(holder, names, mode):
    await holder.execute(f"BEGIN; LOCK TABLE {', '.join(sorted(names))} IN {mode} MODE")


async def test_no_change_is_lost_while_cases_and_tags_are_counted(busy):
    """A previous release opens, closes and tags cases during the migrations."""
    url, writer, _ = busy
    await asyncio.to_thread(migrate.upgrade, url, "0036")
    await writer.execute(tagging("case-1", '["a"]'))
    migrating = asyncio.create_task(asyncio.to_thread(migrate.upgrade, url))
    number = 1
    while not migrating.done() or number < 50:
        number += 1
        for statement in (*spoken(f"case-{number}"), tagging("case-1", f'["{number}"]')):
            await writer.execute(statement)
        await writer.execute("UPDATE tickets SET status = 'closed' WHERE id = $1", f"case-{number - 1}")
    assert await migrating == "newest"
    kept, real = [await asyncio.to_thread(rows, url, each) for each in (KEPT_COUNTS, REAL_COUNTS)]
    assert kept == real == {("open", "low", 1), ("closed", "low", number - 1)}
    assert await asyncio.to_thread(rows, url, TAGS) == {("case-1", str(number))}


def test_invalid_index_is_built_again(postgres):
    """Columns that were committed before their unique index do not prevent it."""
    name = postgres.create_database()
    url = postgres.url(name)
    (migration,) = (each for each in SCRIPTS.walk_revisions() if each.path.endswith("_columns.py"))
    in_thread(migrate.upgrade, url, migration.down_revision)
    index = "ix_tickets_channel_external_id"
    change(
        url,
        "ALTER TABLE tickets ADD COLUMN external_id VARCHAR(255)",
        f"CREATE INDEX {index} ON tickets (channel)",
        f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{index}'::regclass",
    )
    in_thread(migrate.upgrade, url)
    ((definition,),) = rows(url, f"SELECT indexdef FROM pg_indexes WHERE indexname = '{index}'")
    assert ("UNIQUE" in definition, "(channel, external_id) WHERE" in definition) == (True, True)
    postgres.drop_database(name)


@pytest.mark.long
def test_interrupted_migrations_can_be_repeated(postgres):
    """Migrations that commit on their way, up to their last step: the revision is recorded after it.

    Short forms are `test_invalid_index_is_built_again` and the references of `migrated`.
    """
    name = postgres.create_database()
    url = postgres.url(name)
    in_thread(migrate.upgrade, url, "0011")
    change(url, *spoken("case-1"), tagging("case-1", '["a"]'))
    for migration in reversed(list(SCRIPTS.iterate_revisions("head", "0011", inclusive=True))):
        if "autocommit_block" in Path(migration.path).read_text():
            in_thread(migrate.upgrade, url, migration.revision)
            done = schema(url)
            change(url, f"UPDATE alembic_version SET version_num = '{migration.down_revision}'")
            in_thread(migrate.upgrade, url, migration.revision)
            assert schema(url) == done
    in_thread(migrate.upgrade, url)
    assert rows(url, KEPT_COUNTS) == rows(url, REAL_COUNTS) == {("open", "low", 1)}
    assert rows(url, TAGS) == {("case-1", "a")}
    assert rows(url, "SELECT count(*) FROM search_documents") == {(2,)}  # of the case and its message
    postgres.drop_database(name)


@both_databases
def test_database_of_another_version_is_unchanged(database_url, subtests):
    """One of a newer release is used. One line says what an unreleased one or several revisions are."""

    def read_revisions():
        return {revision for (revision,) in rows(database_url, "SELECT * FROM alembic_version")}

    assert in_thread(migrate.upgrade, database_url) == in_thread(migrate.read_schema_status, database_url) == "newest"
    change(database_url, EARLIER_SERVICE)  # of another program, which stops no start beside the tables of the service
    assert in_thread(migrate.upgrade, database_url) == "newest"
    change(database_url, "UPDATE alembic_version SET version_num = '9999'")
    assert in_thread(migrate.upgrade, database_url) == in_thread(migrate.read_schema_status, database_url) == "newer"
    assert read_revisions() == {"9999"}
    for revision in migrate.UNRELEASED_REVISIONS:
        change(database_url, f"UPDATE alembic_version SET version_num = '{revision}'")
        for call in (migrate.read_schema_status, migrate.upgrade):
            with subtests.test(revision), pytest.raises(SupportError, match=f"has revision {revision} of a") as refusal:
                in_thread(call, database_url)
            assert (refusal.value.code, "\n" in str(refusal.value)) == ("database_of_unreleased_version", False)
        assert read_revisions() == {revision}
    change(database_url, "UPDATE alembic_version SET version_num = 'cafe0123'")  # no release could have created it
    assert in_thread(migrate.read_schema_status, database_url) == "older"
    with pytest.raises(Unavailable):
        in_thread(migrate.upgrade, database_url)
    change(database_url, "INSERT INTO alembic_version VALUES ('0001')")
    for call in (migrate.read_schema_status, migrate.upgrade):
        with pytest.raises(Unavailable, match="alembic_version"):
            in_thread(call, database_url)


def test_documented_statement_adopts_the_database_of_the_last_unreleased_version(empty_url):
    """Later migrations then apply to it."""
    (statement,) = re.findall("^ *(UPDATE alembic_version .*);$", UPGRADES.read_text(), re.MULTILINE)
    (adopted,) = re.findall(r"SET version_num = '(\d+)'", statement)
    in_thread(migrate.upgrade, empty_url, adopted)
    change(empty_url, "UPDATE alembic_version SET version_num = '0034'", statement)
    in_thread(migrate.upgrade, empty_url)
    assert in_thread(migrate.read_schema_status, empty_url) == "newest"


def test_the_database_of_the_earlier_service_is_refused_unchanged(empty_url):
    """Whatever revision it claims, one line says why and what to do, and nothing is added, not even WAL mode."""
    if is_file := empty_url.startswith("sqlite:"):
        Path(empty_url.removeprefix("sqlite:///")).parent.mkdir()
    change(empty_url, EARLIER_SERVICE)
    for revision in (None, "7c1f2ab90d3e", "0011", "9999"):
        if revision:
            change(empty_url, "DROP TABLE IF EXISTS alembic_version")
            change(empty_url, "CREATE TABLE alembic_version (version_num VARCHAR(32))")
            change(empty_url, row("alembic_version", version_num=revision))
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


def test_changes_of_the_ledger_stay_counted_after_a_downgrade(empty_url):
    """The earlier release reads the totals only."""
    in_thread(migrate.upgrade, empty_url, "0041")
    changes = ({"storage": "local", "files": 2, "bytes": 30}, {"storage": "s3", "files": 5, "bytes": 500})
    changes += ({"storage": "local", "files": -1, "bytes": -10},)
    change(empty_url, *(row("attachment_ledger_changes", **each) for each in changes))
    in_thread(migrate.downgrade, empty_url, "0040")
    assert rows(empty_url, "SELECT storage, files, bytes FROM attachment_ledger") == {("local", 1, 20), ("s3", 5, 500)}


KEPT_COUNTS = "SELECT status, priority, sum(number) FROM case_counts GROUP BY 1, 2 HAVING sum(number) <> 0"
REAL_COUNTS = "SELECT status, priority, count(*) FROM tickets WHERE channel <> 'synthetic' GROUP BY 1, 2"
TAGS = "SELECT id, tag FROM ticket_tags JOIN tickets USING (seq)"
# Who speaks in a case, and then whose word waits and which is the first answer, by its place.
TALKS = {
    "talk": ("", None, None),
    "talk-c": ("c", 0, None),
    "talk-cbc": ("cbc", 0, None),
    "talk-ca": ("ca", None, 1),
    "talk-cacc": ("cacc", 2, 1),
    "talk-a": ("a", None, 0),
    "talk-abac": ("abac", 3, 0),
    "talk-b": ("b", None, None),
}
AUTHORS = {"a": "agent", "b": "bot", "c": "customer"}
# Cases that an earlier or the previous release opens, and since when their customers wait.
DESCRIBED = {
    "described": ({"description": "Where?"}, AT),
    "closed": ({"description": "Where?", "status": "closed"}, AT),
    "answered": ({"description": "Where?", "answered_at": LATER}, None),
    "asked": ({"description": "Where?", "waiting_since": LATER}, LATER),
    "empty": ({"description": ""}, None),
}
NAMED = [("noted", "internal"), ("both", "internal"), ("both", "public"), ("said", "public")]
BATCHES = (1000, 1001, 2500)  # migrations work in batches of a thousand
CONTEXT = '[{"type": "payment", "paymentId": "P-1", "orderId": "O-1"}, {"type": "note", "orderId": "O-9"}]'


def at(place):
    return f"2026-05-12 08:{30 + place}:00"


def described(when):
    return [row("tickets", id=f"{name} {when}", **fields) for name, (fields, _) in DESCRIBED.items()]


def talks():
    """Return the statements that keep the conversations above."""
    for case, (talk, *_) in TALKS.items():
        yield row("tickets", id=case)
        for place, who in enumerate(talk):
            yield row("messages", id=f"{case}-{place}", ticket_id=case, author_type=AUTHORS[who], created_at=at(place))


# What is written to a database of each revision, and in the end to the newest one.
WRITTEN = {
    "0001": [*talks()],
    "0007": [
        row("tickets", id="with files"),
        *(row("attachments", id=name, storage_key=name, ticket_id="with files") for name in (*dict(NAMED), "unnamed")),
        *(
            row("messages", id=f"{name}-{how}", ticket_id="with files", visibility=how, attachment_uri=f"/a/{name}/b")
            for name, how in NAMED
        ),
    ],
    "0008": [
        *spoken("long", "đ" * 1000),
        row(
            "messages", id="2", ticket_id="long", message="", attachment_uri="u" * 2000, metadata=f'["{"đ" * 50_000}"]'
        ),
    ],
    "0009": [each for seq in BATCHES for each in spoken(f"case-{seq}", seq=seq)],
    "0011": [
        *(row("tickets", id=f"found-{number}", search_text="late parcel") for number in range(3)),
        *(
            row("messages", id=f"found-{number}", ticket_id="found-1", message=text)
            for number, text in enumerate(("Đơn hàng", "thiếu món"))
        ),
        *spoken("found-4", "gone món"),
    ],
    "0036": [
        *described("before"),
        row("tickets", id="probe", channel="synthetic"),
        tagging("case-1000", '["a", "b", "a"]'),
        tagging("case-1001", '["a"]'),
        tagging("case-2500", '["a"]'),
    ],
    "0037": spoken("since"),
    "0039": [
        f"UPDATE tickets SET context = '{CONTEXT}' WHERE id IN ('case-1000', 'case-1001')",
        row("ticket_references", ticket_id="case-1000", kind="payment", value="P-1"),
    ],
    "0040": ["UPDATE alembic_version SET version_num = '0039'"],
    "0053": [
        *(row("tickets", id=f"agent-{number}", assigned_agent_id="a") for number in (0, 1, 3)),
        row("tickets", id="agent-2", assigned_agent_id="a", channel="synthetic"),
    ],
    "head": [
        *described("after"),
        *spoken("after"),
        row("tickets", id="found-3", search_text="late letter"),
        "UPDATE tickets SET search_text = 'letter' WHERE id = 'found-2'",
        *deleting("found-4"),
        tagging("case-1000", '["b", "c", "c"]'),
        tagging("case-1001", "[]"),
        *deleting("case-2500"),
        *spoken("agent-4", assigned_agent_id="b"),
        *spoken("agent-5"),
        "UPDATE tickets SET status = 'pending', priority = 'high' WHERE id = 'agent-0'",
        "UPDATE tickets SET status = 'closed' WHERE id = 'agent-1'",
        "UPDATE tickets SET assigned_agent_id = NULL WHERE id = 'agent-3'",
        "UPDATE tickets SET assigned_agent_id = 'c' WHERE id = 'agent-5'",
        *deleting("agent-4"),
    ],
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def migrated(servers, request, tmp_path_factory):
    """A database of the newest release, to which each earlier one has written, and the previous one also afterwards."""
    with new_database(request, request.param, tmp_path_factory.mktemp("migrated")) as url:
        for revision, statements in WRITTEN.items():
            in_thread(migrate.upgrade, url, revision)
            change(url, *statements)
        yield url


def test_customers_wait_since_their_first_unanswered_word(migrated):
    """Or since the opening, if the case has a description and no agent has answered."""
    times = "SELECT id, CAST(waiting_since AS VARCHAR(19)), CAST(answered_at AS VARCHAR(19)) FROM tickets"
    found = {case: found for case, *found in rows(migrated, times)}
    for case, (_, *places) in TALKS.items():
        assert found[case] == [place if place is None else at(place) for place in places], case
    expected = {f"{name} {when}": since for when in ("before", "after") for name, (_, since) in DESCRIBED.items()}
    assert {case: found[case][0] for case in expected} == expected


def test_files_named_only_by_notes_become_internal(migrated):
    """Customers did not see them before files had a visibility of their own."""
    found = dict(rows(migrated, "SELECT id, visibility FROM attachments"))
    assert found == {"noted": "internal", "both": "public", "said": "public", "unnamed": "public"}


def test_existing_messages_count_for_the_conversation_size(migrated):
    """With all their bytes, in each batch; a case without messages has 0."""
    found = dict(rows(migrated, "SELECT id, conversation_bytes FROM tickets"))
    expected = {"long": 2000 + 2000 + 100_004 + 2 * 256, "talk": 0}
    expected |= dict.fromkeys(("case-1000", "case-1001"), len("hello") + 256)
    assert {case: found[case] for case in expected} == expected


async def test_cases_and_messages_that_exist_are_found_by_a_search(migrated):
    """So are cases that the previous release opens and changes afterwards. Its messages are marked for the search."""
    database = create_database(migrated, timings=PATIENT_DATABASE)
    await database.open()

    async def found(q):
        page = await case_list.find_cases(database, CaseQuery(q=q), None, SYSTEM)
        return {case.id for _, case in page.cases}

    assert await found("parc") == {"found-0", "found-1"}
    assert await found("thieu m") == await found('"don hang"') == {"found-1"}
    assert await found("letter") == {"found-2", "found-3"}
    assert await found("gone") == set()
    marked = {"since", "after", "agent-5"}
    assert await found("hello") & {"case-1000", "case-1001", *marked} == {"case-1000", "case-1001"}
    await database.close()
    unread = await asyncio.to_thread(rows, migrated, "SELECT ticket_id FROM messages WHERE NOT has_document")
    assert {case for (case,) in unread} == marked


def test_cases_are_counted_by_status_and_agent(migrated):
    """Cases of before the triggers, and cases that the previous release writes afterwards."""
    kept = rows(migrated, KEPT_COUNTS)
    assert kept == rows(migrated, REAL_COUNTS)
    assert {status for status, _, _ in kept} == {"open", "pending", "closed"}
    by_agent = "SELECT agent_id, status, sum(number) FROM agent_counts GROUP BY 1, 2 HAVING sum(number) <> 0"
    assert rows(migrated, by_agent) == {("a", "pending", 1), ("c", "open", 1)}


def test_tags_and_references_that_exist_are_filled_in(migrated):
    """Each once, also references beside the id of a context. Triggers keep tags that are written afterwards."""
    assert rows(migrated, TAGS) == {("case-1000", "b"), ("case-1000", "c")}
    assert rows(migrated, "SELECT count(*) FROM ticket_tags") == {(2,)}
    assert rows(migrated, "SELECT ticket_id, kind, value FROM ticket_references") == {
        (case, *each) for case in ("case-1000", "case-1001") for each in (("order", "O-1"), ("payment", "P-1"))
    }
