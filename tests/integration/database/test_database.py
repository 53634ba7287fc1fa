"""What a database does, whichever it is; then what each must survive."""

import asyncio
import re
import sqlite3
import stat
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

import support_service
from support_service.cases.sql import attachment_rows, case_reading, case_rows
from support_service.cases.sql.projections import HISTORY_LIMITS
from support_service.core.errors import Unavailable
from support_service.platform.database import DatabaseTimings, SqliteTimings, migrate
from support_service.platform.database.dialect import LockNumber
from support_service.platform.database.shared import create_database
from support_service.platform.database.sqlite.backup import is_in_use
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import (
    attachment_ledger,
    attachments,
    messages,
    ticket_references,
    tickets,
)
from tests.conftest import both_databases
from tests.support.calls import GENEROUS_TIMEOUT

AT = datetime(2026, 1, 1, 12, 30, 0, 5, tzinfo=UTC)
TICKET = {"id": "case-1", "subject": "Đơn hàng", "description": None, "customer_id": "c-1", "status": "open"}
TICKET |= {
    "priority": "normal",
    "channel": "email",
    "assigned_agent_id": None,
    "tags": ["a"],
    "search_text": "don hang",
}
TICKET |= {"context": [{"type": "order", "orderId": "ORD-1", "n": [1, 2.5, None, True, "đ"]}]}
TICKET |= {"created_at": AT, "updated_at": AT}
BY_ID = sa.select(tickets).where(tickets.c.id == sa.bindparam("case_id"))
IS_OF_IDS = tickets.c.id.in_(sa.bindparam("ids", expanding=True))
OF_IDS = sa.select(tickets.c.id).where(IS_OF_IDS)
SIX = [f"case-{number}" for number in range(6)]
ALL = sa.select(tickets.c.id).order_by(tickets.c.seq)


async def ids(reader):
    return [row[0] for row in await reader.fetch_all(ALL)]


async def test_only_the_owner_can_read_a_new_sqlite_database(tmp_path):
    """The folder, the file, the write-ahead log and its index. One of an operator keeps its modes, and gives them."""
    new, shared = tmp_path / "new/support.db", tmp_path / "shared/support.db"
    shared.parent.mkdir()
    shared.touch()
    shared.chmod(0o640)
    shared.parent.chmod(0o750)
    for path, folder_mode, mode in ((new, 0o700, 0o600), (shared, 0o750, 0o640)):
        await asyncio.to_thread(migrate.upgrade, f"sqlite:///{path}")
        database = create_database(f"sqlite:///{path}")
        await database.open()
        found = {each.name: stat.S_IMODE(each.stat().st_mode) for each in (path.parent, *path.parent.iterdir())}
        files = dict.fromkeys(("support.db", "support.db-wal", "support.db-shm"), mode)
        assert found == files | {path.parent.name: folder_mode}
        await database.close()


@both_databases
async def test_values_are_read_as_they_were_written(database):
    """JSON, text, times in UTC to the microsecond, and null."""
    async with database.transaction() as tx:
        assert await tx.execute(tickets.insert(), TICKET) == 1
    row = (await database.fetch_all(BY_ID, {"case_id": "case-1"}))[0]
    assert {name: getattr(row, name) for name in TICKET} == TICKET
    assert await database.fetch_now(BY_ID, {"case_id": "other"}) is None


@both_databases
async def test_failed_or_cancelled_transaction_is_rolled_back(database):
    """Readers never see uncommitted changes. The next transaction works."""
    begun = asyncio.Event()

    async def work(*, fails):
        async with database.transaction() as tx:
            await tx.execute(tickets.insert(), TICKET)
            assert await ids(tx) == ["case-1"]
            assert await ids(database) == []
            if fails:
                raise KeyError
            begun.set()
            await asyncio.Event().wait()

    with pytest.raises(KeyError):
        await work(fails=True)
    assert await ids(database) == []
    task = asyncio.create_task(work(fails=False))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.transaction() as tx:
        await tx.execute(tickets.insert(), [TICKET | {"id": f"case-{number}"} for number in range(3)])
    assert await ids(database) == ["case-0", "case-1", "case-2"]


