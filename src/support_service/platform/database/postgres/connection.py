"""Connections to PostgreSQL: how they are opened, and what their errors mean."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal, NoReturn

import asyncpg

from support_service.core.database_url import Host, hosts_of, options_of, with_options
from support_service.core.errors import Unavailable
from support_service.platform.database import PostgresTimings
from support_service.platform.database.failures import (
    DATABASE_READ_ONLY,
    DATABASE_UNAVAILABLE,
    MESSAGE_BY_CODE,
    StatementError,
    code_of_sqlstate,
    database_error,
)
from support_service.platform.secret_files import read_secret_file

CLIENT_TIMEOUT_MARGIN = 0.2  # seconds that the driver waits longer for a statement than the server, which has a reason
MAX_PREPARED_STATEMENTS = 100  # of one connection
SETTINGS_OF_POOLERS = {"application_name": "support-service", "timezone": "UTC"}  # a pooler takes them for each client
PlanMode = Literal["auto", "force_custom_plan"]  # how a session plans prepared statements: its `plan_cache_mode`
DRIVER_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
ANSWERS = (asyncpg.PostgresError, asyncpg.InterfaceError)  # errors after which no statement runs on the connection


class ConnectionLost(Unavailable):
    """The error of a statement whose connection was closed, before or while it ran."""


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that knows how its session plans prepared statements, and how its transactions begin."""

    plan_mode: PlanMode = "auto"
    begin = "BEGIN"
    host: Host | None = None  # the host that was connected to, if the URL names several

    async def set_plan_mode(self, plan_mode: PlanMode) -> None:
        """Change how the session plans prepared statements. Raises the driver's errors."""
        await self.execute(f"SET plan_cache_mode = {plan_mode}")
        self.plan_mode = plan_mode


class Hosts:
    """The hosts that a URL names. The one that was connected to last is tried first.

    The driver would take them in the order of the URL, and spend all of the time on a host that does not answer.
    """

    def __init__(self, url: str, timeout: float) -> None:
        options = options_of(url)
        password_file = options.pop("password_file", None)
        self._hosts = hosts_of(url)
        if len(self._hosts) > 1:
            options.setdefault("target_session_attrs", "read-write")
        self._url = with_options(url, options)
        self._password = partial(read_secret_file, password_file) if password_file else None
        self._timeout = timeout  # in seconds, for each

    async def connect(self, **options: Any) -> Connection:
        """Open a connection to a host that answers, and is what the URL asks for. Raises the driver's errors."""
        connection: Connection
        options |= {"connection_class": Connection, "timeout": self._timeout, "password": self._password}
        if len(self._hosts) == 1:
            connection = await asyncpg.connect(self._url, **options)
            return connection
        failure: Exception | None = None
        for host, port in list(self._hosts):
            try:
                connection = await asyncpg.connect(self._url, host=host, port=port, **options)
            except DRIVER_ERRORS as failed:
                failure = failed
                continue
            connection.host = host, port
            self._hosts.remove(connection.host)
            self._hosts.insert(0, connection.host)
            return connection
        assert failure is not None  # noqa: S101 - there are several hosts
        raise failure


def connector(
    url: str, timings: PostgresTimings, *, prepared_statements: bool
) -> Callable[[PlanMode], Awaitable[Connection]]:
    """Return a function that opens a connection, and raises Unavailable.

    Without `prepared_statements` the connections work through a pooler, such as PgBouncer in transaction mode. There
    each transaction may get another session of the server, so that nothing is kept in a session. Statements have no
    name. Each transaction sets the settings, together with BEGIN. Reads are transactions too.
    """
    statement_timeout = round(timings.statement_timeout * 1000)
    settings = {
        # Compiling the statement of a search, or starting workers for it, takes longer than running it.
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        # For memory and SSDs. With the default, which is for disks that seek, it would rather read and sort all cases
        # that match than the first ones by an index.
        "random_page_cost": "1.1",
        # A replica that loses its network must not keep its locks: other replicas wait for them.
        "statement_timeout": str(statement_timeout),
        "lock_timeout": str(round(timings.lock_timeout * 1000)),
        "idle_in_transaction_session_timeout": str(statement_timeout),
    }
    begin = "; ".join(["BEGIN", *(f"SET LOCAL {name} = {value}" for name, value in settings.items())])
    hosts = Hosts(url, timings.connect_timeout)

    async def connect(plan_mode: PlanMode) -> Connection:
        try:
            connection = await hosts.connect(
                command_timeout=timings.statement_timeout + CLIENT_TIMEOUT_MARGIN,
                statement_cache_size=MAX_PREPARED_STATEMENTS if prepared_statements else 0,
                max_cached_statement_lifetime=0,
                max_cacheable_statement_size=0,  # no limit: statements of lists are long
                server_settings=SETTINGS_OF_POOLERS
                | (settings | {"plan_cache_mode": plan_mode} if prepared_statements else {}),
            )
        except DRIVER_ERRORS as failure:
            code = code_of_sqlstate(getattr(failure, "sqlstate", None))
            raise database_error(code or DATABASE_UNAVAILABLE) from failure
        connection.plan_mode = plan_mode
        if not prepared_statements:
            connection.begin = begin
        return connection

    return connect


def raise_translated(failure: Exception, connection: Connection) -> NoReturn:
    """Raise the error for what the driver has raised.

    ConnectionLost if the connection is closed, Unavailable if the server is unreachable or busy, and StatementError for
    any other.
    """
    code = code_of_sqlstate(getattr(failure, "sqlstate", None))
    if code == DATABASE_READ_ONLY and connection.host:
        connection.terminate()  # another host may have become the primary
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
