"""Readiness: whether the service accepts requests, and how many are in progress."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Readiness:
    """Whether the service accepts new requests, and how many are in progress.

    Shutdown clears `accepting` before it does anything else.
    """

    accepting: bool = True
    stop_by: float = 0.0  # loop time until which shutdown may wait for requests in progress
    in_progress: int = 0
    waiting_for_client: int = 0  # requests in progress that wait for their client, which costs only a connection
    streams: int = 0  # requests in progress that end only when the service ends them
    end_streams: list[Callable[[], None]] = field(default_factory=list)  # shutdown calls these after all other requests
    ping: asyncio.Task[None] | None = None  # the current database check; at most one runs at a time

    @contextmanager
    def wait_for_client(self) -> Iterator[None]:
        """Count a request as waiting for its client for the duration of a `with` block."""
        self.waiting_for_client += 1
        try:
            yield
        finally:
            self.waiting_for_client -= 1

    @contextmanager
    def stream(self) -> Iterator[None]:
        """Count a request as a stream, which waits for its client, for the duration of a `with` block."""
        self.streams += 1
        try:
            with self.wait_for_client():
                yield
        finally:
            self.streams -= 1

    def close_streams(self) -> None:
        """End every stream."""
        for end in self.end_streams:
            end()
