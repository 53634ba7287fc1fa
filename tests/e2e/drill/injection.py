"""What injections have in common: actions and changes for the length of a block."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def repeatedly(operation: Callable[[], Awaitable[object]], interval: float) -> AsyncIterator[None]:
    """Repeat an operation for the length of a block; let the last repetition finish."""
    done = asyncio.Event()

    async def repeat() -> None:
        while not done.is_set():
            await operation()
            await asyncio.sleep(interval)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        done.set()
        await task


@asynccontextmanager
async def changed(part: object, **values: object) -> AsyncIterator[None]:
    """Change attributes for the length of a block."""
    usual = {name: getattr(part, name) for name in values}
    for name, value in values.items():
        setattr(part, name, value)
    yield
    for name, value in usual.items():
        setattr(part, name, value)