@both_databases
async def test_concurrent_transactions_are_all_applied(database):
    """Many tasks change the same row."""
    change = attachment_ledger.update().where(attachment_ledger.c.storage == "local")
    change = change.values(files=attachment_ledger.c.files + 1).returning(attachment_ledger.c.files)

    async def count():
        async with database.transaction() as tx:
            return (await tx.fetch_now(change))[0]

    assert sorted(await asyncio.gather(*(count() for _ in range(40)))) == list(range(1, 41))


@both_databases
async def test_deleting_a_case_deletes_its_rows(database):
    """Messages, attachments and references."""
    async with database.transaction() as tx:
        await tx.execute(tickets.insert(), TICKET)
        await tx.execute(ticket_references.insert(), {"ticket_id": "case-1", "kind": "order", "value": "ORD-1"})
        await tx.execute(tickets.delete())
    for table in (messages, attachments, ticket_references):
        assert await database.fetch_all(sa.select(table)) == []


READING = {"id": "case-1", "known_version": 0, "max_bytes": 1000}
HOT = {
    "a case": (case_reading.READ[False], READING),
    "a case that is known": (case_reading.READ[True], READING | {"known_version": 1}),
    "a case with its history": (
        case_reading.READ_WITH_HISTORY[False],
        READING | {"known_history": 0, **HISTORY_LIMITS},
    ),
    "no case": (case_reading.READ[False], READING | {"id": "other"}),
    "whose a case is": (case_rows.READ_STATE, {"case_id": "case-1"}),
    "an attachment": (attachment_rows.FIND_WITH_OWNER, {"id": "file-1", "case_id": "case-1"}),
    "columns of every type": (
        compiled(sa.select(tickets).where(tickets.c.created_at >= sa.bindparam("at"))),
        {"at": AT},
    ),
    "a constant": (compiled(sa.select(attachment_ledger).where(attachment_ledger.c.storage == "local")), None),
}


@both_databases
async def test_compiled_statement_returns_the_same_values_as_sqlalchemy(database, subtests):
    file = {"id": "file-1", "ticket_id": "case-1", "filename": "a", "content_type": "a/b", "size_bytes": 1}
    file |= {"sha256": "0" * 64, "storage": "local", "storage_key": "k", "created_at": AT}
    file |= {"detected_type": None, "visibility": "public", "most": 1}
    said = {"id": "m-1", "ticket_id": "case-1", "author_type": "agent", "message": "đ", "metadata": {"a": [1]}}
    async with database.transaction() as tx:
        await tx.execute(case_rows.ADD_CASE, TICKET)
        await tx.execute(attachment_rows.ADD_IF_ROOM, file)
        nothing = {"attachment_uri": None, "sentiment": None, "visibility": "public", "version": 2, "public_version": 2}
        await tx.execute(case_rows.ADD_MESSAGE, said | nothing | {"created_at": AT})
        for name, (statement, parameters) in HOT.items():
            with subtests.test(name):
                prepared = await tx.fetch_now(statement, parameters)
                plain = await tx.fetch_now(statement.execution_options(support_compiled=False), parameters)
                assert (prepared is None) == (plain is None) == (name == "no case")
                assert plain is None or tuple(prepared) == tuple(plain)


# Writes to a SQLite file as fast as possible, and holds the lock for a moment each time. Its imports are fast, so that
# it runs beside the test's own writers and not after them.
WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
for turn in range(100):
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO attachment_ledger VALUES (?, 0, 0)", (f"{sys.argv[2]}-{turn}",))
    connection.execute("COMMIT")
