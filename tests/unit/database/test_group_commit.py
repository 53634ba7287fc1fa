"""Transactions that share a commit: each is undone alone, and none goes on before it is committed."""

import asyncio
import math
import sqlite3
from contextlib import closing

import pytest

from support_service.platform.database.sqlite.group_commit import GroupCommit


class Table:
    """A table of numbers that two connections have open, one of them for writing."""

    def __init__(self, path):
        self.writer, self.reader = (sqlite3.connect(path, isolation_level=None, timeout=0) for _ in range(2))
        for statement in (
            *("PRAGMA journal_mode=WAL", "PRAGMA foreign_keys=ON"),
            "CREATE TABLE numbers (number INTEGER PRIMARY KEY)",
            "CREATE TABLE pointers (number INTEGER REFERENCES numbers(number) DEFERRABLE INITIALLY DEFERRED)",
        ):
            self.writer.execute(statement)
        self.commits = GroupCommit(self.writer, 100, lambda: None, self.prepare_commit)
        self.said, self.preparations = [], []
        self.writer.set_trace_callback(self.said.append)

    def prepare_commit(self):
        """Note the numbers that are about to be committed; one of more than 99 can't be."""
        numbers = [number for (number,) in self.writer.execute("SELECT number FROM numbers ORDER BY number")]
        self.preparations.append(numbers)
        if numbers and numbers[-1] > 99:
            raise sqlite3.IntegrityError("too large")

    def close(self):
        self.reader.close()
        self.writer.close()

    def numbers(self):
        return [number for (number,) in self.reader.execute("SELECT number FROM numbers ORDER BY number")]

    async def add(self, number, *, failing=None, statement="INSERT INTO numbers VALUES (?)"):
        """Add a number in a transaction that fails after it, if it is told so."""
        await self.commits.take_turn(math.inf)
        try:
            if not self.writer.in_transaction:
                self.writer.execute("BEGIN IMMEDIATE")
            self.commits.set_savepoint()
            try:
                self.writer.execute(statement, (number,))
                if failing:
                    raise failing  # noqa: TRY301 - as a transaction's block does
                self.commits.release_savepoint()
            except BaseException as failure:
                self.commits.roll_back(failure)
                raise
        finally:
            self.commits.end_turn()
        await self.commits.committed()
        return number in self.numbers()


@pytest.fixture
def table(tmp_path):
    with closing(Table(tmp_path / "numbers.db")) as table:
        yield table


async def test_concurrent_transactions_share_a_commit(table):
    """Each is committed when it continues. Sequential ones do not wait for a later transaction."""
    assert await asyncio.gather(*map(table.add, range(10))) == [True] * 10
    assert table.said.count("COMMIT") == 1
    assert [await table.add(number) for number in (10, 11, 12)] == [True] * 3
    assert table.said.count("COMMIT") == 4


async def test_commit_is_prepared_once_for_all_its_transactions(table):
    """In the same transaction: it sees what they have done, and an error undoes all of it."""
    await asyncio.gather(*map(table.add, range(3)))
    assert table.preparations == [[0, 1, 2]]
    ends = await asyncio.gather(table.add(3), table.add(100), return_exceptions=True)
    assert [type(end) for end in ends] == [sqlite3.IntegrityError] * 2
    assert table.numbers() == [0, 1, 2]
    assert await table.add(4)


async def test_failed_transaction_releases_the_write_lock(table):
    """Other processes can write at once."""
    with pytest.raises(ValueError, match="no"):
        await table.add(1, failing=ValueError("no"))
    table.reader.execute("INSERT INTO numbers VALUES (2)")
    assert table.numbers() == [2]


@pytest.mark.parametrize(
    ("statement", "failures"),
    [
        ("INSERT INTO pointers VALUES (? + 8)", [sqlite3.IntegrityError] * 2),
        ("INSERT OR ROLLBACK INTO numbers VALUES (?)", [sqlite3.OperationalError, sqlite3.IntegrityError]),
    ],
    ids=["failed commit", "rollback by SQLite"],
)
async def test_failed_commit_fails_the_whole_group(table, statement, failures):
    """So does a statement whose error ends the transaction. Nothing of it is stored, and the next group succeeds."""
    assert await table.add(1)
    ends = await asyncio.gather(table.add(2), table.add(1, statement=statement), return_exceptions=True)
    assert [type(end) for end in ends] == failures
    assert table.numbers() == [1]
    assert await table.add(3)


async def test_transaction_cancelled_during_its_commit_is_committed(table):
    """Its caller can't know the result."""
    tasks = [asyncio.create_task(table.add(number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [bool, asyncio.CancelledError, bool]
    assert table.numbers() == [0, 1, 2]
