"""Statements: how the databases execute them, pages that are limited by bytes, and deletions in batches.

SQLAlchemy's execution costs more than SQLite's own work: a point read of a case takes 30 us through SQLAlchemy and
12 us compiled. The difference is a tenth of the whole request. The stores mark the few hot-path statements with
`compiled`.

PostgreSQL plans a statement that was run five times for values in general, if it expects that to cost no more. Then it
reads a list of the cases of a team in order, which takes seconds for a team with few cases. The stores mark such reads
with `planned_by_values`. SQLite plans no statement by values.
"""

from collections import namedtuple
from collections.abc import Awaitable, Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler

from support_service.platform.database import Database, Row, Transaction

Statement = TypeVar("Statement", bound=Executable)
Processor = Callable[[Any], Any]
Direction = Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]  # sort direction: sa.asc or sa.desc
COMPILED_OPTION = "support_compiled"
PLANNED_OPTION = "support_planned_by_values"


def compiled(statement: Statement) -> Statement:
    """Mark a constant statement for direct execution; its parameters are bound by name, always by the same names."""
    return statement.execution_options(**{COMPILED_OPTION: True})


def planned_by_values(statement: Statement) -> Statement:
    """Mark a read that PostgreSQL shall plan for each execution, which takes a millisecond and two round trips."""
    return statement.execution_options(**{PLANNED_OPTION: True})


def is_planned_by_values(statement: Executable) -> bool:
    """Return whether a statement is marked."""
    return PLANNED_OPTION in statement.get_execution_options()


class CompiledStatement:
    """A compiled statement: its SQL, its bind processors and its result processors."""

    def __init__(self, statement: Executable, dialect: sa.Dialect, names: Sequence[str]) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(names))  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - compiled statements are never DDL
        self.sql = compiled.string
        places = list(compiled.positiontup or ())
        self.places = len(places)  # placeholders of the SQL
        self._select = _getter_of_values(places)
        self._constants = {name: value for name, value in compiled.params.items() if name not in names}
        self._bind_processors: list[tuple[int, Processor]] = [
            (place, processor)
            for place, name in enumerate(places)
            if (processor := compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
        ]
        columns = compiled._result_columns  # noqa: SLF001 - there is no public list
        self._result_processors: list[tuple[int, Processor]] = [
            (place, processor)
            for place, column in enumerate(columns)
            if (processor := column.type.dialect_impl(dialect).result_processor(dialect, None))
        ]
        self._to_row = _row_type([column.keyname for column in columns])._make

    def values(self, parameters: Mapping[str, Any] | None) -> Sequence[Any]:
        """Return the parameters in the order of the SQL's placeholders, converted to the driver's types."""
        parameters = parameters or {}
        values: Sequence[Any] = self._select({**self._constants, **parameters} if self._constants else parameters)
        if self._bind_processors:
            values = list(values)
            for place, processor in self._bind_processors:
                values[place] = processor(values[place])
        return values

    def row(self, raw: Sequence[Any] | None) -> Row | None:
        """Return a driver row with named fields, its values converted to the column types' Python values."""
        return None if raw is None else self._convert(raw)

    def rows(self, raw: Sequence[Sequence[Any]]) -> Sequence[Row]:
        """Return driver rows, each as `row` does."""
        return [self._convert(each) for each in raw]

    def _convert(self, raw: Sequence[Any]) -> Row:
        if self._result_processors:
            raw = list(raw)
            for place, processor in self._result_processors:
                raw[place] = processor(raw[place])
        row: Row = self._to_row(raw)
        return row


def _getter_of_values(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that returns a mapping's values of these names as a sequence."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


def _row_type(columns: Sequence[str]) -> Any:
    return namedtuple("Row", columns, rename=True)  # noqa: PYI024 - the columns are known at run time only


def locked_in_order(table: sa.Table, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return a condition that selects the rows matching `condition` and locks them in the order of seq.

    The relay, a replay and an erasure change the same rows. A plain UPDATE locks rows in physical order, so two of them
    could deadlock.
    """
    return table.c.seq.in_(sa.select(table.c.seq).where(condition).order_by(table.c.seq).with_for_update())


def limit_by_bytes(
    rows: sa.Select[Any], *order_columns: str, direction: Direction = sa.asc, limit: str = "bytes"
) -> sa.Subquery:
    """Return the rows of `rows` that begin within the first bytes, with the total number of rows as `number`.

    `limit` is the name of the parameter with the number of bytes.

    `rows` must have a column `size`. Sizes are summed in the order of the columns; the enclosing statement has to sort
    again.
    """
    return limit_ordered_by_bytes(rows, lambda sized: [direction(sized.c[name]) for name in order_columns], limit)


def limit_ordered_by_bytes(
    rows: sa.Select[Any], order_of: Callable[[sa.FromClause], Sequence[sa.ColumnElement[Any]]], limit: str = "bytes"
) -> sa.Subquery:
    """Return what `limit_by_bytes` returns; `order_of` returns the `ORDER BY` of rows that have the columns."""
    sized = rows.subquery()
    before = sa.func.sum(sized.c.size).over(order_by=order_of(sized)) - sized.c.size
    counted = sa.select(sized, before.label("before"), sa.func.count().over().label("number")).subquery()
    return sa.select(counted).where(counted.c.before < sa.bindparam(limit, type_=sa.BigInteger)).subquery()


async def delete_in_batches(
    database: Database, delete: Callable[[Transaction], Awaitable[int]], batch_size: int
) -> None:
    """Run `delete` in one transaction after another, until it deletes fewer than `batch_size` rows.

    Small transactions do not block other writers for long.
    """
    deleted = batch_size
    while deleted == batch_size:
        async with database.transaction() as tx:
            deleted = await delete(tx)
