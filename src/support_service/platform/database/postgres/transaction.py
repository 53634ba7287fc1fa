"""A PostgreSQL transaction, which sends inserts that nothing depends on together, in one round trip."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.base import Executable

from support_service.platform.database import Parameters, Row
from support_service.platform.database.statements import CompiledStatement

PLACEHOLDER = re.compile(r"\$([0-9]+)")
MAX_CACHED_COMBINATIONS = 64  # combinations of statements kept as SQL; each capability's writes are a few

ParameterNames = tuple[str, ...]


class PostgresTransaction:
    """Runs statements on one connection, between BEGIN and COMMIT."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._waiting: dict[sa.Table, tuple[sa.Insert, Mapping[str, Any]]] = {}  # inserts by their table

    async def fetch_one(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        return (await self._execute(statement, parameters)).first()

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        return (await self._execute(statement, parameters)).all()

    async def execute(self, statement: Executable, parameters: Parameters | None = None) -> int:
        return (await self._execute(statement, parameters)).rowcount

    async def insert_later(self, statement: sa.Insert, parameters: Mapping[str, Any]) -> None:
        table = statement.table
        assert isinstance(table, sa.Table)  # noqa: S101 - the inserts of the stores name tables
        if table in self._waiting:  # the rows of one table are inserted in the order of the calls
            await self.insert_pending()
        self._waiting[table] = (statement, parameters)

    async def insert_pending(self) -> None:
        """Run the inserts that wait, all in one statement."""
        if not self._waiting:
            return
        waiting = list(self._waiting.values())
        self._waiting.clear()
        if len(waiting) == 1:
            await self._connection.execute(*waiting[0])
            return
        dialect = self._connection.dialect
        sql, statements = _combine_inserts(dialect, tuple((statement, tuple(given)) for statement, given in waiting))
        values = [
            value
            for statement, (_, given) in zip(statements, waiting, strict=True)
            for value in statement.values(given)
        ]
        await self._connection.exec_driver_sql(sql, tuple(values))

    async def _execute(self, statement: Executable, parameters: Parameters | None) -> sa.CursorResult[Any]:
        await self.insert_pending()
        return await self._connection.execute(statement, parameters)


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
