"""A transaction without locks: it reads rows with their versions, and sends all its changes at its end.

A change takes two round trips: a read and a statement. BEGIN, a lock, the changes and COMMIT would be four.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.platform.database import LockedRead, Parameters, RetryWithLocks, Row, RowChange
from support_service.platform.database.postgres.group_commit import GroupCommit
from support_service.platform.database.postgres.pending_changes import MAX_CACHED_STATEMENTS, PendingChanges
from support_service.platform.database.single_rows import ROW_ID, ROW_VERSION, only_of_version
from support_service.platform.database.statements import BoundStatement, StatementCache

_LOCKS = re.compile(r"\bFOR (NO KEY UPDATE|UPDATE|SHARE|KEY SHARE)\b")


class _ReadRow(NamedTuple):
    """A row that this transaction has read, by the parameters that name it, and its version."""

    key: Mapping[str, Any]
    version: int


class OptimisticTransaction:
    """Reads committed rows, and keeps the changes.

    Its methods raise RetryWithLocks for changing a row twice, for reading what it has changed, and for telling how many
    rows a statement has changed.
    """

    def __init__(self, statements: StatementCache, read: Callable[[BoundStatement], Awaitable[Sequence[Row]]]) -> None:
        self._statements = statements
        self._read = read
        self._rows: dict[sa.Table, _ReadRow] = {}
        self._ids: set[Any] = set()  # of the rows that are changed; an insert may read only these
        self._changes = PendingChanges()

    async def fetch_now(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        rows = await self.fetch_all(statement, parameters)
        return rows[0] if rows else None

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        assert parameters is None or isinstance(parameters, Mapping)  # noqa: S101 - reads have one set of parameters
        bound = self._statements.bind(statement, parameters)
        if not _is_plain_read(bound.sql) or self._changes.are_read_by(bound.sql):
            raise RetryWithLocks
        return await self._read(bound)

    async def execute(self, _statement: Executable, _parameters: Parameters | None = None) -> int:
        raise RetryWithLocks

    async def execute_later(self, statement: sa.Insert | sa.Update, parameters: Parameters) -> None:
        for each in [parameters] if isinstance(parameters, Mapping) else parameters:
            self._add(statement, each, is_one_row_each=isinstance(statement, sa.Update))

    async def change_one(self, statement: sa.Insert | sa.Update, parameters: Mapping[str, Any]) -> bool:
        if isinstance(statement, sa.Insert):
            self._changes.unique_values = tuple(str(parameters[name]) for name in _unique_columns(statement.table))
        self._add(statement, parameters, is_one_row_each=True)
        return True

    async def lock_row(self, row: LockedRead, parameters: Mapping[str, Any]) -> Row | None:
        return await self._read_with_version(row.table, row.read_with_version, parameters)

    async def change_row(self, change: RowChange, parameters: Mapping[str, Any]) -> Row | None:
        row = await self._read_with_version(change.table, change.preview, parameters)
        if row is not None:
            self._add(change.change_only, parameters, is_one_row_each=True)
        return row

    async def commit(self, group_commit: GroupCommit) -> None:
        """Make the changes, with changes of other transactions. Raises the errors of `GroupCommit.commit`."""
        if not self._changes:
            return
        if not all(self._changes.changes_table(table.name) for table in self._rows):
            raise RetryWithLocks  # the version of a row that is not changed is not checked
        await group_commit.commit(self._changes)

    async def _read_with_version(
        self, table: sa.Table, statement: sa.Select[Any], parameters: Mapping[str, Any]
    ) -> Row | None:
        row = await self.fetch_now(statement, parameters)
        if row is None:
            return None
        read = _ReadRow(parameters, getattr(row, ROW_VERSION))
        if self._rows.setdefault(table, read).version != read.version:
            raise RetryWithLocks
        return row

    def _add(self, statement: sa.Insert | sa.Update, parameters: Mapping[str, Any], *, is_one_row_each: bool) -> None:
        table = statement.table
        assert isinstance(table, sa.Table)  # noqa: S101 - the changes of the stores name tables
        read = self._rows.get(table)
        if read is not None and not self._changes.changes_table(table.name):
            if not isinstance(statement, sa.Update) or any(
                parameters.get(name, value) != value for name, value in read.key.items()
            ):
                raise RetryWithLocks
            statement = only_of_version(statement)
            parameters = {**parameters, ROW_VERSION: read.version}
        bound = self._statements.bind(statement, parameters)
        if self._changes.are_read_by(bound.sql, besides=table.name) and parameters.get(ROW_ID) not in self._ids:
            raise RetryWithLocks
        self._ids.add(parameters.get(ROW_ID, parameters.get("id")))
        if not self._changes.add(table, bound, is_one_row_each=is_one_row_each):
            raise RetryWithLocks


@lru_cache(maxsize=MAX_CACHED_STATEMENTS)
def _is_plain_read(sql: str) -> bool:
    """Return whether a statement is a SELECT without locks."""
    return sql.startswith("SELECT") and _LOCKS.search(sql) is None


@cache
def _unique_columns(table: sa.FromClause) -> list[str]:
    """Return the columns of the unique indexes of a table, always in the same order."""
    assert isinstance(table, sa.Table)  # noqa: S101 - the changes of the stores name tables
    indexes = sorted([column.name for column in index.columns] for index in table.indexes if index.unique)
    return [name for columns in indexes for name in columns]
