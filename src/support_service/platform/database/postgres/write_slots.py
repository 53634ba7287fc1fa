"""Bounds on the transactions of one process, taken before a connection, so that a locked row does not use up the pool.

A transaction that waits for a row lock holds its connection. Without bounds, the transactions on one locked case would
hold all connections.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from support_service.core.errors import problem
from support_service.platform.database import ContendedRow
from support_service.platform.database.failures import (
    DATABASE_BUSY,
    DATABASE_POOL_EXHAUSTED,
    MESSAGE_BY_CODE,
    WRITES_WAITING,
)

TURN_TOO_LATE = "Other changes of the same data take too long; try again"


@dataclass(slots=True)
class _RowQueue:
    """The transactions that change one row, or wait for their turn to."""

    slots: asyncio.Semaphore
    transactions: int = 0


class WriteSlots:
    """At most `total` transactions with locks run at once, and one of all transactions on each row."""

    def __init__(self, total: int, max_waiting: int, timeout: float) -> None:
        self._max_waiting = max_waiting
        self._timeout = timeout
        self._slots = asyncio.Semaphore(total)
        self._queues: dict[str, _RowQueue] = {}

    # Methods in pairs: as context managers they would cost several times as much.

    async def occupy(self, rows: Sequence[ContendedRow]) -> None:
        """Occupy what `occupy_rows` occupies, and then a slot of the process, in the same time.

        Raises its errors, and Unavailable with DATABASE_POOL_EXHAUSTED if no slot of the process becomes free in time.
        """
        deadline = self._deadline()
        await self._occupy_rows(rows, deadline)
        try:
            await _acquire(self._slots, deadline, DATABASE_POOL_EXHAUSTED, MESSAGE_BY_CODE[DATABASE_POOL_EXHAUSTED])
        except BaseException:
            self.leave_rows(rows)
            raise

    def leave(self, rows: Sequence[ContendedRow]) -> None:
        """Leave what `occupy` has occupied."""
        self._slots.release()
        self.leave_rows(rows)

    async def occupy_rows(self, rows: Sequence[ContendedRow]) -> None:
        """Occupy a slot of each row, in the given order; wait up to `timeout` seconds.

        Raises Unavailable: WRITES_WAITING if a row has `max_waiting` waiting transactions, DATABASE_BUSY if its turn
        does not come in time.
        """
        await self._occupy_rows(rows, self._deadline())

    def leave_rows(self, rows: Sequence[ContendedRow]) -> None:
        """Leave what `occupy_rows` has occupied."""
        for row in reversed(rows):
            queue = self._queues[row.name]
            queue.slots.release()
            self._leave_queue(row, queue)

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout

    async def _occupy_rows(self, rows: Sequence[ContendedRow], deadline: float) -> None:
        occupied = 0
        try:
            for row in rows:
                await self._occupy_row(row, deadline)
                occupied += 1
        except BaseException:
            self.leave_rows(rows[:occupied])
            raise

    async def _occupy_row(self, row: ContendedRow, deadline: float) -> None:
        queue = self._queues.setdefault(row.name, _RowQueue(asyncio.Semaphore()))
        if queue.transactions > self._max_waiting:
            raise problem(WRITES_WAITING, "Too many changes wait for the same data; try again in a moment.")
        queue.transactions += 1
        try:
            await _acquire(queue.slots, deadline, DATABASE_BUSY, TURN_TOO_LATE)
        except BaseException:
            self._leave_queue(row, queue)
            raise

    def _leave_queue(self, row: ContendedRow, queue: _RowQueue) -> None:
        queue.transactions -= 1
        if not queue.transactions:
            del self._queues[row.name]


async def _acquire(slots: asyncio.Semaphore, deadline: float, code: str, text: str) -> None:
    """Acquire a slot. Raises Unavailable at the deadline."""
    if not slots.locked():
        await slots.acquire()  # at once: a limit on the time would cost several times as much
        return
    try:
        async with asyncio.timeout_at(deadline):
            await slots.acquire()
    except TimeoutError:
        raise problem(code, text) from None
