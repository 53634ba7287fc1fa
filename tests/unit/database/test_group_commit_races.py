"""Group commit in any order of events: what is acknowledged is committed, whole and once, and nobody waits for ever."""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing

import pytest

from support_service.core.errors import Unavailable
from support_service.platform.database import RetryWithLocks
from support_service.platform.database.failures import (
    DATABASE_BUSY,
    DATABASE_POOL_EXHAUSTED,
    DATABASE_UNAVAILABLE,
    WRITES_WAITING,
    StatementError,
    database_error,
)
from support_service.platform.database.postgres import group_commit as postgres
from support_service.platform.database.postgres.pending_changes import PendingChanges
from support_service.platform.database.sqlite import group_commit as sqlite
from support_service.platform.database.statements import BoundStatement
from support_service.platform.database.tables import leases, secrets
from tests.support.callback_orders import expect_wrong_order, explore, with_bug

TRANSACTIONS = 4
PATIENCE = 1.0  # seconds until a transaction gives up its wait
TOO_EARLY, STAYS_OPEN = "a transaction goes on before it is committed", "a transaction stays open"


class Refused(Exception):
    """The error of a transaction that fails by itself."""


class Table:
    """A table of SQLite, a connection that writes it, and one that sees what is committed."""

    def __init__(self, path):
        self.writer, self.reader = (sqlite3.connect(path, isolation_level=None, timeout=0) for _ in range(2))
        self.writer.execute("PRAGMA journal_mode=WAL")
        self.writer.execute("PRAGMA synchronous=OFF")
        self.writer.execute("CREATE TABLE halves (number INTEGER)")

    def committed_halves(self):
        return Counter(number for (number,) in self.reader.execute("SELECT number FROM halves"))

    def close(self):
        self.reader.close()
        self.writer.close()


@pytest.fixture
def table(tmp_path):
    with closing(Table(tmp_path / "halves.db")) as table:
        yield table


class SqliteRequests:
    """Transactions of two rows each. Some fail, some commits fail, some requests are cancelled, some wait too long."""

    def __init__(self, order, table, group_commit):
        table.writer.rollback()  # what an order has left
        table.writer.execute("DELETE FROM halves")
        self._order, self._table, self._writer = order, table, table.writer
        self._has_full_disk = order.happens(one_in=2)
        self._commits = group_commit(table.writer, TRANSACTIONS - 2, lambda: None, self._prepare_commit)

    def _prepare_commit(self):
        if self._has_full_disk and self._order.happens(one_in=4):
            raise sqlite3.OperationalError("the disk is full")

    async def _add(self, number):
        await self._order.pause(most=2)
        await self._commits.take_turn(self._order.time() + PATIENCE)
        try:
            if not self._writer.in_transaction:
                self._writer.execute("BEGIN IMMEDIATE")
            self._commits.set_savepoint()
            try:
                self._writer.execute("INSERT INTO halves VALUES (?)", (number,))
                await asyncio.sleep(self._order.pick((0, 0, 0, 0, PATIENCE)))
                if self._order.happens(one_in=5):
                    raise Refused  # noqa: TRY301 - as a transaction's block does
                self._writer.execute("INSERT INTO halves VALUES (?)", (number,))
                self._commits.release_savepoint()
            except BaseException as failure:
                self._commits.roll_back(failure)
                raise
        finally:
            self._commits.end_turn()
        await self._commits.committed()
        assert self._table.committed_halves()[number] == 2, TOO_EARLY

    async def _watch(self):
        for _ in range(4):
            await self._order.pause()
            assert 1 not in self._table.committed_halves().values(), "another connection sees half of a transaction"

    async def run(self):
        tasks = [asyncio.create_task(self._add(number)) for number in range(TRANSACTIONS)]
        watching = asyncio.create_task(self._watch())
        await self._order.cancel_some(tasks)
        ends = await self._order.ends(tasks, Refused, sqlite3.OperationalError, Unavailable)
        await watching
        await asyncio.sleep(PATIENCE)  # the commit of a cancelled request may be still to come
        for number, end in enumerate(ends):
            halves = self._table.committed_halves()[number]
            possible = {0, 2} if isinstance(end, asyncio.CancelledError) else {0} if end else {2}
            assert halves in possible, f"{halves} of 2 rows of a transaction that ended with {end!r}"
            assert getattr(end, "code", None) in {None, DATABASE_BUSY, WRITES_WAITING}
        assert not self._writer.in_transaction, STAYS_OPEN
        assert self._commits.waiting == 0, "a turn does not end"
        await asyncio.wait_for(self._commits.take_turn(self._order.time()), PATIENCE)  # the turn is free


