"""A PostgreSQL transaction with locks, which sends changes that nothing depends on together with the next statement."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.platform.database import LockedRead, Parameters, Row, RowChange
from support_service.platform.database.failures import StatementError
from support_service.platform.database.postgres.connection import ANSWERS, DRIVER_ERRORS, Connection, raise_translated
from support_service.platform.database.postgres.pending_changes import PendingChanges
from support_service.platform.database.statements import BoundStatement, StatementCache

Answer = TypeVar("Answer")
_SENT_WITH_CHANGES = ("SELECT", "INSERT", "UPDATE", "DELETE")  # first words of statements that may follow a `WITH`


class PostgresTransaction:
    """Runs statements on one connection, between BEGIN, which is sent before the first of them, and COMMIT.

    Changes that are its only statement need neither, unless `always_begins`.
    """

    def __init__(
        self, connection: Connection, statements: StatementCache, *, always_begins: bool, begin: str | None = None
    ) -> None:
        """`begin` replaces the statements with which a transaction of the connection begins."""
        self._connection = connection
        self._begin_sql = begin or connection.begin
        self._statements = statements
        self._always_begins = always_begins
        self._begun = False
        self._changes = PendingChanges()
        self.is_answered = True  # false while the server works on a statement, and if its answer was not awaited

    async def fetch_now(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        rows = await self.fetch_all(statement, parameters)
        return rows[0] if rows else None

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        if parameters is None or isinstance(parameters, Mapping):
            bound = self._statements.bind(statement, parameters)
            return bound.form.rows(await self._run(self._connection.fetch, bound))
        sql, sets = await self._begin_with_sets(statement, parameters)
        rows = await self._ask(self._connection.fetchmany, sql, [each.values for each in sets])
        return sets[0].form.rows(rows)

    async def execute(self, statement: Executable, parameters: Parameters | None = None) -> int:
        if parameters is None or isinstance(parameters, Mapping):
            return number_of_rows(
                await self._run(self._connection.execute, self._statements.bind(statement, parameters))
            )
        sql, sets = await self._begin_with_sets(statement, parameters)
        await self._ask(self._connection.executemany, sql, [each.values for each in sets])
        return -1

    async def execute_later(self, statement: sa.Insert | sa.Update, parameters: Parameters) -> None:
        table = statement.table
        assert isinstance(table, sa.Table)  # noqa: S101 - the changes of the stores name tables
        if isinstance(statement, sa.Update) and self._changes.changes_table(table.name):
            await self._send_changes()  # it may change the same row, which one statement can't change twice
        for each in [parameters] if isinstance(parameters, Mapping) else parameters:
            bound = self._statements.bind(statement, each)
            if self._changes.are_read_by(bound.sql, besides=table.name) or not self._changes.add(table, bound):
                await self._send_changes()
                self._changes.add(table, bound)

    async def change_one(self, statement: sa.Insert | sa.Update, parameters: Mapping[str, Any]) -> bool:
        return bool(await self.execute(statement, parameters))

    async def lock_row(self, row: LockedRead, parameters: Mapping[str, Any]) -> Row | None:
        return await self.fetch_now(row.read_and_lock, parameters)

    async def change_row(self, change: RowChange, parameters: Mapping[str, Any]) -> Row | None:
        return await self.fetch_now(change.change, parameters)

    async def commit(self) -> None:
        """Run the changes that wait, and commit.

        Raises StatementError if the server has rolled back, because a statement before had failed.
        """
        if self._begun or self._always_begins:
            await self._send_changes()
        elif self._changes:
            await self._ask_changes()
        if not self._begun:
            return
        answer = await self._ask(self._connection.execute, "COMMIT")
        if answer != "COMMIT":
            raise StatementError("a transaction was rolled back because one of its statements had failed")

    async def roll_back(self) -> None:
        if self._begun:
            await self._ask(self._connection.execute, "ROLLBACK")

    async def _run(self, send: Callable[..., Awaitable[Answer]], bound: BoundStatement) -> Answer:
        """Send a statement with the changes that wait, or after them if it may depend on them."""
        await self._begin()
        if self._changes and (self._changes.are_read_by(bound.sql) or not bound.sql.startswith(_SENT_WITH_CHANGES)):
            await self._send_changes()
        if not self._changes:
            return await self._ask(send, bound.sql, *bound.values)
        sql, values = self._take_changes().statement(bound)
        return await self._ask(send, sql, *values)

    async def _begin_with_sets(
        self, statement: Executable, sets: Sequence[Mapping[str, Any]]
    ) -> tuple[str, Sequence[BoundStatement]]:
        """Begin, and return a statement's SQL and its forms with each set of parameters."""
        await self._begin()
        await self._send_changes()
        bound = [self._statements.bind(statement, each) for each in sets]
        return bound[0].sql, bound

    async def _send_changes(self) -> None:
        if self._changes:
            await self._begin()
            await self._ask_changes()

    async def _ask_changes(self) -> None:
        sql, values = self._take_changes().statement()
        await self._ask(self._connection.execute, sql, *values)

    def _take_changes(self) -> PendingChanges:
        changes, self._changes = self._changes, PendingChanges()
        return changes

    async def _begin(self) -> None:
        if not self._begun:
            await self._ask(self._connection.execute, self._begin_sql)
            self._begun = True

    async def _ask(self, send: Callable[..., Awaitable[Answer]], sql: str, *arguments: Any) -> Answer:
        self.is_answered = False
        try:
            answer = await send(sql, *arguments)
        except DRIVER_ERRORS as failure:
            self.is_answered = isinstance(failure, ANSWERS)
            if isinstance(failure, TimeoutError) and (sql == "COMMIT" or not self._begun):
                await self._connection.wait_for_cancellation()
            raise_translated(failure, self._connection)
        self._connection.check_replicated()
        self.is_answered = True
        return answer


def number_of_rows(status: str) -> int:
    """Return the number at the end of a status, such as `INSERT 0 1`."""
    number = status.rpartition(" ")[2]
    return int(number) if number.isdigit() else 0
