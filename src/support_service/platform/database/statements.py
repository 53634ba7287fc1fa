"""Statements: how the databases execute them, pages that are limited by bytes, and deletions in batches.

SQLAlchemy's execution costs more than SQLite's own work: a point read of a case takes 30 us through SQLAlchemy and
12 us compiled. The difference is a tenth of the whole request. The stores mark the few hot-path statements with
`compiled`. PostgreSQL runs all statements without SQLAlchemy's execution: see `StatementCache`.

PostgreSQL plans a statement that was run five times for values in general, if it expects that to cost no more. Then it
reads a list of the cases of a team in order, which takes seconds for a team with few cases. The stores mark such reads
with `planned_by_values`. SQLite plans no statement by values.
"""

from collections import namedtuple
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from cachetools import LRUCache
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.cache_key import CacheKey
from sqlalchemy.sql.compiler import SQLCompiler

from support_service.platform.database import Database, Parameters, Row, Transaction

Statement = TypeVar("Statement", bound=Executable)
Processor = Callable[[Any], Any]
Direction = Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]  # sort direction: sa.asc or sa.desc
COMPILED_OPTION = "support_compiled"
PLANNED_OPTION = "support_planned_by_values"
# SQLAlchemy asks for the driver's type of each column. With PostgreSQL's `numeric`, numbers become what the type of
# the column says.
NUMERIC = 1700
MAX_SHAPES = 500
MAX_EXPANSIONS = 50  # SQL texts kept for one shape, by the lengths of its lists
LIST_STEP = 256  # values by which longer lists grow
LONGEST_LIST = 32_000  # values that are padded: PostgreSQL takes up to 32,767 parameters
LISTS = (list, tuple, set, frozenset)


def compiled(statement: Statement) -> Statement:
    """Mark a constant statement for direct execution; its parameters are bound by name, always by the same names."""
    return statement.execution_options(**{COMPILED_OPTION: True})


def planned_by_values(statement: Statement) -> Statement:
    """Mark a read that PostgreSQL shall plan for each execution, which takes a millisecond."""
    return statement.execution_options(**{PLANNED_OPTION: True})


def is_planned_by_values(statement: Executable) -> bool:
    return PLANNED_OPTION in statement.get_execution_options()


def padded(values: list[Any]) -> list[Any]:
    """Return the values of `IN`, with the last one repeated up to a power of two, or to a multiple of LIST_STEP.

    Each number is another statement, which the database prepares and a connection keeps: up to 280 KB for 1400 values.
    """
    number = len(values)
    if number > LONGEST_LIST:
        return values
    length = 1 << (number - 1).bit_length() if 0 < number < LIST_STEP else -(-number // LIST_STEP) * LIST_STEP
    return values + values[-1:] * (length - number)


def with_padded_lists(statement: Executable, parameters: Parameters | None) -> Parameters | None:
    """Return the parameters of a statement that SQLAlchemy executes, with the lists of `IN` padded."""
    if not isinstance(parameters, dict) or not any(isinstance(value, LISTS) for value in parameters.values()):
        return parameters
    # SQLAlchemy needs the key anyway, and keeps it with the statement. To walk through a list of cases takes minutes:
    # it has the same parts in many places.
    key: CacheKey | None = statement._generate_cache_key()  # type: ignore[attr-defined]  # noqa: SLF001 - no public name
    names = {each.key for each in key.bindparams if each.expanding} if key else ()
    return {name: padded(list(value)) if name in names else value for name, value in parameters.items()}


class CompiledStatement:
    """A compiled statement: its SQL, its bind processors and its result processors."""

    def __init__(
        self, statement: Executable, dialect: sa.Dialect, names: Sequence[str], shape: CacheKey | None = None
    ) -> None:
        statement = copy(statement)  # because the compiled form refers to it, and may outlive the original
        if isinstance(statement, sa.Insert):
            statement = statement.inline()  # without RETURNING of the key, which no caller reads
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(names), cache_key=shape)  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - compiled statements are never DDL
        self.compiled = compiled
        self.sql = compiled.string
        places = list(compiled.positiontup or ())
        self.places = len(places)  # placeholders of the SQL
        self._select = _getter_of_values(places)
        self.bind_processors: dict[str, Processor] = {
            name: processor
            for name, parameter in compiled.binds.items()
            if (processor := parameter.type.dialect_impl(dialect).bind_processor(dialect))
        }
        self._processed_places = [
            (place, self.bind_processors[name]) for place, name in enumerate(places) if name in self.bind_processors
        ]
        columns = compiled._result_columns  # noqa: SLF001 - there is no public list
        self._result_processors: list[tuple[int, Processor]] = [
            (place, processor)
            for place, column in enumerate(columns)
            if (processor := column.type.dialect_impl(dialect).result_processor(dialect, NUMERIC))
        ]
        self._columns = [column.keyname for column in columns]
        self._to_row: Any = None  # known with the first row
        self._constants = (
            {name: value for name, value in compiled.params.items() if name not in names} if shape is None else {}
        )

    def values(self, parameters: Mapping[str, Any] | None) -> Sequence[Any]:
        """Return the parameters in the order of the SQL's placeholders, converted to the driver's types."""
        parameters = parameters or {}
        values: Sequence[Any] = self._select({**self._constants, **parameters} if self._constants else parameters)
        if self._processed_places:
            values = list(values)
            for place, processor in self._processed_places:
                values[place] = processor(values[place])
        return values

    def row(self, raw: Sequence[Any] | None) -> Row | None:
        """Return a driver row with named fields, its values converted to the column types' Python values."""
        return None if raw is None else self._convert(raw)

    def rows(self, raw: Sequence[Sequence[Any]]) -> Sequence[Row]:
        """Return driver rows, each as `row` does."""
        return [self._convert(each) for each in raw]

    def _convert(self, raw: Sequence[Any]) -> Row:
        if self._to_row is None:
            self._to_row = self._row_type(raw)._make
        if self._result_processors:
            raw = list(raw)
            for place, processor in self._result_processors:
                raw[place] = processor(raw[place])
        row: Row = self._to_row(raw)
        return row

    def _row_type(self, raw: Any) -> Any:
        """Return the type of the rows; rows of PostgreSQL have the names of columns that are given as SQL text."""
        if len(raw) != len(self._columns):  # a statement that is text as a whole, or EXPLAIN: no column has a type
            self._columns, self._result_processors = list(raw.keys()), []
        elif None in self._columns:
            self._columns = list(raw.keys())
        return namedtuple("Row", self._columns, rename=True)  # noqa: PYI024 - the columns are known at run time only