def sqlite_scenario(table, group_commit=sqlite.GroupCommit):
    return lambda order: SqliteRequests(order, table, group_commit).run()


def test_transactions_on_sqlite_are_whole_in_any_order(table):
    """An acknowledged one is committed, a failed one has left nothing, and no other connection sees half of one."""
    explore(sqlite_scenario(table))


@pytest.mark.parametrize(
    ("failure", "bug"),
    [
        ("sees half of a transaction", ("_commit", "not self._waiters or self._turn.locked()", "not self._waiters")),
        (TOO_EARLY, ("committed", "await waiter", "await asyncio.sleep(0)")),
        (f"every task waits|{STAYS_OPEN}", ("roll_back", "asyncio.get_running_loop().call_soon(self._commit)", "pass")),
        ("a turn does not end", ("take_turn", "except BaseException as failure:", "except TimeoutError as failure:")),
    ],
    ids=["commit during a transaction", "answer before the commit", "no commit after a failure", "turn never ended"],
)
def test_exploration_finds_bugs_of_group_commit_on_sqlite(table, failure, bug):
    expect_wrong_order(sqlite_scenario(table, with_bug(sqlite.GroupCommit, *bug)), failure)


def insert(table):
    return lambda name: (table, BoundStatement(f"INSERT INTO {table.name} (name) VALUES ($1::VARCHAR)", [name], None))


SHAPES = insert(leases), insert(secrets)
NAMES = "01234"


class PostgresRequests:
    """Transactions of two shapes. Some conflict, some statements are lost before or after they took effect."""

    def __init__(self, order, group_commit):
        self._order = order
        self._applied = []
        self._sent = set()
        self._conflicting = {name for name in NAMES if order.happens(one_in=6)}
        self._commits = group_commit(self._send, PATIENCE / 2)

    async def _send(self, _sql, values):
        names = values[0] if isinstance(values[0], list) else values
        self._sent.update(names)
        await asyncio.sleep(self._order.pick((0, 0, 0, PATIENCE)))
        fault = self._order.number(12)
        if fault == 0:
            raise database_error(DATABASE_UNAVAILABLE)
        if self._conflicting.intersection(names):
            raise StatementError("conflict")
        self._applied.extend(names)
        await self._order.pause()
        if fault == 1:
            raise database_error(DATABASE_UNAVAILABLE)

    async def _commit(self, name):
        changes = PendingChanges()
        changes.add(*SHAPES[int(name) % 2](name))
        await self._order.pause(most=2)
        await self._commits.commit(changes)
        assert name in self._applied, TOO_EARLY

    def _expect(self, name, end):
        times = self._applied.count(name)
        assert times <= 1, "a transaction took effect twice"
        if end is None:
            assert times == 1, "an acknowledged transaction took no effect"
        elif isinstance(end, RetryWithLocks):
            assert times == 0, "a transaction that is to be repeated took effect"
            assert name in self._conflicting, "a transaction conflicts because of another one"
        elif getattr(end, "code", "") == DATABASE_POOL_EXHAUSTED:
            assert name not in self._sent, "a transaction was sent after its end"

    async def run(self):
        tasks = [asyncio.create_task(self._commit(name)) for name in NAMES]
        await self._order.cancel_some(tasks)
        ends = await self._order.ends(tasks, RetryWithLocks, Unavailable)
        await asyncio.sleep(len(NAMES) * PATIENCE)
        for name, end in zip(NAMES, ends, strict=True):
            self._expect(name, end)


def postgres_scenario(group_commit=postgres.GroupCommit):
    return lambda order: PostgresRequests(order, group_commit).run()


def test_transactions_on_postgresql_take_effect_once_in_any_order():
    """An acknowledged one has taken effect, one that is to be repeated has not, and none fails because of another."""
    explore(postgres_scenario())


@pytest.mark.parametrize(
    ("failure", "bug"),
    [
        ("sent after its end", ("_take_group", "if not each.committed.done()", "")),
        ("every task waits", ("_send_waiting", "while self._waiting:", "if self._waiting:")),
        ("twice|repeated took", ("_handle", "elif len(group) == 1:", "_end(group, RetryWithLocks())\n    if 0:")),
        (TOO_EARLY, ("_send_group", "self._handle(failure, group)", "_end(group)")),
    ],
    ids=["sent after its end", "forgotten", "repeated twice", "conflict acknowledged"],
)
def test_exploration_finds_bugs_of_group_commit_on_postgresql(failure, bug):
    expect_wrong_order(postgres_scenario(with_bug(postgres.GroupCommit, *bug)), failure)
