"""Connections to PostgreSQL: how they are opened, and what their errors mean."""

import asyncio
import logging
import math
import random
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Literal, NoReturn

import asyncpg

from support_service.core.database_url import Host, hosts_of, options_of, with_options
from support_service.core.errors import SupportError
from support_service.core.ids import new_id
from support_service.platform.database import PostgresTimings
from support_service.platform.database.failures import (
    COMMIT_NOT_REPLICATED,
    DATABASE_READ_ONLY,
    DATABASE_UNAVAILABLE,
    DATABASE_WITHOUT_PRIMARY,
    StatementError,
    code_of_sqlstate,
    database_error,
    invalid_url_error,
    unusable_database_error,
)
from support_service.platform.secret_files import read_secret_file

CANCELLATION_TIMEOUT = 2.0  # seconds
MAX_PREPARED_STATEMENTS = 100  # of one connection
SETTINGS_OF_POOLERS = {"application_name": "support-service", "timezone": "UTC"}  # a pooler takes them for each client
PlanMode = Literal["auto", "force_custom_plan"]  # how a session plans prepared statements: its `plan_cache_mode`
DRIVER_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
ANSWERS = (asyncpg.PostgresError, asyncpg.InterfaceError)  # errors after which no statement runs on the connection
_LOOK = """
SELECT pg_backend_pid() AS pid, quote_ident(current_user) AS role,
    ARRAY(SELECT name FROM pg_prepared_statements) AS statements,
    ARRAY(SELECT name || '=' || setting FROM pg_settings WHERE name = ANY($1)) AS settings
"""
_MISSING_SETTING = (
    "A session of PostgreSQL has %s=%s instead of %s, because a pooler drops what the service asks for: "
    "ALTER ROLE %s SET %s = %s"
)
_STATEMENTS_WITHOUT_NAMES = (
    "The pooler keeps no prepared statements, so that each read is a transaction of four round trips. Set "
    "max_prepared_statements in pgbouncer.ini, such as 200"
)
_STATEMENTS_FORGOTTEN = (
    "The pooler has forgotten a prepared statement. Until the service restarts, its statements have no names, and each "
    "read is a transaction of four round trips"
)
_STATE_OF_DRIVER = "cannot switch to state"  # the error if the server has closed an idle connection
_FORGOTTEN_SQLSTATES = ("26000", "42P05")  # invalid_sql_statement_name, duplicate_prepared_statement
_REMEDY_FOR_POOLER = (
    ". Behind PgBouncer set SUPPORT_DATABASE_PREPARED_STATEMENTS=false, or list the parameter in "
    "ignore_startup_parameters of pgbouncer.ini"
)

_PROCESS = new_id()

# Reasons of `database_unavailable`: the connection was closed, before or while the statement ran; or the session does
# not have the prepared statement, or has it already, and nothing was executed.
CONNECTION_LOST, STATEMENT_FORGOTTEN = "connection_lost", "statement_forgotten"

log = logging.getLogger(__name__)


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that knows how its session plans prepared statements, and how its transactions begin."""

    plan_mode: PlanMode = "auto"
    begin = "BEGIN"
    is_unreplicated = False  # true once a commit was not confirmed by the standby that has to have it
    ends_at = math.inf  # monotonic time after which it is not used again
    host: Host | None = None  # the host that was connected to, if the URL names several
    connector: "Connector | None" = None  # that has opened it
    names_statements = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Or the driver sets `jit` while it reads what a type is: behind a pooler, in a session that others get.
        self._server_caps = self._server_caps._replace(jit=False)  # type: ignore[has-type]

    @property
    def is_current(self) -> bool:
        """Whether it is young enough, and sends statements as new connections do."""
        is_of_now = self.connector is None or self.names_statements == self.connector.names_statements
        return is_of_now and self.ends_at >= monotonic()

    async def set_plan_mode(self, plan_mode: PlanMode) -> None:
        """Change how the session plans prepared statements."""
        await self.execute(f"SET plan_cache_mode = {plan_mode}")
        self.plan_mode = plan_mode

    async def _introspect_types(self, *arguments: Any) -> Any:
        """Read what types are, for the first statement that has them.

        PostgreSQL would compile the query, which takes a second of its CPU. Behind a pooler the session may compile.
        """
        has_settings = self.connector is not None and self.connector.keeps_settings
        if has_settings or self.is_in_transaction():  # neither compiles
            return await super()._introspect_types(*arguments)
        await self.execute("BEGIN; SET LOCAL jit = off")
        types = await super()._introspect_types(*arguments)  # after a failure the pool closes the connection
        await self.execute("COMMIT")
        return types

    def _get_unique_id(self, prefix: str) -> str:
        """Return a name for a statement that no other process uses: a pooler may give both the same session."""
        return f"{super()._get_unique_id(prefix)}{_PROCESS}"

    def check_replicated(self) -> None:
        """Raise Unavailable if a commit that the driver reports as done was not confirmed by its standby."""
        if self.is_unreplicated:
            raise database_error(COMMIT_NOT_REPLICATED)

    async def wait_for_cancellation(self) -> None:
        """Wait until the server has ended a commit for which the driver waits no longer.

        A commit that waits for its standby is done by then, with a warning instead of an error.
        """
        with suppress(*DRIVER_ERRORS):
            async with asyncio.timeout(CANCELLATION_TIMEOUT):
                await self.execute("SELECT 1")


def _note_warning(connection: Connection, message: asyncpg.PostgresLogMessage) -> None:
    if message.server_source_function == "SyncRepWaitForLSN":  # the text depends on the language of the server
        connection.is_unreplicated = True


class Hosts:
    """The hosts that a URL names. The server that was connected to last is tried first.

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
                if not isinstance(failure, asyncpg.TargetServerAttributeNotMatched):
                    failure = failed
                continue
            connection.host = host, port
            self._hosts.remove(connection.host)
            self._hosts.insert(0, connection.host)
            return connection
        assert failure is not None  # noqa: S101 - there are several hosts
        raise failure


