"""A stream on its way to an object store: hashed, counted, and stopped from outside where it has to be."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from time import monotonic


class Stopped(Exception):
    """Ends a stream whose reader was cancelled."""


class Source:
    """A stream that is hashed and counted on its way, and can be stopped from outside."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._next: asyncio.Future[bytes | None] | None = None
        self._stopped = False
        self._given_at: float | None = None
        self.ended = False
        self.digest, self.size = hashlib.sha256(), 0
        self.failure: BaseException | None = None

    async def take(self, length: int) -> bytearray:
        """The first bytes: at least as many, or all there are."""
        start = bytearray()
        async for chunk in self._chunks:
            self._count(chunk)
            start += chunk
            if len(start) >= length:
                break
        return start

    def rest(self, start: bytearray) -> AsyncIterator[bytes]:
        """Those bytes, then the others; raises when it is stopped, even while it waits."""
        self._given_at = monotonic()  # before its reader asks for the first of them
        return self._rest(start)

    async def _rest(self, start: bytearray) -> AsyncIterator[bytes]:
        yield bytes(start)
        del start
        try:
            while not self._stopped:
                self._given_at = None
                self._next = asyncio.ensure_future(self._following())
                chunk = await self._next
                self._given_at = monotonic()
                if chunk is None:
                    return
                self._count(chunk)
                yield chunk
        except asyncio.CancelledError:
            raise Stopped from None
        except Exception as failure:
            self.failure = failure
            raise
        finally:
            self.ended = True
            self._given_at = monotonic()
        raise Stopped

    def stalled(self) -> float:
        """For how many seconds its reader has let it wait; 0 while it waits for bytes itself."""
        return 0.0 if self._given_at is None else monotonic() - self._given_at

    def stop(self) -> None:
        """Let the reader fail at once."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()

    async def _following(self) -> bytes | None:
        return await anext(self._chunks, None)

    def _count(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.size += len(chunk)
