"""The timeline cache: bytes by key for a while, in this process; redis_cache.py has the one that replicas share."""

import time
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache

BYTES_IN_PROCESS = 64 * 1024 * 1024
SKEW = 60.0  # seconds by which clocks of replicas may differ; a later stamp than that is no stamp


class CacheFault(Exception):
    """The cache did not do what was asked; the caller goes on without it."""


@dataclass(frozen=True, slots=True)
class Value:
    """What is kept: bytes that begin with `{"asked":` and the stamp, for so many seconds."""

    data: bytes
    asked: float
    ttl: float


class Cache(Protocol):
    """Keeps values for a while; every call raises CacheFault when the cache is out of order.

    A key can be claimed by whoever is about to fill it, so that others wait for that instead of doing the same work.
    """

    async def get(self, key: str) -> bytes | None:
        """The value, or None where there is none or its time is over."""

    async def claim(self, key: str, seconds: float) -> str | None:
        """Say that the value is on its way; None where another has said so. The claim ends by itself."""

    async def set(self, key: str, value: Value, claim: str | None) -> bool:
        """Keep a value unless a later one is there, and end the claim; says whether it is kept."""

    async def release(self, key: str, claim: str) -> None:
        """End a claim without a value."""

    async def delete(self, key: str) -> None:
        """Forget a value."""

    async def ping(self) -> None:
        """See whether the cache answers."""

    async def close(self) -> None:
        """Close its connections."""


class InProcessCache:
    """The least recently used values go first; for one process without Redis."""

    def __init__(self, size: int = BYTES_IN_PROCESS) -> None:
        self._values: LRUCache[str, tuple[float, Value]] = LRUCache(size, getsizeof=lambda kept: len(kept[1].data))

    async def get(self, key: str) -> bytes | None:
        kept = self._kept(key)
        return kept.data if kept else None

    async def claim(self, _key: str, _seconds: float) -> str | None:
        return ""  # who asks for one within a process is the only one who fills

    async def set(self, key: str, value: Value, _claim: str | None) -> bool:
        kept = self._kept(key)
        if kept and value.asked < kept.asked < value.asked + SKEW:
            return False
        if len(value.data) <= self._values.maxsize:
            self._values[key] = time.monotonic() + value.ttl, value
        return True

    async def release(self, _key: str, _claim: str) -> None:
        return

    async def delete(self, key: str) -> None:
        self._values.pop(key, None)

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        self._values.clear()

    def _kept(self, key: str) -> Value | None:
        expires, value = self._values.get(key, (0.0, None))
        if expires > time.monotonic():
            return value
        self._values.pop(key, None)
        return None
