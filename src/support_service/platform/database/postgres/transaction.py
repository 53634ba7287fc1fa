"""A PostgreSQL transaction, which sends inserts that nothing depends on together, in one round trip."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.platform.database import Parameters, Row
from support_service.platform.database.failures import StatementError
from support_service.platform.database.postgres.connection import ANSWERS, DRIVER_ERRORS, Connection, raise_translated
from support_service.platform.database.statements import CompiledStatement, StatementCache

PLACEHOLDER = re.compile(r"\$([0-9]+)")
MAX_CACHED_COMBINATIONS = 64  # combinations of statements kept as SQL; each capability's writes are a few

ParameterNames = tuple[str, ...]
Answer = TypeVar("Answer")


class PostgresTransaction:
    """Runs statements on one connection, between BEGIN, which is sent before the first of them, and COMMIT."""

    def __init__(self, connection: Connection, statements: StatementCache) -> None:
        self._connection = connection
        self._statements = statements
        self._begun = False
        self._waiting: dict[sa.Table, tuple[sa.Insert, Mapping[str, Any]]] = {}  # inserts by their table
        self.is_answered = True  # false while the server works on a statement, and if its answer was not awaited

    async def fetch_one(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        rows = await self.fetch_all(statement, parameters)
        return rows[0] if rows else None

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        if parameters is None or isinstance(parameters, Mapping):
            sql, values, form = self._statements.bind(statement, parameters)
            return form.rows(await self._run(self._connection.fetch, sql, *values))
        sql, sets, form = self._bind_sets(statement, parameters)
        return form.rows(await self._run(self._connection.fetchmany, sql, sets))

    async def execute(self, statement: Executable, parameters: Parameters | None = None) -> int:
        if parameters is None or isinstance(parameters, Mapping):
            sql, values, _ = self._statements.bind(statement, parameters)
            return number_of_rows(await self._run(self._connection.execute, sql, *values))
        sql, sets, _ = self._bind_sets(statement, parameters)
        await self._run(self._connection.executemany, sql, sets)
        return -1

    async def insert_later(self, statement: sa.Insert, parameters: Mapping[str, Any]) -> None:
        table = statement.table
        assert isinstance(table, sa.Table)  # noqa: S101 - the inserts of the stores name tables
        if table in self._waiting:  # the rows of one table are inserted in the order of the calls
            await self._insert_pending()
        self._waiting[table] = (statement, parameters)

    async def commit(self) -> None:
        """Run the inserts that wait, and commit.

        Raises StatementError if the server has rolled back, because a statement before had failed.
        """
        await self._insert_pending()
        if self._begun:
            answer = await self._ask(self._connection.execute, "COMMIT")
            if answer != "COMMIT":
                raise StatementError("a transaction was rolled back because one of its statements had failed")

    async def roll_back(self) -> None:
        """Undo everything."""
        if self._begun:
            await self._ask(self._connection.execute, "ROLLBACK")

    async def _insert_pending(self) -> None:
        """Run the inserts that wait, all in one statement."""
        if not self._waiting:
            return
        waiting = list(self._waiting.values())
        self._waiting.clear()
        if len(waiting) == 1:
            sql, values, _ = self._statements.bind(*waiting[0])
        else:
            sql, statements = _combine_inserts(
                self._statements.dialect, tuple((statement, tuple(given)) for statement, given in waiting)
            )
            values = [
                value
                for statement, (_, given) in zip(statements, waiting, strict=True)
                for value in statement.values(given)
            ]
        await self._run(self._connection.execute, sql, *values)

    def _bind_sets(
        self, statement: Executable, sets: Sequence[Mapping[str, Any]]
    ) -> tuple[str, Sequence[Sequence[Any]], CompiledStatement]:
        bound = [self._statements.bind(statement, each) for each in sets]
        return bound[0].sql, [each.values for each in bound], bound[0].form

    async def _run(self, send: Callable[..., Awaitable[Answer]], sql: str, *arguments: Any) -> Answer:
        """Send a statement, after BEGIN and after the inserts that wait."""
        if self._waiting:
            await self._insert_pending()
        if not self._begun:
            await self._ask(self._connection.execute, self._connection.begin)
            self._begun = True
        return await self._ask(send, sql, *arguments)

    async def _ask(self, send: Callable[..., Awaitable[Answer]], sql: str, *arguments: Any) -> Answer:
        self.is_answered = False
        try:
            answer = await send(sql, *arguments)
        except DRIVER_ERRORS as failure:
            self.is_answered = isinstance(failure, ANSWERS)
            raise_translated(failure, self._connection)
        self.is_answered = True
        return answer


def number_of_rows(status: str) -> int:
    """Return the number at the end of a status, such as `INSERT 0 1`."""
    number = status.rpartition(" ")[2]
    return int(number) if number.isdigit() else 0


@lru_cache(maxsize=MAX_CACHED_COMBINATIONS)
def _combine_inserts(
    dialect: sa.Dialect, inserts: tuple[tuple[sa.Insert, ParameterNames], ...]
) -> tuple[str, Sequence[CompiledStatement]]:
    """Return one statement for several inserts, each given with the names of its parameters, and the inserts compiled.

    All but the last become common table expressions, which PostgreSQL executes whether or not they are referenced. They
    do not see one another's rows. Constraints are checked at the end of the statement.
    """
    statements = [CompiledStatement(insert, dialect, names) for insert, names in inserts]
    texts, places = [], 0
    for statement in statements:
        texts.append(_renumber_placeholders(statement.sql, places))
        places += statement.places
    *first, last = texts
    with_clause = ", ".join(f"insert_{number} AS ({text})" for number, text in enumerate(first))
    return f"WITH {with_clause} {last}", statements


def _renumber_placeholders(sql: str, offset: int) -> str:
    return PLACEHOLDER.sub(lambda place: f"${int(place[1]) + offset}", sql)
