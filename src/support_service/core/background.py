"""Work that is done again and again beside the requests."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any

CANCEL_EVERY = 0.25  # seconds
END_WITHIN = 1.0  # seconds

log = logging.getLogger(__name__)


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless work for the length of a block; work that does not end soon after it is left behind."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        await end({task})
        if task.done() and not task.cancelled():
            task.result()  # raises what ended it


async def end(tasks: Collection[asyncio.Future[Any]]) -> None:
    """Cancel tasks; those that do not end soon after it are left behind."""
    # Again and again: a library that ends its own waiting in the same moment may swallow a cancellation.
    left = {task for task in tasks if not task.done()}
    until = asyncio.get_running_loop().time() + END_WITHIN  # a database that hangs holds up the end of a statement
    while left and asyncio.get_running_loop().time() < until:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=CANCEL_EVERY)


async def repeatedly(
    seconds: float, work: Callable[[], Awaitable[None]], what: str, *, first: float | None = None
) -> None:
    """Do the work after each pause, the first of which may be another; an error is logged and costs one turn."""
    pause = seconds if first is None else first
    while True:
        await asyncio.sleep(pause)
        pause = seconds
        try:
            await work()
        except Exception:
            log.exception("%s failed; it is tried again in %g s", what, seconds)