class Connector:
    """Opens connections, and knows what a session of the server keeps for them."""

    def __init__(self, url: str, timings: PostgresTimings, *, prepared_statements: bool, max_age: float) -> None:
        """`max_age` is in seconds; without `prepared_statements` statements have no name."""
        self._url = url
        self._timings = timings
        self._max_age = max_age
        self._hosts = Hosts(url, timings.connect_timeout)
        self.names_statements = prepared_statements
        self.keeps_settings = prepared_statements  # false behind a pooler, which gives a session to others
        statement_timeout = str(round(timings.statement_timeout * 1000))
        self._settings = {
            # Compiling the statement of a search, or starting workers for it, takes longer than running it.
            "jit": "off",
            "max_parallel_workers_per_gather": "0",
            # For memory and SSDs. With the default, which is for disks that seek, it would rather read and sort all
            # cases that match than the first ones by an index.
            "random_page_cost": "1.1",
            # A replica that loses its network must not keep its locks: other replicas wait for them.
            "statement_timeout": statement_timeout,
            "lock_timeout": str(round(timings.lock_timeout * 1000)),
            "idle_in_transaction_session_timeout": statement_timeout,
        }
        self._begin = "; ".join(["BEGIN", *(f"SET LOCAL {name} = {value}" for name, value in self._settings.items())])

    async def connect(self, plan_mode: PlanMode) -> Connection:
        """Open a connection. Raises Unavailable."""
        try:
            connection = await self._open(plan_mode)
        except DRIVER_ERRORS as failure:
            raise database_error(_code_of_refusal(failure)) from failure
        connection.plan_mode = plan_mode
        connection.add_log_listener(_note_warning)
        connection.ends_at = monotonic() + self._max_age * random.uniform(0.8, 1.0)
        connection.connector, connection.names_statements = self, self.names_statements
        if not self.keeps_settings:
            connection.begin = self._begin
        return connection

    def stop_naming_statements(self) -> None:
        """Name no statement from now on: the configuration of a pooler was changed after the start."""
        if self.names_statements:
            log.warning(_STATEMENTS_FORGOTTEN)
        self.names_statements = self.keeps_settings = False

    @property
    def begin_planned_by_values(self) -> str:
        """The beginning of a transaction whose statements are planned for their values."""
        return f"{self._begin}; SET LOCAL plan_cache_mode = force_custom_plan"

    async def look_for_pooler(self) -> None:
        """Find out whether a pooler is in the way, and what its sessions keep. Log settings that they lack.

        Raises Unavailable with the driver's reason.
        """
        try:
            connections = [await self._open("auto")]
            try:
                await self._look(connections)
            finally:
                for connection in connections:
                    await connection.close(timeout=self._timings.close_timeout)
        except DRIVER_ERRORS as failure:
            raise refused_connection_error(failure, self._url) from failure

    async def _look(self, connections: list[Connection]) -> None:
        if not self.names_statements:
            return
        (connection,) = connections
        name, pid = f"support_service_{new_id()}", connection.get_server_pid()
        async with connection.transaction():
            look = await connection.prepare(_LOOK, name=name)
            found = await look.fetchrow([*self._settings])
            if found["pid"] != pid and name in found["statements"]:
                await connection.execute(f'DEALLOCATE "{name}"')  # others may get the session
        given = dict(each.split("=", 1) for each in found["settings"])
        for setting, value in self._settings.items():
            if given[setting] != value:
                log.warning(_MISSING_SETTING, setting, given[setting], value, found["role"], setting, value)
        if found["pid"] == pid:
            return
        self.keeps_settings = False
        if name in found["statements"]:  # a pooler that keeps prepared statements gives them names of its own
            connections.append(await self._open("auto"))
            self.names_statements = await _have_sessions_of_their_own(*connections)
            if not self.names_statements:
                log.warning(_STATEMENTS_WITHOUT_NAMES)

    async def _open(self, plan_mode: PlanMode) -> Connection:
        settings = self._settings | {"plan_cache_mode": plan_mode} if self.names_statements else {}
        return await self._hosts.connect(
            command_timeout=self._timings.statement_timeout + self._timings.driver_margin,
            statement_cache_size=MAX_PREPARED_STATEMENTS if self.names_statements else 0,
            max_cached_statement_lifetime=0,
            max_cacheable_statement_size=0,  # no limit: statements of lists are long
            server_settings=SETTINGS_OF_POOLERS | settings,
        )


