"""Work that is done again and again beside the requests."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

END_WITHIN = 1.0  # seconds

log = logging.getLogger(__name__)


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run endless work for the length of a block; work that does not end soon after it is left behind."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=END_WITHIN)  # a database that hangs holds up the end of a statement
        if task.done() and not task.cancelled():
            task.result()


async def repeatedly(seconds: float, work: Callable[[], Awaitable[None]], what: str) -> None:
    """Do the work after each pause; an error is logged and costs one turn."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:
            log.exception("%s failed; it is tried again in %g s", what, seconds)
