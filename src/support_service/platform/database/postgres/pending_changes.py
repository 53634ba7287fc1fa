"""Changes that wait to be sent together, and the statement that makes all of them.

The statement is made of common table expressions, each with the changes of one table and named like it. PostgreSQL
executes all of them. They do not see one another's changes in the tables. But the name of a table then means the rows
that the expression of this name returns. So the event about a case has the case as it is after its change.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa

from support_service.platform.database.statements import BoundStatement

MAX_CACHED_STATEMENTS = 256  # combinations of changes kept as SQL; each use case has a few
ROW_CHANGED = "another transaction has changed a row"  # in the log of the server: see `_check`
_PLACEHOLDER = re.compile(r"\$([0-9]+)((?:::[A-Z]+(?: WITH TIME ZONE)?)?)")
_INSERT = re.compile(r"(INSERT INTO \w+ \(.*?\))\s+(VALUES|SELECT)\s(.*?)((?: ON CONFLICT DO NOTHING)?)", re.DOTALL)
_UPDATE = re.compile(r"(UPDATE \w+ SET )(.*?)\s+WHERE\s+(.*)", re.DOTALL)


class _Change(NamedTuple):
    """The changes of one table without their values."""

    table: str
    sql: str
    places: int  # placeholders in `sql`
    is_one_row_each: bool  # each set of values must change a row
    is_many: bool = False  # several sets of values, which are sent as arrays


Shape = tuple[_Change, ...]


class PendingChanges:
    """Changes in the order in which they were made, each with its values.

    `unique_values` are the values of an inserted row that may exist already. The insert waits for another transaction
    that has inserted them. So statements must insert such rows in one order, or two of them would wait for each other.
    """

    def __init__(self) -> None:
        self.unique_values: tuple[str, ...] = ()
        self._values: dict[_Change, list[Sequence[Any]]] = {}
        self._by_table: dict[str, _Change] = {}

    def __bool__(self) -> bool:
        return bool(self._values)

    @property
    def shape(self) -> Shape:
        """What the changes of two transactions must have in common to be sent together."""
        return tuple(self._values)

    def add(self, table: sa.Table, bound: BoundStatement, *, is_one_row_each: bool = False) -> bool:
        """Add a change. Return False if it has to be sent after the others, because they change the table, too.

        Several rows of one table are added together if they are inserted by the same statement, or updated one by one.
        """
        change = _Change(table.name, bound.sql, len(bound.values), is_one_row_each)
        known = self._by_table.get(table.name)
        if known == change:
            self._values[change].append(bound.values)
            return True
        if known is not None:
            return self._merge(known, change, bound.values)
        self._values[change] = [bound.values]
        self._by_table[table.name] = change
        return True

    def _merge(self, known: _Change, change: _Change, values: Sequence[Any]) -> bool:
        """Make one update of two of the same row, if the second one needs no column of the table but the key."""
        first, second = _UPDATE.fullmatch(known.sql), _UPDATE.fullmatch(change.sql)
        if not (first and second) or f"{change.table}." in second[2] or len(self._values[known]) > 1:
            return False
        settings, condition = (_renumber(second[part], known.places) for part in (2, 3))
        sql = f"{first[1]}{first[2]}, {settings} WHERE {first[3]} AND {condition}"
        merged = _Change(known.table, sql, known.places + change.places, is_one_row_each=True)
        self._values = {
            merged if each is known else each: [[*rows[0], *values]] if each is known else rows
            for each, rows in self._values.items()
        }
        self._by_table[known.table] = merged
        return True

    def changes_table(self, name: str) -> bool:
        return name in self._by_table

    def are_read_by(self, sql: str, besides: str = "") -> bool:
        """Return whether a statement names a changed table, `besides` the table that it changes itself."""
        return _names_table(sql, (*self._by_table,), besides)

    def join(self, others: Sequence["PendingChanges"]) -> "PendingChanges":
        joined = PendingChanges()
        joined._by_table = self._by_table
        joined._values = {
            change: [row for each in (self, *others) for row in each._values[change]]  # noqa: SLF001 - of this class
            for change in self._values
        }
        return joined

    def statement(self, last: BoundStatement | None = None, *, checked: bool = False) -> tuple[str, list[Any]]:
        """Return the SQL that makes all changes, and its values. `last` is executed with them, and gives the answer.

        If it is `checked`, it fails if a set of values that must change a row has not changed one.
        """
        shape = tuple(change._replace(is_many=len(rows) > 1) for change, rows in self._values.items())
        values: list[Any] = []
        for rows in self._values.values():
            values += rows[0] if len(rows) == 1 else map(list, zip(*rows, strict=True))
        if last is None:
            return _combine(shape, checked=checked), values
        return f"{_with(shape)} {_renumber(last.sql, len(values))}", values + list(last.values)


@lru_cache(maxsize=MAX_CACHED_STATEMENTS)
def _combine(shape: Shape, *, checked: bool) -> str:
    if checked and any(change.is_one_row_each for change in shape):
        return f"{_with(shape)} {_check(shape)}"
    if len(shape) > 1:
        return f"{_with(shape)} SELECT 1"
    return _for_arrays(shape[0].sql) if shape[0].is_many else shape[0].sql


@lru_cache(maxsize=MAX_CACHED_STATEMENTS)
def _with(shape: Shape) -> str:
    places, expressions = 0, []
    for number, change in enumerate(shape):
        sql = _renumber(_for_arrays(change.sql) if change.is_many else change.sql, places)
        is_read = change.is_one_row_each or any(_names_table(each.sql, (change.table,)) for each in shape[number + 1 :])
        returning = f" RETURNING {change.table}.*" if is_read else ""
        expressions.append(f"{change.table} AS ({sql}{returning})")
        places += change.places
    return f"WITH {', '.join(expressions)}"


def _check(shape: Shape) -> str:
    """Return the SELECT that fails if a row was not changed, which undoes all changes.

    It converts a text to a number, so that the server's log shows the reason.
    """
    places, conditions = 1, []
    for change in shape:
        if change.is_one_row_each:
            expected = f"cardinality(${places})" if change.is_many else "1"
            conditions.append(f"(SELECT count(*) FROM {change.table}) = {expected}")  # noqa: S608 - compiled parts, bound values
        places += change.places
    return f"SELECT CAST(CASE WHEN {' AND '.join(conditions)} THEN '1' ELSE '{ROW_CHANGED}' END AS INTEGER)"


def _for_arrays(sql: str) -> str:
    """Return a change of one row as a change of many, whose placeholders are arrays with a value for each row."""
    types: dict[int, str] = {}

    def column(place: re.Match[str]) -> str:
        types[int(place[1])] = place[2] or types.get(int(place[1]), "")
        return f"given.p{place[1]}"

    changed = _PLACEHOLDER.sub(column, sql)
    numbers = sorted(types)
    arrays = ", ".join(f"${number}{types[number]}[]" for number in numbers)
    columns = ", ".join(f"p{number}" for number in numbers)
    given = f"unnest({arrays}) WITH ORDINALITY AS given({columns}, number)"
    if update := _UPDATE.fullmatch(changed):
        return f"{update[1]}{update[2]} FROM {given} WHERE {update[3]}"
    insert = _INSERT.fullmatch(changed)
    assert insert is not None  # noqa: S101 - stores defer inserts and updates
    into, kind, what, conflict = insert.groups()
    if kind == "VALUES":
        return f"{into} SELECT {what.removeprefix('(').removesuffix(')')} FROM {given}{conflict}"  # noqa: S608 - compiled parts, bound values
    rows = f"SELECT added.* FROM {given} CROSS JOIN LATERAL (SELECT {what}) AS added ORDER BY given.number"  # noqa: S608 - compiled parts, bound values
    return f"{into} {rows}{conflict}"


def _renumber(sql: str, offset: int) -> str:
    return _PLACEHOLDER.sub(lambda place: f"${int(place[1]) + offset}{place[2]}", sql)


@lru_cache(maxsize=4 * MAX_CACHED_STATEMENTS)
def _names_table(sql: str, tables: tuple[str, ...], besides: str = "") -> bool:
    return any(re.search(rf"\b{table}\b", sql) for table in tables if table != besides)