async def _have_sessions_of_their_own(first: Connection, second: Connection) -> bool:
    """Return whether each of two connections keeps one session of the server, as in session mode.

    In transaction mode a pooler gives the session that was used last, or all in turn: the order shows either.
    """
    used: dict[Connection, set[int]] = {first: set(), second: set()}
    for connection in (first, second, second, first, second, first, first, second):
        async with connection.transaction():
            rows = await connection.fetch("SELECT pg_backend_pid() AS pid")
        used[connection].add(rows[0]["pid"])
    return len(used[first]) == len(used[second]) == 1 and used[first] != used[second]


def refused_connection_error(failure: Exception, url: str) -> SupportError:
    """Return the error of a start whose connection was refused: with the driver's reason, and what to do."""
    if isinstance(failure, asyncpg.InterfaceError):
        return invalid_url_error(failure)
    remedy = _REMEDY_FOR_POOLER if "startup parameter" in str(failure) else ""
    return unusable_database_error(failure, url, _code_of_refusal(failure), remedy)


def _code_of_refusal(failure: Exception) -> str:
    if isinstance(failure, asyncpg.TargetServerAttributeNotMatched):
        return DATABASE_WITHOUT_PRIMARY
    return code_of_sqlstate(getattr(failure, "sqlstate", None)) or DATABASE_UNAVAILABLE


def handle_forgotten_statement(failure: Exception, connection: Connection) -> bool:
    """Close a connection whose session has forgotten a statement, and name no statement from now on."""
    if getattr(failure, "sqlstate", None) not in _FORGOTTEN_SQLSTATES or connection.connector is None:
        return False
    connection.connector.stop_naming_statements()
    connection.terminate()
    return True


def raise_translated(failure: Exception, connection: Connection) -> NoReturn:
    """Raise the error for what the driver has raised.

    Raises Unavailable if the server is unreachable or busy or a commit is not replicated. Its reason says if the
    connection is closed or a statement forgotten. Raises StatementError for any other error.
    """
    connection.check_replicated()
    if handle_forgotten_statement(failure, connection):
        raise database_error(DATABASE_UNAVAILABLE, STATEMENT_FORGOTTEN) from failure
    code = code_of_sqlstate(getattr(failure, "sqlstate", None))
    if code == DATABASE_READ_ONLY:
        connection.terminate()  # another server may have become the primary, also behind the same name
    if connection.is_closed():
        code = code or DATABASE_UNAVAILABLE
        if str(failure).startswith(_STATE_OF_DRIVER):
            failure = ConnectionResetError("PostgreSQL has closed the connection")
        raise database_error(code, CONNECTION_LOST) from failure
    if code is None and isinstance(failure, OSError | TimeoutError):
        code = DATABASE_UNAVAILABLE
    if code is not None:
        raise database_error(code) from failure
    raise statement_error(failure) from None


def statement_error(failure: Exception) -> StatementError:
    """Return an error without the original text, because PostgreSQL's and asyncpg's texts quote values."""
    named = {name: getattr(failure, f"{name}_name", None) for name in ("table", "column", "constraint")}
    where = "".join(f", {name} {value}" for name, value in named.items() if value)
    state = getattr(failure, "sqlstate", None)
    return StatementError(f"{type(failure).__name__}{f' {state}' if state else ''}{where}")
