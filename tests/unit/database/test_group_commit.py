"""Transactions that share a commit: each is undone alone, and none goes on before it is committed."""

import asyncio
import math
import sqlite3
from contextlib import closing

import pytest

from support_service.database.sqlite.group_commit import GroupCommit
from tests.support.calls import eventually


class Table:
    """A table of numbers that two connections have open, one of them for writing."""

    def __init__(self, path):
        self.writer = sqlite3.connect(path, isolation_level=None, timeout=0)
        self.reader = sqlite3.connect(path, isolation_level=None, timeout=0)
        self.writer.execute("PRAGMA journal_mode=WAL")
        self.writer.execute("PRAGMA foreign_keys=ON")
        self.writer.execute("CREATE TABLE numbers (number INTEGER PRIMARY KEY)")
        self.writer.execute(
            "CREATE TABLE pointers (number INTEGER REFERENCES numbers(number) DEFERRABLE INITIALLY DEFERRED)"
        )
        self.commits = GroupCommit(self.writer, max_waiting=100, check_file=lambda: None)
        self.said = []
        self.writer.set_trace_callback(self.said.append)

    def close(self):
        """Close both connections."""
        self.reader.close()
        self.writer.close()

    def numbers(self):
        """What is committed."""
        return [number for (number,) in self.reader.execute("SELECT number FROM numbers ORDER BY number")]

    async def add(self, number, *, failing=None, until=None, statement="INSERT INTO numbers VALUES (?)"):
        """Add a number in a transaction that fails after it, or waits for something."""
        await self.commits.take_turn(math.inf)
        try:
            if not self.writer.in_transaction:
                self.writer.execute("BEGIN IMMEDIATE")
            self.commits.set_savepoint()
            try:
                self.writer.execute(statement, (number,))
                if until:
                    await until.wait()
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
    """A table."""
    with closing(Table(tmp_path / "numbers.db")) as table:
        yield table


async def test_those_that_end_together_share_a_commit(table):
    """Ten at once cost one commit, and each sees itself committed when it goes on."""
    assert await asyncio.gather(*map(table.add, range(10))) == [True] * 10
    assert table.said.count("COMMIT") == 1


async def test_one_after_the_other_each_has_its_own(table):
    """Nobody waits for a transaction that is yet to come."""
    for number in range(3):
        assert await table.add(number)
    assert table.said.count("COMMIT") == 3


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_that_fails_is_undone_alone(table, place):
    """What the others did is kept, whether they came before or after it."""
    ends = await asyncio.gather(
        *(table.add(number, failing=ValueError("no") if number == place else None) for number in range(3)),
        return_exceptions=True,
    )
    assert [type(end) for end in ends] == [ValueError if number == place else bool for number in range(3)]
    assert table.numbers() == [number for number in range(3) if number != place]
    assert not table.writer.in_transaction


async def test_one_that_fails_by_itself_holds_nothing(table):
    """Other processes can write at once."""
    with pytest.raises(ValueError, match="no"):
        await table.add(1, failing=ValueError("no"))
    table.reader.execute("INSERT INTO numbers VALUES (2)")
    assert table.numbers() == [2]


async def test_a_commit_that_is_refused_is_everyones(table):
    """All whose work was in it are told, nothing of it is kept, and the next one succeeds."""
    ends = await asyncio.gather(
        table.add(1), table.add(2, statement="INSERT INTO pointers VALUES (?)"), return_exceptions=True
    )
    assert [type(end) for end in ends] == [sqlite3.IntegrityError] * 2
    assert table.numbers() == []
    assert await table.add(3)


async def test_what_sqlite_undoes_is_everyones(table):
    """Where a statement's failure ends the whole transaction, those who wait for its commit are told."""
    assert await table.add(1)
    ends = await asyncio.gather(
        table.add(2), table.add(1, statement="INSERT OR ROLLBACK INTO numbers VALUES (?)"), return_exceptions=True
    )
    assert [type(end) for end in ends] == [sqlite3.OperationalError, sqlite3.IntegrityError]
    assert table.numbers() == [1]
    assert await table.add(3)


async def test_one_that_waits_holds_up_the_others_commit(table):
    """A commit never falls into another's work: that one would be committed by halves."""
    going_on = asyncio.Event()
    first, second = asyncio.create_task(table.add(1)), asyncio.create_task(table.add(2, until=going_on))
    third = asyncio.create_task(table.add(3, failing=ValueError("no")))
    await eventually(lambda: table.said.count("SAVEPOINT one") == 1)  # the first needs none
    for _ in range(5):
        await asyncio.sleep(0)
    assert table.numbers() == []
    going_on.set()
    assert await first
    assert await second
    with pytest.raises(ValueError, match="no"):
        await third
    assert table.numbers() == [1, 2]


async def test_one_that_is_cancelled_while_it_waits_for_the_commit(table):
    """Its work is committed, as that of the others: whoever asked can't know."""
    tasks = [asyncio.create_task(table.add(number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [bool, asyncio.CancelledError, bool]
    assert table.numbers() == [0, 1, 2]
