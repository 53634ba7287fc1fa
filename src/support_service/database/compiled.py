"""Core statements that are compiled once and run by SQLite's driver itself.

SQLAlchemy's execution costs more than SQLite's own work here: a case's point read takes 30 us through it and 12 us
prepared, which is a tenth of the whole request. The stores mark the few statements of the hot paths with `hot`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler

Statement = TypeVar("Statement", bound=Executable)
Processor = Callable[[Any], Any]
HOT = "support_hot"


def hot(statement: Statement) -> Statement:
    """Mark a constant statement that is always given the same parameter names, all of them bound by name."""
    return statement.execution_options(**{HOT: True})


class Prepared:
    """A statement's SQL, and how its values go in and come out."""

    def __init__(self, statement: Executable, dialect: sa.Dialect, names: Sequence[str]) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(names))  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - a hot statement is no DDL
        self.sql = compiled.string
        self._names = list(compiled.positiontup or ())
        self._constants = {name: value for name, value in compiled.params.items() if name not in names}
        self._into = [compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in self._names]
        self._out: list[tuple[int, Processor]] = [
            (place, processor)
            for place, column in enumerate(compiled._result_columns)  # noqa: SLF001 - there is no public list of them
            if (processor := column.type.dialect_impl(dialect).result_processor(dialect, None))
        ]

    def values(self, parameters: Mapping[str, Any] | None) -> list[Any]:
        """The parameters in the order of the SQL, as the driver takes them."""
        given = {**self._constants, **(parameters or {})}
        return [
            given[name] if into is None else into(given[name])
            for name, into in zip(self._names, self._into, strict=True)
        ]

    def row(self, raw: Sequence[Any] | None) -> Sequence[Any] | None:
        """A row of the driver's with its values as the columns' types have them."""
        if raw is None or not self._out:
            return raw
        row = list(raw)
        for place, processor in self._out:
            row[place] = processor(row[place])
        return row
