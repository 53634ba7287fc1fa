"""The timeline cache in process memory, for a single process without Redis."""

import time

from cachetools import LRUCache

from support_service.timeline.cache.base import REVISION_PATTERN, Lease

DEFAULT_CACHE_BYTES = 64 * 1024 * 1024


class InProcessCache:
    """An LRU cache of at most `size` bytes.

    Leases are always granted, because no other replica shares the cache.
    """

    def __init__(self, size: int = DEFAULT_CACHE_BYTES) -> None:
        self._values: LRUCache[str, tuple[float, bytes]] = LRUCache(size, getsizeof=lambda kept: len(kept[1]))

    async def get(self, key: str) -> bytes | None:
        expires, value = self._values.get(key, (0.0, None))
        if expires > time.monotonic():
            return value
        self._values.pop(key, None)
        return None

    async def set(self, key: str, value: bytes, ttl: float, seen: str) -> bytes | None:
        stored = REVISION_PATTERN.match(await self.get(key) or b"")
        if stored and stored[1].decode() != seen:
            return await self.get(key)
        if len(value) <= self._values.maxsize:
            self._values[key] = time.monotonic() + ttl, value
        return None

    async def delete(self, key: str) -> None:
        self._values.pop(key, None)

    async def acquire_lease(self, key: str, _seconds: float) -> Lease | None:
        return Lease(key, "")

    async def extend_lease(self, _lease: Lease, _seconds: float) -> None:
        return

    async def release_lease(self, _lease: Lease) -> None:
        return

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        self._values.clear()
