"""A bandwidth limit."""

import asyncio
from collections.abc import AsyncIterator


class Throttle:
    """Bandwidth limit in bytes per second, shared by all streams; None means no limit."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._until = 0.0

    async def limit(self, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the blocks unchanged, no faster than the limit."""
        loop = asyncio.get_running_loop()
        async for block in blocks:
            if self._rate:
                self._until = max(self._until, loop.time()) + len(block) / self._rate
                await asyncio.sleep(self._until - loop.time())
            yield block
