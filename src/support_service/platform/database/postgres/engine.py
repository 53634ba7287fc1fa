"""PostgreSQL through asyncpg: one round trip per read, automatic reconnects."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from time import perf_counter
from types import TracebackType
from typing import Any

import pydantic_core
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.base import Executable

from support_service.core.errors import Unavailable
from support_service.platform.background import WorkSignal
from support_service.platform.database import ContendedRow, Parameters, PostgresTimings, Row, error_label, measured
from support_service.platform.database.dialect import to_json
from support_service.platform.database.failures import COMMIT_NOT_REPLICATED, DATABASE_READ_ONLY, database_error
from support_service.platform.database.postgres.connection import (
    ANSWERS,
    CONNECTION_LOST,
    DRIVER_ERRORS,
    STATEMENT_FORGOTTEN,
    Connection,
    Connector,
    PlanMode,
    raise_translated,
)
from support_service.platform.database.postgres.group_commit import GroupCommit
from support_service.platform.database.postgres.optimistic import OptimisticTransaction
from support_service.platform.database.postgres.pool import ConnectionPool
from support_service.platform.database.postgres.transaction import PostgresTransaction, number_of_rows
from support_service.platform.database.postgres.write_slots import WriteSlots
from support_service.platform.database.statements import BoundStatement, StatementCache, is_planned_by_values
from support_service.platform.telemetry.stores import PoolState, RecordOperation, discard_measurement

Values = Mapping[str, Any] | None
_LOST = (CONNECTION_LOST, STATEMENT_FORGOTTEN)

# By the role of the server, a standby, or by a setting; the same connection answers differently after a failover.
_READ_STATUS = sa.text("""
SELECT current_setting('transaction_read_only') AS read_only, EXISTS (
    SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query_start < clock_timestamp() - interval '2 s'
) AS commits_wait
""")


class Dialect(PGDialect_asyncpg):
    """PostgreSQL's SQL. JSON arrives as text, because no connection is told to decode it."""

    supports_native_json_deserialization = False
    supports_statement_cache = True


_STATEMENTS = StatementCache(Dialect(json_serializer=to_json, json_deserializer=pydantic_core.from_json))  # type: ignore[no-untyped-call]


