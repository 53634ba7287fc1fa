"""The timeline cache: bytes by key with a TTL, and leases; in process memory, or in Redis (redis_cache.py)."""

import re
import time
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache

REVISION_PATTERN = re.compile(rb'\{"revision":"([0-9A-Fa-f]+)"')  # the beginning of each value
DEFAULT_CACHE_BYTES = 64 * 1024 * 1024


class CacheUnavailable(Exception):
    """A failed cache operation; the caller continues without the cache."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease: the right of one replica to do a piece of work for a limited time."""

    key: str
    token: str


@dataclass(frozen=True, slots=True)
class RedisCacheTimings:
    """Times in seconds, and the limit of a value in bytes."""

    late_answer_timeout: float = 5.0  # after which a late answer is abandoned, although no reader waits for it
    reconnect_interval: float = 0.5  # between attempts to reach an unavailable Redis
    max_value_bytes: int = 8 * 1024 * 1024  # the service never writes a value of this length


class SnapshotStore(Protocol):
    """Stores values with a TTL, and grants leases.

    Every call raises CacheUnavailable while the cache is unavailable.
    """

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None if it does not exist or has expired."""

    async def compare_and_set(self, key: str, value: bytes, ttl: float, seen_revision: str) -> bytes | None:
        """Store a value for `ttl` seconds if the stored revision is `seen_revision`; return None.

        If a value with another revision is stored, it stays and is returned. `seen_revision` is empty if no value was
        seen. A value that is too large for the cache is not stored.
        """

    async def delete(self, key: str) -> None:
        """Delete a value."""

    async def acquire_lease(self, key: str, seconds: float) -> Lease | None:
        """Acquire the lease `key` for some seconds; return None if another holder has it."""

    async def extend_lease(self, lease: Lease, seconds: float) -> None:
        """Extend a lease to some seconds from now."""

    async def release_lease(self, lease: Lease) -> None:
        """Release a lease."""

    async def ping(self) -> None:
        """Check that the cache answers."""

    async def close(self) -> None:
        """Close the connections of the cache."""


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

    async def compare_and_set(self, key: str, value: bytes, ttl: float, seen_revision: str) -> bytes | None:
        stored = REVISION_PATTERN.match(await self.get(key) or b"")
        if stored and stored[1].decode() != seen_revision:
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
