"""What the process itself takes: CPU, memory, threads, files, garbage collection, and how late its event loop is."""

import asyncio
import gc
import time
from collections.abc import Callable

import psutil
from opentelemetry.metrics import Histogram

from support_service.telemetry import instruments as rows
from support_service.telemetry.instruments import Instruments, Reading

SAMPLE_EVERY = 0.25  # seconds between looks at the loop's lag
MOST_MISSED = 240  # looks that are made up for: a minute; a laptop that slept was not busy


def observe_process(instruments: Instruments) -> None:
    """Make the instruments of this process; they are read when someone scrapes."""
    process = psutil.Process()
    started = process.create_time()

    def cpu() -> Reading:
        times = process.cpu_times()
        return [(times.user, {"cpu.mode": "user"}), (times.system, {"cpu.mode": "system"})]

    def collections() -> Reading:
        return [
            (generation["collections"], {"cpython.gc.generation": str(number)})
            for number, generation in enumerate(gc.get_stats())
        ]

    instruments.observe(rows.PROCESS_CPU, cpu)
    instruments.observe(rows.PROCESS_MEMORY, lambda: [(process.memory_info().rss, {})])
    instruments.observe(rows.PROCESS_THREADS, lambda: [(process.num_threads(), {})])
    instruments.observe(rows.PROCESS_FILES, lambda: [(process.num_fds(), {})])
    instruments.observe(rows.PROCESS_UPTIME, lambda: [(time.time() - started, {})])
    instruments.observe(rows.GC_COLLECTIONS, collections)


async def sample_lag(lag: Histogram, note: Callable[[float], None]) -> None:
    """Record how late the loop wakes this task, again and again, and tell who acts on it.

    A loop that stood still missed looks: each is recorded with the wait that it would have found. Else a stall of six
    seconds in every twelve would be one look in twenty-five, and no percentile would show it.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + SAMPLE_EVERY
        await asyncio.sleep(SAMPLE_EVERY)
        late = max(0.0, loop.time() - due)
        note(late)
        for missed in range(min(int(late / SAMPLE_EVERY), MOST_MISSED) + 1):
            lag.record(late - missed * SAMPLE_EVERY)
