"""Work beside the requests ends with them, and does not get in the way of whoever ends it."""

import asyncio

import pytest

from support_service.core.background import cancel_all, run_every, run_in_background


async def test_work_ends_with_its_block():
    """The work runs for the length of the block."""
    ended = asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with run_in_background(work()):
        await asyncio.sleep(0)
    assert ended.is_set()


async def test_task_that_ignores_its_cancellation_is_abandoned():
    """A task that hangs while it ends delays its caller by at most the cancel timeout."""
    release = asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    async with run_in_background(work(), cancel_timeout=0.01):
        await asyncio.sleep(0)
    release.set()


async def test_a_cancelled_caller_stays_cancelled():
    """Whoever is cancelled while the work ends is cancelled, and not silently let go on."""
    ending, release = asyncio.Event(), asyncio.Event()

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await release.wait()

    async def caller():
        async with run_in_background(work()):
            await asyncio.sleep(0)

    task = asyncio.create_task(caller())
    await ending.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()


async def test_work_that_swallows_a_cancellation_is_cancelled_again():
    """A library that ends its own waiting in the same moment does not keep its task alive."""
    swallowed = 0

    async def work():
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel_all({task}, 60.0)
    assert task.cancelled()


async def test_the_first_pause_may_be_another(monkeypatch):
    """The first turn comes when it is asked for, the others each after the usual pause."""
    did = []

    async def sleep(seconds):
        did.append(seconds)
        if len(did) == 5:
            raise asyncio.CancelledError

    async def work():
        did.append("work")

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await run_every(3600, work, "Work", first=90)
    assert did == [90, "work", 3600, "work", 3600]


async def test_work_that_failed_fails_its_block():
    """What ended the work before its block is raised at the end of the block."""

    async def work():
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        async with run_in_background(work()):
            await asyncio.sleep(0)
