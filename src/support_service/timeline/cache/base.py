"""The interface of the timeline cache: bytes by key with a TTL, and leases.

memory.py and redis.py implement it.
"""

import re
from dataclasses import dataclass
from typing import Protocol

REVISION_PATTERN = re.compile(rb'\{"revision":"([0-9A-Fa-f]+)"')  # the beginning of each value


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

    async def set(self, key: str, value: bytes, ttl: float, seen: str) -> bytes | None:
        """Store a value for `ttl` seconds if the stored revision is `seen` (compare and set); return None.

        If a value with another revision is stored, it stays and is returned. `seen` is empty if no value was seen. A
        value that is too large for the cache is not stored.
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
