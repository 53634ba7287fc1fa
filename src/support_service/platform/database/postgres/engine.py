"""PostgreSQL through asyncpg: one round trip per read, automatic reconnects."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from weakref import WeakSet

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.base import Executable

from support_service.platform.database import ContendedRow, Parameters, PostgresTimings, Row, measured
from support_service.platform.database.dialect import to_json
from support_service.platform.database.failures import (
    DATABASE_POOL_EXHAUSTED,
    DATABASE_READ_ONLY,
    DATABASE_UNAVAILABLE,
    StatementError,
    code_of_sqlstate,
    database_error,
)
from support_service.platform.database.postgres.transaction import PostgresTransaction
from support_service.platform.database.postgres.write_slots import WriteSlots
from support_service.platform.database.statements import is_planned_by_values
from support_service.platform.telemetry.stores import PoolState, RecordOperation, discard_measurement

CLIENT_TIMEOUT_MARGIN = 0.2  # seconds that the driver waits longer for a statement than the server, which has a reason

# By the role of the server, a standby, or by a setting; the same connection answers differently after a failover.
_IS_READ_ONLY = sa.text("SELECT current_setting('transaction_read_only') AS read_only")

log = logging.getLogger(__name__)


class PostgresDatabase:
    """A bounded pool of connections, with a quarter that transactions leave to reads, and a connection for pings."""

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 10,
        measure: RecordOperation = discard_measurement,
        timings: PostgresTimings = PostgresTimings(),
    ) -> None:
        self._measure = measure
        self._timings = timings
        self._operations = 0  # in progress, with or without a connection
        self._connections: WeakSet[asyncpg.Connection] = WeakSet()
        self._engine = self._create_engine(url, pool_size)
        # Outside of a transaction a read is one round trip instead of three.
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._ping_engine = self._create_engine(url, 1)
        self._pinging = self._ping_engine.execution_options(isolation_level="AUTOCOMMIT")
        kept_for_reads = max(1, pool_size // 4)
        self._write_slots = WriteSlots(max(1, pool_size - kept_for_reads), timings.max_waiting, timings.pool_timeout)

    def _create_engine(self, url: str, pool_size: int) -> AsyncEngine:
        timings = self._timings
        statement_timeout = round(timings.statement_timeout * 1000)
        engine = create_async_engine(
            asyncpg_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timings.pool_timeout,
            pool_use_lifo=True,
            json_serializer=to_json,
            hide_parameters=True,  # exception texts are logged
            connect_args={
                "timeout": timings.connect_timeout,
                "command_timeout": timings.statement_timeout + CLIENT_TIMEOUT_MARGIN,
                # A replica that loses its network must not keep its locks: all uploads wait for the same row.
                "server_settings": {
                    "timezone": "UTC",
                    "application_name": "support-service",
                    # Compiling the statement of a search, or starting workers for it, takes longer than running it.
                    "jit": "off",
                    "max_parallel_workers_per_gather": "0",
                    # For memory and SSDs. With the default, which is for disks that seek, it would rather read and sort
                    # all cases that match than the first ones by an index.
                    "random_page_cost": "1.1",
                    "statement_timeout": str(statement_timeout),
                    "lock_timeout": str(round(timings.lock_timeout * 1000)),
                    "idle_in_transaction_session_timeout": str(statement_timeout),
                },
            },
        )
        sa.event.listen(engine.sync_engine, "connect", self._track_connection)
        return engine

    async def open(self) -> None:
        await self._read(self._pinging, _IS_READ_ONLY, None)  # a replica that starts meanwhile can serve reads

    async def close(self) -> None:
        """Close connections gracefully for at most `close_timeout`, then terminate the others.

        A hung server would never complete a graceful close.
        """
        engines = (self._engine, self._ping_engine)
        await asyncio.wait(
            {asyncio.create_task(engine.dispose()) for engine in engines}, timeout=self._timings.close_timeout
        )
        for connection in list(self._connections):
            if not connection.is_closed():
                connection.terminate()

    async def ping(self) -> None:
        rows = await self._read(self._pinging, _IS_READ_ONLY, None)
        if rows[0].read_only == "on":
            raise database_error(DATABASE_READ_ONLY)

    async def fetch_one(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        rows = await self.fetch_all(statement, parameters)
        return rows[0] if rows else None

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        with self._count_operation():
            return await self._read(self._reading, statement, parameters)

    def pool_state(self) -> PoolState:
        pool: Any = self._engine.pool
        used = pool.checkedout()
        return PoolState(used, pool.checkedin(), pool.size(), max(0, self._operations - used))

    @asynccontextmanager
    async def transaction(self, *rows: ContendedRow) -> AsyncIterator[PostgresTransaction]:
        with self._count_operation(), measured(self._measure, "TRANSACTION"), _translate_errors():
            async with self._write_slots.occupy(rows), self._engine.begin() as connection:
                tx = PostgresTransaction(connection)
                yield tx
                await tx.insert_pending()

    async def purge_search_index(self) -> None:
        """Do nothing: PostgreSQL's vacuum removes words of deleted rows from the index."""

    async def truncate_write_ahead_log(self) -> bool:
        """Do nothing: the server removes its log, unless an archive keeps it."""
        return True

    @contextmanager
    def _count_operation(self) -> Iterator[None]:
        self._operations += 1
        try:
            yield
        finally:
            self._operations -= 1

    def _track_connection(self, connection: Any, _: ConnectionPoolEntry) -> None:
        self._connections.add(connection.driver_connection)

    async def _read(self, engine: AsyncEngine, statement: Executable, parameters: Parameters | None) -> Sequence[Row]:
        """Read in one round trip; retry once if the pooled connection was lost while it was idle."""
        with measured(self._measure, "SELECT"), _translate_errors():
            try:
                return await _read_once(engine, statement, parameters)
            except sa.exc.DBAPIError as failure:
                if not failure.connection_invalidated:
                    raise
            return await _read_once(engine, statement, parameters)


