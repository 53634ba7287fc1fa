"""A SQLite connection, its transactions, and the identity of the file that is open.

Compiled statements run on the driver, all others through SQLAlchemy.
"""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.core.errors import problem
from support_service.platform.database import LockedRead, Parameters, Row, RowChange
from support_service.platform.database.failures import DATABASE_FILE_CHANGED
from support_service.platform.database.statements import COMPILED_OPTION, CompiledStatement, with_padded_lists

WAL_SUFFIX = "-wal"


def create_missing_file(path: Path) -> None:
    """Create the file of a database, and its folder, for their owner only. What exists keeps its mode.

    SQLite gives the write-ahead log and its index the mode of the file.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def lock_out_others(connection: sqlite3.Connection) -> None:
    """Begin a transaction that excludes all other processes, also readers, before the first read of a connection.

    Raises sqlite3.OperationalError while another process has the database open.
    """
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("BEGIN EXCLUSIVE")


class SqliteConnection:
    """A connection that runs compiled statements directly on the driver, and all others through SQLAlchemy."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._prepared: dict[Executable, CompiledStatement] = {}
        raw = connection.connection.driver_connection
        assert raw is not None  # noqa: S101 - an open connection has a driver connection
        self.raw: sqlite3.Connection = raw

    def fetch_now(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        # Tests for dict, because isinstance of Mapping takes 1 us.
        if parameters is None or isinstance(parameters, dict):
            prepared = self._compiled_form(statement, parameters)
            if prepared:
                return prepared.row(self.raw.execute(prepared.sql, prepared.values(parameters)).fetchone())
        return self._execute(statement, parameters).first()

    def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        if parameters is None or isinstance(parameters, dict):
            prepared = self._compiled_form(statement, parameters)
            if prepared:
                return prepared.rows(self.raw.execute(prepared.sql, prepared.values(parameters)).fetchall())
        return self._execute(statement, parameters).all()

    def execute(self, statement: Executable, parameters: Parameters | None = None) -> int:
        """Run a statement once for each set of parameters, and return the number of rows changed."""
        if parameters is None or isinstance(parameters, dict):
            prepared = self._compiled_form(statement, parameters)
            if prepared:
                return self._changed_rows(self.raw.execute(prepared.sql, prepared.values(parameters)).rowcount)
        else:
            parameter_sets = cast("Sequence[Mapping[str, Any]]", parameters)
            prepared = self._compiled_form(statement, parameter_sets[0])
            if prepared:
                return self.raw.executemany(prepared.sql, map(prepared.values, parameter_sets)).rowcount
        return self._changed_rows(self._execute(statement, parameters).rowcount)

    def _changed_rows(self, row_count: int) -> int:
        """Return the number of rows that the last statement changed. Python's driver counts none after a WITH."""
        return row_count if row_count >= 0 else self.raw.execute("SELECT changes()").fetchone()[0]

    def close(self) -> None:
        self._connection.close()

    def _execute(self, statement: Executable, parameters: Parameters | None) -> sa.CursorResult[Any]:
        return self._connection.execute(statement, with_padded_lists(statement, parameters))

    def _compiled_form(self, statement: Executable, parameters: Mapping[str, Any] | None) -> CompiledStatement | None:
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

    async def fetch_now(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        return self._connection.fetch_now(statement, parameters)

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        return self._connection.fetch_all(statement, parameters)

    async def execute(self, statement: Executable, parameters: Parameters | None = None) -> int:
        return self._connection.execute(statement, parameters)

    async def execute_later(self, statement: sa.Insert | sa.Update, parameters: Parameters) -> None:
        self._connection.execute(statement, parameters)

    async def change_one(self, statement: sa.Insert | sa.Update, parameters: Mapping[str, Any]) -> bool:
        return bool(self._connection.execute(statement, parameters))

    async def lock_row(self, row: LockedRead, parameters: Mapping[str, Any]) -> Row | None:
        return self._connection.fetch_now(row.read, parameters)

    async def change_row(self, change: RowChange, parameters: Mapping[str, Any]) -> Row | None:
        return self._connection.fetch_now(change.change, parameters)


class FileIdentity:
    """The identities (device and inode) of an open database file and of its write-ahead log.

    SQLite keeps files open. After a file was deleted or replaced it would go on to write to the deleted one, and every
    change would be lost.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = (str(path), f"{path}{WAL_SUFFIX}")
        self._identities: list[tuple[int, int]] = []

    def remember(self) -> None:
        """Remember which files are open; call it after the first read, which opens the log. Raises OSError."""
        self._identities = [self._read_identity(name) for name in self._names]

    def check(self) -> None:
        """Raise Unavailable with the code DATABASE_FILE_CHANGED if other files have the names now, or none has.

        It takes 4 us. Before `remember` it does nothing.
        """
        if not self._identities:
            return
        try:
            unchanged = [self._read_identity(name) for name in self._names] == self._identities
        except OSError:
            unchanged = False
        if not unchanged:
            raise problem(
                DATABASE_FILE_CHANGED,
                f"{self._path} or its {WAL_SUFFIX} file was deleted or replaced while it is open. Nothing is written "
                "until the files are back, or the service is restarted.",
            )

    @staticmethod
    def _read_identity(name: str) -> tuple[int, int]:
        status = os.stat(name)  # noqa: PTH116 - pathlib costs more than the call
        return status.st_dev, status.st_ino
