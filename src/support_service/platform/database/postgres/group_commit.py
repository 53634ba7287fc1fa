"""Group commit on PostgreSQL: changes of several transactions without locks that wait together are one statement.

Each statement is one round trip, one plan and one commit, whatever the number of transactions. ADR 20 has the figures.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from support_service.platform.database import RetryWithLocks
from support_service.platform.database.failures import (
    DATABASE_BUSY,
    DATABASE_POOL_EXHAUSTED,
    DATABASE_SLOW,
    DATABASE_UNAVAILABLE,
    StatementError,
    database_error,
)
from support_service.platform.database.postgres.connection import STATEMENT_FORGOTTEN
from support_service.platform.database.postgres.pending_changes import PendingChanges, Shape

MAX_IN_FLIGHT = 2  # statements; with more of them, fewer transactions would share one
MAX_TRANSACTIONS = 64  # in one statement


@dataclass(slots=True)
class _Waiting:
    """The changes of a transaction that waits for their commit, and the limit on the time until they are sent."""

    changes: PendingChanges
    committed: asyncio.Future[None]
    limit: asyncio.TimerHandle | None = None


class GroupCommit:
    """Transactions whose changes wait for their statement, by the shape of the changes.

    A transaction waits for statements in progress only, never for a timer. A statement that fails is repeated for each
    of its transactions alone, so that none fails because of another.
    """

    def __init__(self, send: Callable[[str, Sequence[Any]], Awaitable[object]], timeout: float) -> None:
        self._send = send
        self._timeout = timeout
        self._waiting: dict[Shape, list[_Waiting]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0

    async def commit(self, changes: PendingChanges) -> None:
        """Make changes, and return when they are committed.

        Raises RetryWithLocks if a row has another version than the transaction has read, or is locked, and Unavailable.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(changes, loop.create_future())
        self._waiting.setdefault(changes.shape, []).append(waiting)
        if self._in_flight < MAX_IN_FLIGHT:
            self._in_flight += 1
            self._start(self._send_waiting())
        else:
            too_long = database_error(DATABASE_POOL_EXHAUSTED)
            waiting.limit = loop.call_later(self._timeout, _end, [waiting], too_long)
        await waiting.committed

    async def _send_waiting(self) -> None:
        """Send statements until no transaction waits."""
        try:
            while self._waiting:
                await self._send_group(self._take_group())
        finally:
            self._in_flight -= 1

    def _take_group(self) -> list[_Waiting]:
        """Take the transactions of the shape that waits longest."""
        shape, waiting = next(iter(self._waiting.items()))
        del self._waiting[shape]
        if len(waiting) > MAX_TRANSACTIONS:
            self._waiting[shape] = waiting[MAX_TRANSACTIONS:]
        group = [each for each in waiting[:MAX_TRANSACTIONS] if not each.committed.done()]
        for each in group:
            if each.limit:
                each.limit.cancel()
        return group

    async def _send_group(self, group: Sequence[_Waiting]) -> None:
        try:
            if not group:
                return
            first, *others = sorted(group, key=lambda each: each.changes.unique_values)
            changes = first.changes.join([each.changes for each in others]) if others else first.changes
            await self._send(*changes.statement(checked=True))
        except asyncio.CancelledError:
            _end(group, database_error(DATABASE_UNAVAILABLE))
            raise
        except Exception as failure:  # noqa: BLE001 - the transactions raise it
            self._handle(failure, group)
        else:
            _end(group)

    def _handle(self, failure: Exception, group: Sequence[_Waiting]) -> None:
        """Send the changes of each transaction alone, or let them fail."""
        is_undone = isinstance(failure, StatementError) or getattr(failure, "code", "") in (
            DATABASE_BUSY,
            DATABASE_SLOW,
        )
        if getattr(failure, "reason", "") == STATEMENT_FORGOTTEN:
            _end(group, RetryWithLocks())
        elif not is_undone:
            _end(group, failure)  # they may be committed, or no connection is free
        elif len(group) == 1:
            _end(group, RetryWithLocks())
        else:
            for each in group:
                self._start(self._send_group([each]))

    def _start(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _end(group: Sequence[_Waiting], failure: BaseException | None = None) -> None:
    """Let the transactions of a group succeed or fail."""
    for each in group:
        if each.committed.done():  # the request was cancelled
            continue
        if failure is None:
            each.committed.set_result(None)
        else:
            each.committed.set_exception(failure)