async def _read_once(engine: AsyncEngine, statement: Executable, parameters: Parameters | None) -> Sequence[Row]:
    async with engine.connect() as connection:
        if not is_planned_by_values(statement):
            return (await connection.execute(statement, parameters)).all()
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute("SET plan_cache_mode = force_custom_plan")
        rows = (await connection.execute(statement, parameters)).all()
        # Not after a failure: until the next such read, this connection would only spend more time on plans.
        await driver.execute("RESET plan_cache_mode")
        return rows


def asyncpg_url(url: str) -> sa.URL:
    """Return the URL for asyncpg, whose name for the standard option `sslmode` is `ssl`."""
    parsed = sa.make_url(url).set(drivername="postgresql+asyncpg")
    mode = parsed.query.get("sslmode")
    return parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode}) if mode else parsed


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate errors of an unreachable or busy server to Unavailable, and other database errors to StatementError."""
    try:
        yield
    except sa.exc.TimeoutError as failure:
        raise database_error(DATABASE_POOL_EXHAUSTED) from failure
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as failure:  # of a new connection
        code = code_of_sqlstate(getattr(failure, "sqlstate", None))
        raise database_error(code or DATABASE_UNAVAILABLE) from failure
    except sa.exc.DBAPIError as failure:
        code = code_of_sqlstate(getattr(failure.orig, "sqlstate", None))
        if code is None and failure.connection_invalidated:
            code = DATABASE_UNAVAILABLE
        if code is not None:
            raise database_error(code) from failure
        raise _statement_error(failure) from None


def _statement_error(failure: sa.exc.DBAPIError) -> StatementError:
    """Return an error without the original text, because PostgreSQL's and asyncpg's texts quote values."""
    cause = getattr(failure.orig, "__cause__", None) or failure.orig
    named = {name: getattr(cause, f"{name}_name", None) for name in ("table", "column", "constraint")}
    where = "".join(f", {name} {value}" for name, value in named.items() if value)
    state = getattr(cause, "sqlstate", None)
    return StatementError(f"{type(cause).__name__}{f' {state}' if state else ''}{where}")
