"""An upload stream to an object store that hashes and counts its bytes and can be stopped by another task."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from time import monotonic


class StreamStopped(Exception):
    """Raised out of a stream that was stopped or cancelled."""


class HashingStream:
    """A stream that hashes and counts its bytes while it is read, and can be stopped by another task.

    `digest` and `size` (bytes) cover all bytes read so far. `ended` is True when the stream has ended for any reason;
    `failure` is then the error that the underlying stream raised, if any.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._pending_chunk: asyncio.Future[bytes | None] | None = None
        self._stopped = False
        self._yielded_at: float | None = None
        self.ended = False
        self.digest, self.size = hashlib.sha256(), 0
        self.failure: BaseException | None = None

    async def take(self, length: int) -> bytearray:
        """Read and return the first `length` bytes or slightly more; fewer only if the stream ends before."""
        start = bytearray()
        async for chunk in self._chunks:
            self._update(chunk)
            start += chunk
            if len(start) >= length:
                break
        return start

    def rest(self, start: bytearray) -> AsyncIterator[bytes]:
        """Yield `start`, then the remaining chunks.

        Raises StreamStopped after `stop`, even while it waits for a chunk.
        """
        self._yielded_at = monotonic()  # the stall time also counts before the first chunk is requested
        return self._rest(start)

    async def _rest(self, start: bytearray) -> AsyncIterator[bytes]:
        yield bytes(start)
        del start
        try:
            while not self._stopped:
                self._yielded_at = None
                self._pending_chunk = asyncio.ensure_future(self._next_chunk())
                chunk = await self._pending_chunk
                self._yielded_at = monotonic()
                if chunk is None:
                    return
                self._update(chunk)
                yield chunk
        except asyncio.CancelledError:
            raise StreamStopped from None
        except Exception as failure:
            self.failure = failure
            raise
        finally:
            self.ended = True
            self._yielded_at = monotonic()
        raise StreamStopped

    def stalled(self) -> float:
        """Return for how many seconds the reader has requested no chunk; 0 while the stream itself waits for bytes."""
        return 0.0 if self._yielded_at is None else monotonic() - self._yielded_at

    def stop(self) -> None:
        """Make the reader raise StreamStopped at once."""
        self._stopped = True
        if self._pending_chunk is not None:
            self._pending_chunk.cancel()

    async def _next_chunk(self) -> bytes | None:
        return await anext(self._chunks, None)

    def _update(self, chunk: bytes) -> None:
        self.digest.update(chunk)
        self.size += len(chunk)
