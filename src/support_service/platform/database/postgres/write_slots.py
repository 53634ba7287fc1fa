"""Bounds on the transactions of one process, taken before a connection, so that a locked row does not use up the pool.

A transaction that waits for a row lock holds its connection. Without bounds, the transactions on one locked case would
hold all connections.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from support_service.core.errors import Unavailable
from support_service.platform.database import ContendedRow
from support_service.platform.database.failures import (
    DATABASE_BUSY,
    DATABASE_POOL_EXHAUSTED,
    WRITES_WAITING,
    database_error,
)


@dataclass(slots=True)
class _RowQueue:
    """The transactions that change one row, or wait for their turn to."""

    slots: asyncio.Semaphore
    transactions: int = 0


class WriteSlots:
    """At most `total` transactions run at once, and at most `ContendedRow.max_concurrent` of them on one row."""

    def __init__(self, total: int, max_waiting: int, timeout: float) -> None:
        self._total = total
        self._max_waiting = max_waiting
        self._timeout = timeout
        self._slots = asyncio.Semaphore(total)
        self._queues: dict[str, _RowQueue] = {}

    @asynccontextmanager
    async def occupy(self, rows: Sequence[ContendedRow]) -> AsyncIterator[None]:
        """Occupy a slot of each row, in the given order, and then one of the process; wait up to `timeout` seconds.

        Raises Unavailable: WRITES_WAITING if a row has `max_waiting` waiting transactions, DATABASE_BUSY if its turn
        does not come in time, DATABASE_POOL_EXHAUSTED if no slot of the process becomes free in time.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout
        async with AsyncExitStack() as occupied:
            for row in rows:
                await occupied.enter_async_context(self._occupy_row(row, deadline))
            await _acquire(self._slots, deadline, database_error(DATABASE_POOL_EXHAUSTED))
            occupied.callback(self._slots.release)
            yield

    @asynccontextmanager
    async def _occupy_row(self, row: ContendedRow, deadline: float) -> AsyncIterator[None]:
        max_concurrent = min(row.max_concurrent, max(1, self._total // 2))
        queue = self._queues.setdefault(row.name, _RowQueue(asyncio.Semaphore(max_concurrent)))
        if queue.transactions >= max_concurrent + self._max_waiting:
            raise Unavailable(WRITES_WAITING, "Too many changes wait for the same data; try again in a moment.")
        queue.transactions += 1
        try:
            busy = Unavailable(DATABASE_BUSY, "Other changes of the same data take too long; try again")
            await _acquire(queue.slots, deadline, busy)
            try:
                yield
            finally:
                queue.slots.release()
        finally:
            queue.transactions -= 1
            if not queue.transactions:
                del self._queues[row.name]


async def _acquire(slots: asyncio.Semaphore, deadline: float, timed_out: Unavailable) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await slots.acquire()
    except TimeoutError:
        raise timed_out from None
