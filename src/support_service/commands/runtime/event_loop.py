"""The event loop for commands."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

from support_service.core import interrupts

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on uvloop and return its result.

    The first Ctrl-C cancels the coroutine and raises KeyboardInterrupt once it has ended; the second exits at once. The
    coroutine may also handle SIGINT itself.
    """
    interrupted = False

    async def cancellable() -> Result:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def cancel() -> None:
            nonlocal interrupted
            interrupted = True
            if task is not None:  # pragma: no branch - a coroutine always runs in a task
                loop.call_soon_threadsafe(task.cancel)

        with interrupts.on_first_interrupt(cancel):
            return await main

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(cancellable())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
