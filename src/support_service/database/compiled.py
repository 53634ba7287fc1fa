"""SQLAlchemy Core statements that are compiled once and run directly by SQLite's driver.

SQLAlchemy's execution costs more than SQLite's own work: a point read of a case takes 30 us through SQLAlchemy and
12 us compiled. The difference is a tenth of the whole request. The stores mark the few hot-path statements with
`compiled`.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler

from support_service.database.protocols import Row

Statement = TypeVar("Statement", bound=Executable)
Processor = Callable[[Any], Any]
COMPILED_OPTION = "support_compiled"


def compiled(statement: Statement) -> Statement:
    """Mark a constant statement for direct execution; its parameters are bound by name, always by the same names."""
    return statement.execution_options(**{COMPILED_OPTION: True})


class CompiledStatement:
    """A compiled statement: its SQL, its bind processors and its result processors."""

    def __init__(self, statement: Executable, dialect: sa.Dialect, names: Sequence[str]) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(names))  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - compiled statements are never DDL
        self.sql = compiled.string
        self._names = list(compiled.positiontup or ())
        self._constants = {name: value for name, value in compiled.params.items() if name not in names}
        self._bind_processors = [
            compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in self._names
        ]
        columns = compiled._result_columns  # noqa: SLF001 - there is no public list
        self._result_processors: list[tuple[int, Processor]] = [
            (place, processor)
            for place, column in enumerate(columns)
            if (processor := column.type.dialect_impl(dialect).result_processor(dialect, None))
        ]
        self._to_row = _row_type([column.keyname for column in columns])._make

    def values(self, parameters: Mapping[str, Any] | None) -> list[Any]:
        """Return the parameters in the order of the SQL's placeholders, converted to the driver's types."""
        all_values = {**self._constants, **(parameters or {})}
        return [
            all_values[name] if process is None else process(all_values[name])
            for name, process in zip(self._names, self._bind_processors, strict=True)
        ]

    def row(self, raw: Sequence[Any] | None) -> Row | None:
        """Return a driver row with named fields, its values converted to the column types' Python values."""
        if raw is None:
            return None
        if self._result_processors:
            raw = list(raw)
            for place, processor in self._result_processors:
                raw[place] = processor(raw[place])
        row: Row = self._to_row(raw)
        return row


def _row_type(columns: Sequence[str]) -> Any:
    return namedtuple("Row", columns, rename=True)  # noqa: PYI024 - the columns are known at run time only
