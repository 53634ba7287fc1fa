"""How fast bytes may pass."""

import asyncio
from collections.abc import AsyncIterator


class Pace:
    """Bytes a second over all files at once; without a rate there is no limit."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._until = 0.0

    async def over(self, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The blocks, no faster than that."""
        loop = asyncio.get_running_loop()
        async for block in blocks:
            if self._rate:
                self._until = max(self._until, loop.time()) + len(block) / self._rate
                await asyncio.sleep(self._until - loop.time())
            yield block