connection.close()
"""


@pytest.mark.usefixtures("processes")
async def test_two_processes_write_one_sqlite_file(database, database_url):
    """Writers wait for each other and get no error."""
    path = database_url.removeprefix("sqlite:///")
    second = create_database(database_url)
    await second.open()
    others = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, path, f"{number}") for number in range(2)
    ]

    async def write(into, number):
        async with into.transaction() as tx:
            await tx.execute(tickets.insert(), TICKET | {"id": str(number)})
        assert await into.fetch_now(BY_ID, {"case_id": str(number)})

    await asyncio.gather(*(write((database, second)[number % 2], number) for number in range(200)))
    async with asyncio.timeout(3 * GENEROUS_TIMEOUT):
        assert [await process.wait() for process in others] == [0, 0]
    assert len(await ids(database)) == 200
    await second.close()


async def test_writers_of_a_locked_sqlite_file_are_refused_together(database_url):
    """Not one after another. Later ones are refused at once.

    Readers read on meanwhile.
    """
    timings = SqliteTimings(busy_timeout=0.2, max_waiting=20)
    database = create_database(database_url, timings=DatabaseTimings(sqlite=timings))
    await database.open()
    other = sqlite3.connect(database_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def write():
        with pytest.raises(Unavailable) as refusal:
            async with database.transaction():
                pass
        return refusal.value.code

    async with asyncio.timeout(GENEROUS_TIMEOUT):
        writers = [asyncio.create_task(write()) for _ in range(200)]
        await asyncio.wait(writers, return_when=asyncio.FIRST_COMPLETED)
        assert await ids(database) == []
        codes = await asyncio.gather(*writers)
    assert (codes.count("database_busy"), codes.count("writes_waiting")) == (21, 179)
    other.execute("ROLLBACK")
    other.close()
    async with database.transaction() as tx:
        await tx.execute(tickets.insert(), TICKET)
    await database.close()


def test_only_another_process_has_a_database_in_use(tmp_path):
    """Another reason why it can't be locked is raised as what it is."""
    path = tmp_path / "support.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert not is_in_use(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("SELECT count(*) FROM sqlite_schema").fetchall()
        assert is_in_use(path)
    path.with_name("support.db-wal").mkdir()
    with pytest.raises(Unavailable, match=r"support\.db.* can't be used: unable to open database file"):
        is_in_use(path)


def test_each_lock_has_a_number_in_the_list():
    """Two locks with one number would wait for each other."""
    numbers = re.compile(r"transaction_lock\(([^)]*)\)|advisory\w*_lock\(([^)]*)\)")
    sources = {path.name: path.read_text() for path in Path(support_service.__file__).parent.rglob("*.py")}
    taken = {name: numbers.findall(text) for name, text in sources.items() if name != "dialect.py"}
    assert {found for each in taken.values() for found in each} == {("", "$1")}  # values of LockNumber
    assert len(LockNumber) == len(LockNumber.__members__)  # a number that is there twice has one member


@both_databases
async def test_change_after_a_with_clause_tells_how_many_rows_it_changed(database):
    """The driver of SQLite does not count them."""
    found = sa.select(tickets.c.id).where(tickets.c.id == sa.bindparam("case_id")).cte()
    change = tickets.update().where(tickets.c.id.in_(sa.select(found.c.id))).values(subject="Changed")
    async with database.transaction() as tx:
        await tx.execute(tickets.insert(), TICKET)
        assert await tx.execute(change, {"case_id": "case-1"}) == 1
        assert await tx.execute(change, {"case_id": "case-2"}) == 0


@both_databases
async def test_list_of_any_length_is_read_and_deleted(database):
    """Padding finds and deletes no other rows."""
    async with database.transaction() as tx:
        await tx.execute(tickets.insert(), [TICKET | {"id": each} for each in SIX])
    for number in range(6):
        rows = await database.fetch_all(OF_IDS, {"ids": SIX[:number]})
        assert {row.id for row in rows} == {*SIX[:number]}
    async with database.transaction() as tx:
        assert await tx.execute(tickets.delete().where(IS_OF_IDS), {"ids": SIX[:5]}) == 5
    assert (await database.fetch_now(OF_IDS, {"ids": [*SIX, "case-6"]})).id == "case-5"
