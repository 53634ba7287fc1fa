"""Backup of a SQLite database that is in use: a copy of one moment, verified before it gets its name."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support_service.core.errors import UserError
from support_service.platform.database.failures import DATABASE_BUSY, code_of_sqlite_error, unusable_database_error
from support_service.platform.database.sqlite.connection import lock_out_others

COUNTED_TABLES = ("tickets", "messages", "attachments", "audit_log")
COUNTS = {name: f"SELECT count(*) FROM {name}" for name in COUNTED_TABLES}  # noqa: S608 - our own literals
PAGES_PER_STEP = 1000  # copied between two reports of progress
BUSY_TIMEOUT = 30.0  # seconds, for a checkpoint or a migration of another process


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup: its size in bytes, and the number of rows of the counted tables."""

    size: int
    rows: Mapping[str, int]


def back_up(source: Path, target: Path, advance: Callable[[int], None]) -> Backup:
    """Copy the database of a running service to an empty file, and verify the copy.

    The copy is of the moment at which it begins: one transaction reads all pages, and changes made meanwhile wait for
    nothing. `advance` is called with bytes that were copied. Raises UserError if the copy can't be made, is damaged
    or has other rows.
    """
    try:
        return _back_up(source, target, advance)
    except sqlite3.Error as failure:  # such as of a full disk
        raise UserError(f"{source} can't be copied to {target}: {failure}") from failure


def _back_up(source: Path, target: Path, advance: Callable[[int], None]) -> Backup:
    with _connected(source) as reading, _connected(target) as writing:
        reading.execute("BEGIN")  # without it, each change of another process would start the copy over
        rows = _count_rows(reading)
        (page_size,) = reading.execute("PRAGMA page_size").fetchone()
        copied = 0

        def report(_status: int, remaining: int, total: int) -> None:
            nonlocal copied
            advance((total - remaining - copied) * page_size)
            copied = total - remaining

        reading.backup(writing, pages=PAGES_PER_STEP, progress=report)
        reading.execute("ROLLBACK")
        problems = [problem for (problem,) in writing.execute("PRAGMA integrity_check(10)") if problem != "ok"]
        if problems or _count_rows(writing) != rows:
            raise UserError(f"The copy is damaged: {'; '.join(problems) or 'rows are missing'}")
    return Backup(target.stat().st_size, rows)


def is_in_use(path: Path) -> bool:
    """Return whether another process has the database open. Raises Unavailable if it can't be used."""
    with _connected(path, timeout=0) as connection:
        try:
            lock_out_others(connection)
        except sqlite3.OperationalError as failure:
            if code_of_sqlite_error(failure) != DATABASE_BUSY:
                raise unusable_database_error(failure, f"sqlite:///{path}") from failure
            return True
        return False


def _count_rows(connection: sqlite3.Connection) -> dict[str, int]:
    return {name: connection.execute(count).fetchone()[0] for name, count in COUNTS.items()}


@contextmanager
def _connected(path: Path, timeout: float = BUSY_TIMEOUT) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=timeout, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()
