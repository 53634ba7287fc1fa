"""Process metrics: CPU, memory, threads, open files, garbage collection, and event loop lag."""

import asyncio
import gc
import time
from collections.abc import Callable

import psutil
from opentelemetry.metrics import Histogram

from support_service.telemetry import instruments as rows
from support_service.telemetry.instruments import Instruments, Observations

LAG_SAMPLE_INTERVAL = 0.25  # seconds between samples of the event loop lag
MAX_MISSED_SAMPLES = 240  # missed samples that are recorded afterwards: a minute; a laptop that slept was not busy


def observe_process(instruments: Instruments) -> None:
    """Create the process instruments; their values are read at each scrape and each export."""
    process = psutil.Process()
    started = process.create_time()

    def cpu() -> Observations:
        times = process.cpu_times()
        return [(times.user, {"cpu.mode": "user"}), (times.system, {"cpu.mode": "system"})]

    def collections() -> Observations:
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
    """Sample the event loop lag (seconds) every SAMPLE_EVERY seconds, indefinitely, and pass each sample to `note`.

    A blocked loop misses samples: each missed sample is recorded with the lag that it would have measured. Otherwise a
    stall of 6 s in every 12 s would be one sample in 25, and no percentile would show it.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_SAMPLE_INTERVAL
        await asyncio.sleep(LAG_SAMPLE_INTERVAL)
        late = max(0.0, loop.time() - due)
        note(late)
        for missed in range(min(int(late / LAG_SAMPLE_INTERVAL), MAX_MISSED_SAMPLES) + 1):
            lag.record(late - missed * LAG_SAMPLE_INTERVAL)
