"""Connections to PostgreSQL: how they are opened, and what their errors mean."""

from collections.abc import Awaitable, Callable
from typing import Literal, NoReturn

import asyncpg

from support_service.core.errors import Unavailable
from support_service.platform.database import PostgresTimings
from support_service.platform.database.failures import (
    DATABASE_UNAVAILABLE,
    MESSAGE_BY_CODE,
    StatementError,
    code_of_sqlstate,
    database_error,
)

CLIENT_TIMEOUT_MARGIN = 0.2  # seconds that the driver waits longer for a statement than the server, which has a reason
PlanMode = Literal["auto", "force_custom_plan"]  # how a session plans prepared statements: its `plan_cache_mode`
DRIVER_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class ConnectionLost(Unavailable):
    """The error of a statement whose connection was closed, before or while it ran."""


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that knows how its session plans prepared statements."""

    plan_mode: PlanMode = "auto"

    async def set_plan_mode(self, plan_mode: PlanMode) -> None:
        """Change how the session plans prepared statements. Raises the driver's errors."""
        await self.execute(f"SET plan_cache_mode = {plan_mode}")
        self.plan_mode = plan_mode


def connector(url: str, timings: PostgresTimings) -> Callable[[PlanMode], Awaitable[Connection]]:
    """Return a function that opens a connection, and raises Unavailable."""
    statement_timeout = round(timings.statement_timeout * 1000)
    settings = {
        "timezone": "UTC",
        "application_name": "support-service",
        # Compiling the statement of a search, or starting workers for it, takes longer than running it.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        # For memory and SSDs. With the default, which is for disks that seek, it would rather read and sort all cases
        # that match than the first ones by an index.
        "random_page_cost": "1.1",
        # A replica that loses its network must not keep its locks: all uploads wait for the same row.
        "statement_timeout": str(statement_timeout),
        "lock_timeout": str(round(timings.lock_timeout * 1000)),
        "idle_in_transaction_session_timeout": str(statement_timeout),
    }

    async def connect(plan_mode: PlanMode) -> Connection:
        try:
            connection: Connection = await asyncpg.connect(
                url,
                connection_class=Connection,
                timeout=timings.connect_timeout,
                command_timeout=timings.statement_timeout + CLIENT_TIMEOUT_MARGIN,
                max_cached_statement_lifetime=0,
                max_cacheable_statement_size=0,  # no limit: those of lists are long
                server_settings=settings | {"plan_cache_mode": plan_mode},
            )
        except DRIVER_ERRORS as failure:
            code = code_of_sqlstate(getattr(failure, "sqlstate", None))
            raise database_error(code or DATABASE_UNAVAILABLE) from failure
        connection.plan_mode = plan_mode
        return connection

    return connect


def raise_translated(failure: Exception, connection: Connection) -> NoReturn:
    """Raise the error for what the driver has raised.

    ConnectionLost if the connection is closed, Unavailable if the server is unreachable or busy, and StatementError for
    any other.
    """
    code = code_of_sqlstate(getattr(failure, "sqlstate", None))
    if connection.is_closed():
        code = code or DATABASE_UNAVAILABLE
        raise ConnectionLost(code, MESSAGE_BY_CODE[code]) from failure
    if code is None and isinstance(failure, OSError | TimeoutError):
        code = DATABASE_UNAVAILABLE
    if code is not None:
        raise database_error(code) from failure
    raise _statement_error(failure) from None


def _statement_error(failure: Exception) -> StatementError:
    """Return an error without the original text, because PostgreSQL's and asyncpg's texts quote values."""
    named = {name: getattr(failure, f"{name}_name", None) for name in ("table", "column", "constraint")}
    where = "".join(f", {name} {value}" for name, value in named.items() if value)
    state = getattr(failure, "sqlstate", None)
    return StatementError(f"{type(failure).__name__}{f' {state}' if state else ''}{where}")
