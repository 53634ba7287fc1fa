"""Bounds on concurrent transactions: however one ends, its place is free for the next."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from support_service.core.errors import Unavailable
from support_service.platform.database import ContendedRow
from support_service.platform.database.postgres.write_slots import WriteSlots
from tests.support.calls import GENEROUS_TIMEOUT

CASE, OTHER_CASE, VIEWS = ContendedRow("case"), ContendedRow("other case"), ContendedRow("views")


@asynccontextmanager
async def occupied(slots, rows):
    await slots.occupy(rows)
    try:
        yield
    finally:
        slots.leave(rows)


def start(slots, *rows):
    """Start a transaction; return its task, the event that tells that it runs, and the event that ends it."""
    running, end = asyncio.Event(), asyncio.Event()

    async def run():
        async with occupied(slots, rows):
            running.set()
            await end.wait()

    return asyncio.create_task(run()), running, end


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


async def expect_free(slots):
    """Fail unless exactly one transaction of the case runs and one waits, and the process has room for two."""
    first, waiting, other = start(slots, CASE), start(slots, CASE), start(slots, VIEWS)
    await turns()
    assert [running.is_set() for _, running, _ in (first, waiting, other)] == [True, False, True]
    with pytest.raises(Unavailable) as refusal:
        await slots.occupy([CASE])
    assert refusal.value.code == "writes_waiting"
    for _, _, end in (first, waiting, other):
        end.set()
    await asyncio.gather(*(task for task, _, _ in (first, waiting, other)))


@pytest.fixture
def slots():
    """Slots for two transactions, of which one more may wait for each row."""
    return WriteSlots(2, 1, GENEROUS_TIMEOUT)


@pytest.mark.parametrize("which", ["running", "waiting", "next"])
async def test_transaction_that_is_cancelled_leaves_its_slots(slots, which):
    """While it runs, while it waits for the row, and when its turn has just come."""
    running, waiting = start(slots, CASE), start(slots, CASE)
    await turns()
    if which == "next":
        running[2].set()
        await asyncio.sleep(0)
    cancelled, other = (running, waiting) if which == "running" else (waiting, running)
    cancelled[0].cancel()
    other[2].set()
    assert isinstance((await asyncio.gather(cancelled[0], return_exceptions=True))[0], asyncio.CancelledError)
    await other[0]
    await expect_free(slots)


async def test_transaction_that_is_cancelled_while_it_waits_for_the_process_leaves_the_row(slots):
    """It holds its row's slot while all slots of the process are occupied. One that fails leaves its slots, too."""
    with pytest.raises(ValueError, match="no"):
        async with occupied(slots, [CASE, VIEWS]):
            raise ValueError("no")
    others = [start(slots), start(slots)]
    await turns()
    waiting = start(slots, CASE)
    await turns()
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    for task, _, end in others:
        end.set()
        await task
    await expect_free(slots)


async def test_transaction_that_gets_no_turn_in_time_leaves_its_slots():
    """It is told whether its row or the process is busy."""
    slots = WriteSlots(2, 1, 0.01)
    for rows, code in (((CASE, VIEWS), "database_busy"), ((OTHER_CASE, VIEWS), "database_pool_exhausted")):
        others = [start(slots, row) for row in rows]
        await turns()
        with pytest.raises(Unavailable) as refusal:
            await slots.occupy([CASE])
        assert refusal.value.code == code
        for task, _, end in others:
            end.set()
            await task