class PostgresDatabase:
    """A bounded pool of connections, of which transactions with locks leave a quarter free, and one for pings."""

    is_shared = True

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        prepared_statements: bool = True,
        max_age: float = 1800.0,
        measure: RecordOperation = discard_measurement,
        timings: PostgresTimings = PostgresTimings(),
    ) -> None:
        """`max_age` is of connections, in seconds."""
        self.changed = WorkSignal()
        self.measure = measure
        self.statements = _STATEMENTS
        self._connector = Connector(url, timings, prepared_statements=prepared_statements, max_age=max_age)
        connect = self._connector.connect
        self.pool = ConnectionPool(connect, pool_size, timings.pool_timeout, timings.close_timeout)
        self._pings = ConnectionPool(connect, 1, timings.pool_timeout, timings.close_timeout)
        kept_for_reads = max(1, pool_size // 4)
        self.write_slots = WriteSlots(max(1, pool_size - kept_for_reads), timings.max_waiting, timings.pool_timeout)
        self.group_commit = GroupCommit(self._send_changes, timings.pool_timeout)
        self.operations = 0  # in progress, with or without a connection

    @property
    def prepared_statements(self) -> bool:
        return self._connector.names_statements

    async def open(self) -> None:
        await self._connector.look_for_pooler()
        await self._read(self._pings, _READ_STATUS, None)  # a replica that starts meanwhile can serve reads

    async def close(self) -> None:
        """Close connections gracefully for at most `close_timeout`, then terminate the others.

        A hung server would never complete a graceful close.
        """
        await asyncio.gather(self.pool.close(), self._pings.close())

    async def ping(self) -> None:
        rows = await self._read(self._pings, _READ_STATUS, None)
        if rows[0].read_only == "on":
            self.pool.leave_host()
            self._pings.leave_host()
            raise database_error(DATABASE_READ_ONLY)
        if rows[0].commits_wait:  # for a synchronous standby
            raise database_error(COMMIT_NOT_REPLICATED)

    async def fetch_now(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        rows = await self.fetch_all(statement, parameters)
        return rows[0] if rows else None

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        self.operations += 1
        try:
            return await self._read(self.pool, statement, parameters)
        finally:
            self.operations -= 1

    def pool_state(self) -> PoolState:
        pool = self.pool
        return PoolState(pool.used, pool.idle, pool.size, max(0, self.operations - pool.used))

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> int:
        if self.prepared_statements:
            try:
                return await self._execute_alone(statement, parameters)
            except Unavailable as failure:
                if failure.reason != STATEMENT_FORGOTTEN:
                    raise
        async with self.transaction() as tx:
            return await tx.execute(statement, parameters)

    async def _execute_alone(self, statement: Executable, parameters: Values) -> int:
        bound = self.statements.bind(statement, parameters)
        self.operations += 1
        try:
            with measured(self.measure, "TRANSACTION"):
                return number_of_rows(await self._send_changes(bound.sql, bound.values))
        finally:
            self.operations -= 1

    def transaction(
        self, *rows: ContendedRow, without_locks: bool = False
    ) -> AbstractAsyncContextManager[PostgresTransaction | OptimisticTransaction]:
        if without_locks and self.prepared_statements:
            return _OptimisticBlock(self, rows)
        return _TransactionBlock(self, rows)

    async def purge_search_index(self) -> None:
        """Do nothing: PostgreSQL's vacuum removes words of deleted rows from the index."""

    async def truncate_write_ahead_log(self) -> bool:
        """Do nothing: the server removes its log, unless an archive keeps it."""
        return True

    async def _read(self, pool: ConnectionPool, statement: Executable, parameters: Parameters | None) -> Sequence[Row]:
        """Read in one round trip; again if the pooled connection was lost, such as while it was idle."""
        started, error = perf_counter(), ""
        try:
            try:
                return await self._read_once(pool, statement, parameters)
            except Unavailable as failure:
                if failure.reason not in _LOST:
                    raise
            # Outside of the handler, where the first failure would become its context.
            return await self._read_once(pool, statement, parameters)
        except BaseException as failure:
            error = error_label(failure)
            raise
        finally:
            self.measure("SELECT", perf_counter() - started, error)

    async def _read_once(
        self, pool: ConnectionPool, statement: Executable, parameters: Parameters | None
    ) -> Sequence[Row]:
        assert parameters is None or isinstance(parameters, Mapping)  # noqa: S101 - reads have one set of parameters
        plan_mode: PlanMode = "force_custom_plan" if is_planned_by_values(statement) else "auto"
        if not self._connector.names_statements:
            return await self._read_in_transaction(pool, statement, parameters)
        if plan_mode != "auto" and not self._connector.keeps_settings:
            return await self._read_in_transaction(pool, statement, parameters, self._connector.begin_planned_by_values)
        bound = self.statements.bind(statement, parameters)
        return bound.form.rows(await _run_once(pool, Connection.fetch, bound.sql, bound.values, plan_mode))

    async def _read_in_transaction(
        self, pool: ConnectionPool, statement: Executable, parameters: Values, begin: str | None = None
    ) -> Sequence[Row]:
        connection = await pool.take()
        tx = PostgresTransaction(connection, self.statements, always_begins=True, begin=begin)
        try:
            rows = await tx.fetch_all(statement, parameters)
            await tx.commit()
        finally:
            pool.release(connection, answered=tx.is_answered)
        return rows

    async def read_unmeasured(self, bound: BoundStatement) -> Sequence[Row]:
        """Read for a transaction without locks, which is measured as a whole."""
        try:
            raw = await _run_once(self.pool, Connection.fetch, bound.sql, bound.values)
        except Unavailable as failure:
            if failure.reason not in _LOST:
                raise
            raw = await _run_once(self.pool, Connection.fetch, bound.sql, bound.values)
        return bound.form.rows(raw)

    async def _send_changes(self, sql: str, values: Sequence[Any]) -> str:
        """Run a statement that is a transaction of its own, in a slot of the process; return the server's status.

        It may wait for the lock of a table, or be one of many.
        """
        await self.write_slots.occupy(())
        try:
            status: str = await _run_once(self.pool, Connection.execute, sql, values)
        finally:
            self.write_slots.leave(())
        return status


async def _run_once(
    pool: ConnectionPool,
    run: Callable[..., Awaitable[Any]],
    sql: str,
    values: Sequence[Any],
    plan_mode: PlanMode = "auto",
) -> Any:
    """Run a statement by a method of the connection, and return the driver's answer.

    Raises Unavailable, with the reason CONNECTION_LOST if the connection was closed, and StatementError.
    """
    connection = await pool.take(plan_mode)
    is_answered = False
    try:
        answer = await run(connection, sql, *values)
        connection.check_replicated()
        is_answered = True
    except DRIVER_ERRORS as failure:
        is_answered = isinstance(failure, ANSWERS)
        if isinstance(failure, TimeoutError) and run is Connection.execute:
            await connection.wait_for_cancellation()
        raise_translated(failure, connection)
    finally:
        pool.release(connection, answered=is_answered)
    return answer


class _MeasuredBlock:
    """The block of one transaction, from its wait for a turn to its end."""

    __slots__ = ("_database", "_measured", "_rows")

    def __init__(self, database: PostgresDatabase, rows: Sequence[ContendedRow]) -> None:
        self._database = database
        self._rows = rows
        self._measured = measured(database.measure, "TRANSACTION")

    def _begin(self) -> None:
        self._database.operations += 1
        self._measured.__enter__()

    def _end(self, failure: BaseException | None) -> None:
        self._measured.__exit__(type(failure) if failure else None, failure, None)
        self._database.operations -= 1


class _OptimisticBlock(_MeasuredBlock):
    """The block of a transaction without locks, which takes a connection for each of its statements."""

    __slots__ = ("_tx",)

    async def __aenter__(self) -> OptimisticTransaction:
        database = self._database
        self._begin()
        try:
            await database.write_slots.occupy_rows(self._rows)
        except BaseException as failure:
            self._end(failure)
            raise
        self._tx = OptimisticTransaction(database.statements, database.read_unmeasured)
        return self._tx

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if failure is None:
                await self._tx.commit(self._database.group_commit)
        except BaseException as failed:
            failure = failed
            raise
        finally:
            self._database.write_slots.leave_rows(self._rows)
            self._end(failure)


class _TransactionBlock(_MeasuredBlock):
    """The block of a transaction with locks, which has a slot of the process and a connection."""

    __slots__ = ("_connection", "_tx")

    async def __aenter__(self) -> PostgresTransaction:
        database = self._database
        self._begin()
        try:
            await database.write_slots.occupy(self._rows)
            try:
                self._connection = await database.pool.take()
            except BaseException:
                database.write_slots.leave(self._rows)
                raise
        except BaseException as failure:
            self._end(failure)
            raise
        self._tx = PostgresTransaction(
            self._connection, database.statements, always_begins=not database.prepared_statements
        )
        return self._tx

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        database, tx = self._database, self._tx
        try:
            if failure is None:
                await tx.commit()
            elif tx.is_answered and isinstance(failure, Exception):
                with suppress(Unavailable):  # the transaction ends with its connection then
                    await tx.roll_back()
        except BaseException as failed:
            failure = failed
            raise
        finally:
            database.pool.release(self._connection, answered=tx.is_answered)
            database.write_slots.leave(self._rows)
            self._end(failure)