def _getter_of_values(names: Sequence[str]) -> Callable[[Mapping[str, Any]], Any]:
    """Return a function that returns a mapping's values of these names as a sequence."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: [values[name] for name in names]


class BoundStatement(NamedTuple):
    """A statement as the driver runs it: the SQL, the values of its placeholders, and what makes rows of the answer."""

    sql: str
    values: Sequence[Any]
    form: CompiledStatement


class _Shape:
    """The compiled form of all statements that differ in values only, and the SQL for each length of their lists."""

    def __init__(self, form: CompiledStatement) -> None:
        self.form = form
        names = form.compiled.bind_names
        self.lists = [names[parameter] for parameter in form.compiled.post_compile_params if parameter in names]
        self._by_lengths: LRUCache[tuple[int, ...], tuple[str, list[tuple[str, int | None]]]] = LRUCache(MAX_EXPANSIONS)

    def expand(self, named: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Return the SQL for the lists among the parameters, and the values of its placeholders."""
        lists = {name: padded(list(named[name])) for name in self.lists}
        lengths = tuple(map(len, lists.values()))
        if lengths not in self._by_lengths:
            self._by_lengths[lengths] = self._expand({**named, **lists})
        sql, places = self._by_lengths[lengths]
        values = []
        for name, number in places:
            value = named[name] if number is None else lists[name][number]
            processor = self.form.bind_processors.get(name)
            values.append(processor(value) if processor else value)
        return sql, values

    def _expand(self, named: Mapping[str, Any]) -> tuple[str, list[tuple[str, int | None]]]:
        """Return the SQL for lists of these lengths, and where the value of each of its placeholders is found.

        A place is the name of a parameter, and the position in it if it is a list.
        """
        state = self.form.compiled.construct_expanded_state(named, escape_names=False)
        places: dict[str, tuple[str, int | None]] = {
            expanded: (name, number)
            for name, parts in state.parameter_expansion.items()
            for number, expanded in enumerate(parts)
        }
        return state.statement, [places.get(name, (name, None)) for name in state.positiontup or ()]


class _KnownStatement(NamedTuple):
    """A statement with its shape, the values that it contains itself, and the names of the parameters it is given."""

    shape: _Shape
    own: Mapping[str, Any]
    names: tuple[str, ...]


class StatementCache:
    """The compiled forms of statements, and of all statements of the same shape.

    Statements have the same shape if they differ in values only. To find the shape of a list takes 115 us, so each
    statement is remembered too. It is forgotten when it ceases to exist: constants stay, others hold values.
    """

    def __init__(self, dialect: sa.Dialect) -> None:
        self.dialect = dialect
        self._known = WeakKeyDictionary[Executable, _KnownStatement]()
        self._shapes: LRUCache[Any, _Shape] = LRUCache(MAX_SHAPES)

    def bind(self, statement: Executable, parameters: Mapping[str, Any] | None) -> BoundStatement:
        parameters = parameters or {}
        known = self._known.get(statement)
        if known is None or known.names != tuple(parameters):
            known = self._known[statement] = self._find_shape(statement, parameters)
        shape, own, _ = known
        named = {**own, **parameters} if own else parameters
        if shape.lists:
            return BoundStatement(*shape.expand(named), shape.form)
        return BoundStatement(shape.form.sql, shape.form.values(named), shape.form)

    def _find_shape(self, statement: Executable, parameters: Mapping[str, Any]) -> _KnownStatement:
        names = tuple(parameters)
        key: CacheKey | None = statement._generate_cache_key()  # type: ignore[attr-defined]  # noqa: SLF001 - no public name
        if key is None:  # such as an insert of several rows by one statement
            shape = _Shape(CompiledStatement(statement, self.dialect, names))
        elif (found := self._shapes.get((key.key, names))) is not None:
            shape = found
        else:
            shape = self._shapes[key.key, names] = _Shape(CompiledStatement(statement, self.dialect, names, key))
        values = shape.form.compiled.construct_params(
            parameters, extracted_parameters=key.bindparams if key else (), escape_names=False
        )
        return _KnownStatement(shape, {name: value for name, value in values.items() if name not in parameters}, names)


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
