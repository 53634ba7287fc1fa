"""A SQLite connection and its transactions: compiled statements run on the driver, all others through SQLAlchemy."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.platform.database.protocols import Parameters, Row
from support_service.platform.database.statements import COMPILED_OPTION, CompiledStatement


class SqliteConnection:
    """A connection that runs compiled statements directly on the driver, and all others through SQLAlchemy."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._prepared: dict[Executable, CompiledStatement] = {}
        raw = connection.connection.driver_connection
        assert raw is not None  # noqa: S101 - an open connection has a driver connection
        self.raw: sqlite3.Connection = raw

    def fetch_one(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        """Return the first row, or None."""
        # Tests for dict, because isinstance of Mapping takes 1 us.
        if parameters is None or isinstance(parameters, dict):
            prepared = self._prepare(statement, parameters)
            if prepared:
                return prepared.row(self.raw.execute(prepared.sql, prepared.values(parameters)).fetchone())
        return self._connection.execute(statement, parameters).first()

    def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        """Return all rows."""
        if parameters is None or isinstance(parameters, dict):
            prepared = self._prepare(statement, parameters)
            if prepared:
                return prepared.rows(self.raw.execute(prepared.sql, prepared.values(parameters)).fetchall())
        return self._connection.execute(statement, parameters).all()

    def execute(self, statement: Executable, parameters: Parameters | None = None) -> int:
        """Run a statement once for each set of parameters, and return the number of rows changed."""
        if parameters is None or isinstance(parameters, dict):
            prepared = self._prepare(statement, parameters)
            if prepared:
                return self.raw.execute(prepared.sql, prepared.values(parameters)).rowcount
        else:
            parameter_sets = cast("Sequence[Mapping[str, Any]]", parameters)
            prepared = self._prepare(statement, parameter_sets[0])
            if prepared:
                return self.raw.executemany(prepared.sql, map(prepared.values, parameter_sets)).rowcount
        return self._connection.execute(statement, parameters).rowcount

    def close(self) -> None:
        """Return the connection to the pool."""
        self._connection.close()

    def _prepare(self, statement: Executable, parameters: Mapping[str, Any] | None) -> CompiledStatement | None:
        """Return the compiled form of a statement, None if it is not marked with `compiled`."""
        prepared = self._prepared.get(statement)
        if prepared is None and statement.get_execution_options().get(COMPILED_OPTION):
            prepared = CompiledStatement(statement, self._connection.dialect, list(parameters or ()))
            self._prepared[statement] = prepared
        return prepared


class SqliteTransaction:
    """Runs statements on the single write connection, between BEGIN and COMMIT."""

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection = connection

    async def fetch_one(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        return self._connection.fetch_one(statement, parameters)

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        return self._connection.fetch_all(statement, parameters)

    async def execute(self, statement: Executable, parameters: Parameters | None = None) -> int:
        return self._connection.execute(statement, parameters)

    async def insert_later(self, statement: sa.Insert, parameters: Mapping[str, Any]) -> None:
        self._connection.execute(statement, parameters)
