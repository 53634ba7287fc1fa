"""Readiness: whether the service accepts requests, and how many are in progress."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Readiness:
    """Whether the service accepts new requests, and how many are in progress.

    Shutdown clears `accepting` before it does anything else.
    """

    accepting: bool = True
    stop_by: float = 0.0  # loop time until which shutdown may wait for requests in progress
    in_progress: int = 0
    waiting_for_client: int = 0  # requests in progress that wait for their client, which costs only a connection
    ping: asyncio.Task[None] | None = None  # the current database check; at most one runs at a time

    @contextmanager
    def wait_for_client(self) -> Iterator[None]:
        """Count a request as waiting for its client for the duration of a `with` block."""
        self.waiting_for_client += 1
        try:
            yield
        finally:
            self.waiting_for_client -= 1
