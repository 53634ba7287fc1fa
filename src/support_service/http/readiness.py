"""Whether the service accepts requests, and how many it is working on."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web


@dataclass(slots=True)
class Readiness:
    """Whether new requests are welcome, which the stop ends before anything else, and how many are in work."""

    accepting: bool = True
    stop_by: float = 0.0  # until when, by the loop's clock, a stop may wait for what is in work
    working: int = 0
    waiting: int = 0  # of those in work: for their client alone, which costs nothing but a connection
    ping: asyncio.Task[None] | None = None  # the one question that the database is asked at a time

    @contextmanager
    def for_client(self) -> Iterator[None]:
        """Count a request as one that waits for its client, for the length of a block."""
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1


READINESS = web.AppKey("readiness", Readiness)
