"""The timeline cache: bytes by key for a while, in this process; redis_cache.py has the one that replicas share."""

import re
import time
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache

BYTES_IN_PROCESS = 64 * 1024 * 1024
REVISION = re.compile(rb'\{"revision":"([0-9A-Fa-f]+)"')  # how a value begins


class CacheFault(Exception):
    """The cache did not do what was asked; the caller goes on without it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do some work for a while, which one of all replicas has."""

    key: str
    token: str


class Cache(Protocol):
    """Keeps values for a while; every call raises CacheFault when the cache is out of order."""

    async def get(self, key: str) -> bytes | None:
        """The value, or None where there is none or its time is over."""

    async def set(self, key: str, value: bytes, ttl: float, seen: str) -> bytes | None:
        """Keep a value in place of the one with the revision that was `seen`, empty where none was.

        Where a value with another revision is there, that stays and is given back.
        """

    async def delete(self, key: str) -> None:
        """Forget a value."""

    async def claim(self, key: str, seconds: float) -> Claim | None:
        """Claim some work for that long; None where another has it."""

    async def extend(self, claim: Claim, seconds: float) -> None:
        """Keep a claim for that long from now."""

    async def release(self, claim: Claim) -> None:
        """Give a claim back."""

    async def ping(self) -> None:
        """See whether the cache answers."""

    async def close(self) -> None:
        """Close its connections."""


class InProcessCache:
    """The least recently used values go first; for one process without Redis, which nobody claims work from."""

    def __init__(self, size: int = BYTES_IN_PROCESS) -> None:
        self._values: LRUCache[str, tuple[float, bytes]] = LRUCache(size, getsizeof=lambda kept: len(kept[1]))

    async def get(self, key: str) -> bytes | None:
        expires, value = self._values.get(key, (0.0, None))
        if expires > time.monotonic():
            return value
        self._values.pop(key, None)
        return None

    async def set(self, key: str, value: bytes, ttl: float, seen: str) -> bytes | None:
        there = REVISION.match(await self.get(key) or b"")
        if there and there[1].decode() != seen:
            return await self.get(key)
        if len(value) <= self._values.maxsize:
            self._values[key] = time.monotonic() + ttl, value
        return None

    async def delete(self, key: str) -> None:
        self._values.pop(key, None)

    async def claim(self, key: str, _seconds: float) -> Claim | None:
        return Claim(key, "")

    async def extend(self, _claim: Claim, _seconds: float) -> None:
        return

    async def release(self, _claim: Claim) -> None:
        return

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        self._values.clear()
