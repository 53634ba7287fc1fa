"""Server CPU time per read, without inbound events and with events at the budgeted rate."""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from benchmarks.load_generator import Client, Failed
from benchmarks.process_stats import cpu_seconds
from benchmarks.scenarios import CASES, plain

CONNECTIONS = 32
ROUNDS = 3


@dataclass(slots=True)
class CpuUsage:
    """The server's CPU time in seconds, and the numbers of reads and events that it covers."""

    seconds: float = 0.0
    reads: int = 0
    events: int = 0

    def add(self, seconds: float, reads: int, events: int) -> None:
        """Add one window."""
        self.seconds += seconds
        self.reads += reads
        self.events += events


@dataclass(slots=True)
class EventStream:
    """Inbound events. `send` adds one; `handled` returns how many have been processed."""

    send: Callable[[], Coroutine[Any, Any, None]]
    handled: Callable[[], Coroutine[Any, Any, int]]
    rate: float  # events a second


async def compare(
    port: int, pid: int, cases: list[str], stream: EventStream, seconds: float
) -> tuple[float, float, float]:
    """Return the CPU of a read in ms without and with events, and the share of sent events that took effect meanwhile.

    The CPU of the events themselves is subtracted from the second figure, which shows their effect on the API.
    """
    requests = (plain("GET", f"{CASES}/{case}") for case in itertools.cycle(cases))
    alone, events_only, both = CpuUsage(), CpuUsage(), CpuUsage()
    sent = 0
    async with Client(port, CONNECTIONS) as client:
        for usage, reads, events in itertools.islice(
            itertools.cycle(((alone, True, False), (events_only, False, True), (both, True, True))), 3 * ROUNDS
        ):
            before, handled = cpu_seconds(pid), await stream.handled()
            sending = asyncio.create_task(_send(stream, seconds)) if events else None
            sample = await client.drive(requests, seconds=seconds) if reads else None
            number = await sending if sending else 0
            if sample and sample.errors:
                raise Failed(f"Reads failed: {dict(sample.errors)}")
            usage.add(cpu_seconds(pid) - before, sample.started if sample else 0, await stream.handled() - handled)
            sent += number if reads else 0
            while await stream.handled() < handled + number:  # noqa: ASYNC110 - another process handles them
                await asyncio.sleep(0.05)
    event = events_only.seconds / events_only.events
    with_events = (both.seconds - both.events * event) / both.reads
    return alone.seconds / alone.reads * 1000, with_events * 1000, both.events / sent


async def _send(stream: EventStream, seconds: float) -> int:
    """Send events at the stream's rate for `seconds` and return their number."""
    started = time.perf_counter()
    for number in range(int(stream.rate * seconds)):
        await stream.send()
        await asyncio.sleep(max(0.0, started + (number + 1) / stream.rate - time.perf_counter()))
    return int(stream.rate * seconds)
