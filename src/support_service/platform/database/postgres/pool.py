"""A bounded pool of connections to PostgreSQL.

asyncpg's own pool takes and returns a connection at the cost of half a read. Each return is a task of its own, which
resets the session. The service leaves nothing to reset, because its locks end with their transaction. See ADR 10.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from weakref import WeakSet

from support_service.core.database_url import Host
from support_service.core.errors import Unavailable
from support_service.platform.database.failures import DATABASE_POOL_EXHAUSTED, database_error
from support_service.platform.database.postgres.connection import DRIVER_ERRORS, Connection, PlanMode


class ConnectionPool:
    """At most `size` connections; the one returned last is taken first.

    Some sessions plan each statement for its values, as lists need it, and others by the server's choice. The mode of a
    connection changes only if the pool is full and no connection of the other mode is idle. The change costs a round
    trip.
    """

    def __init__(
        self, connect: Callable[[PlanMode], Awaitable[Connection]], size: int, timeout: float, close_timeout: float
    ) -> None:
        self._connect = connect
        self._timeout = timeout
        self._close_timeout = close_timeout
        self._slots = asyncio.Semaphore(size)  # one for each connection that is in use, or being opened or closed
        self._idle: dict[PlanMode, list[Connection]] = {"auto": [], "force_custom_plan": []}
        self._connections: WeakSet[Connection] = WeakSet()
        self._closings: set[asyncio.Task[None]] = set()
        self._closed = False
        self._host: Host | None = None  # of all connections that may be used again, if the URL names several
        self.size = size
        self.used = 0

    @property
    def idle(self) -> int:
        return sum(map(len, self._idle.values()))

    async def take(self, plan_mode: PlanMode = "auto") -> Connection:
        """Take a connection; `release` returns it.

        Raises Unavailable, with the code DATABASE_POOL_EXHAUSTED if no connection becomes free in time.
        """
        if self._slots.locked():
            try:
                async with asyncio.timeout(self._timeout):
                    await self._slots.acquire()
            except TimeoutError:
                raise database_error(DATABASE_POOL_EXHAUSTED) from None
        else:
            await self._slots.acquire()  # at once
        self.used += 1
        try:
            return self._take_idle(plan_mode) or await self._open_or_convert(plan_mode)
        except BaseException:
            self._free_slot()
            raise

    def release(self, connection: Connection, *, answered: bool = True) -> None:
        """Return a connection. It is closed if a statement may still run on it, because its answer was not awaited."""
        if connection.is_closed():
            self._close_idle()  # they lead to the same server
            self._free_slot()
        elif not answered or connection.is_in_transaction() or not self._may_be_used_again(connection):
            closing = asyncio.create_task(self._close(connection))
            self._closings.add(closing)
            closing.add_done_callback(self._closings.discard)
        else:
            self._idle[connection.plan_mode].append(connection)
            self._free_slot()

    def leave_host(self) -> None:
        """Use another host, if the URL names several, or another server of the same name, for new connections."""
        self._host = None
        self._close_idle()

    def _may_be_used_again(self, connection: Connection) -> bool:
        return connection.is_current and connection.host == self._host and not self._closed

    async def close(self) -> None:
        """Close idle connections gracefully for at most `close_timeout`, then terminate all."""
        self._closed = True
        idle = [connection for connections in self._idle.values() for connection in connections]
        closings = {asyncio.create_task(each.close(timeout=self._close_timeout)) for each in idle} | self._closings
        if closings:
            await asyncio.wait(closings, timeout=self._close_timeout)
        self.terminate()

    def terminate(self) -> None:
        """Close all connections at once; statements in progress fail."""
        for connection in list(self._connections):
            if not connection.is_closed():
                connection.terminate()

    def _take_idle(self, *plan_modes: PlanMode) -> Connection | None:
        for plan_mode in plan_modes:
            connections = self._idle[plan_mode]
            while connections:
                connection = connections.pop()
                if connection.is_closed():
                    continue
                if self._may_be_used_again(connection):
                    return connection
                connection.terminate()
        return None

    async def _open_or_convert(self, plan_mode: PlanMode) -> Connection:
        refusal = None
        if self.used + self.idle <= self.size:
            try:
                return await self._open(plan_mode)
            except Unavailable as failure:  # such as too many connections: an idle one of the other mode may work
                refusal = failure
        while connection := self._take_idle(*self._idle):
            if await self._convert(connection, plan_mode):
                return connection
        if refusal:
            raise refusal
        return await self._open(plan_mode)

    async def _open(self, plan_mode: PlanMode) -> Connection:
        connection = await self._connect(plan_mode)
        self._connections.add(connection)
        if connection.host != self._host:  # reads from the former primary might lack what was written since
            self._host = connection.host
            self._close_idle()
        return connection

    async def _convert(self, connection: Connection, plan_mode: PlanMode) -> bool:
        """Change the mode of an idle connection; return False if the connection was lost."""
        try:
            await connection.set_plan_mode(plan_mode)
        except BaseException as failure:
            connection.terminate()
            if not isinstance(failure, DRIVER_ERRORS):
                raise
            return False
        return True

    def _close_idle(self) -> None:
        for connections in self._idle.values():
            while connections:
                connections.pop().terminate()

    async def _close(self, connection: Connection) -> None:
        """Close a connection, and only then free its slot: the server never has more connections than the pool."""
        try:
            with suppress(*DRIVER_ERRORS):
                await connection.close(timeout=self._close_timeout)
        finally:
            self._free_slot()

    def _free_slot(self) -> None:
        self.used -= 1
        self._slots.release()
