"""Process metrics: CPU, memory, threads, open files, garbage collection, and event loop lag."""

import asyncio
import gc
import math
import resource
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import psutil

from support_service.core.clock import utc_now
from support_service.core.part_state import OncallCard
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec, Observations

CGROUPS = Path("/sys/fs/cgroup")
MAX_MISSED_SAMPLES = 240  # missed samples that are recorded afterwards: a minute; a laptop that slept was not busy

RECENT_SAMPLES = 240  # the samples of a minute

EVENT_LOOP_LAG = InstrumentSpec(
    "support.event_loop.lag",
    "histogram",
    "s",
    "Delay of timers of the event loop, which adds to the duration of every request",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
PROCESS_CPU = InstrumentSpec("process.cpu.time", "observed counter", "s", "CPU time", {"cpu.mode": ("user", "system")})
PROCESS_MEMORY = InstrumentSpec("process.memory.usage", "observed sum", "By", "Resident memory")
PROCESS_THREADS = InstrumentSpec("process.threads", "observed sum", "{thread}", "Threads")
PROCESS_FILES = InstrumentSpec(
    "process.unix.file_descriptors", "observed sum", "{file_descriptor}", "Open file descriptors"
)
PROCESS_MEMORY_LIMIT = InstrumentSpec(
    "process.memory.limit",
    "observed sum",
    "By",
    "Memory that the process may use: the limit of its cgroup, or the memory of the machine",
)
PROCESS_FILES_LIMIT = InstrumentSpec(
    "process.unix.file_descriptor_limit",
    "observed sum",
    "{file_descriptor}",
    "File descriptors that the process may open (ulimit -n)",
)
PROCESS_UPTIME = InstrumentSpec("process.uptime", "gauge", "s", "Time since the process started")
GC_COLLECTIONS = InstrumentSpec(
    "cpython.gc.collections",
    "observed counter",
    "{collection}",
    "Runs of the garbage collector",
    {"cpython.gc.generation": ("0", "1", "2")},
)


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

    instruments.observe(PROCESS_CPU, cpu)
    instruments.observe(PROCESS_MEMORY, lambda: [(process.memory_info().rss, {})])
    memory_limit = read_memory_limit()
    instruments.observe(PROCESS_MEMORY_LIMIT, lambda: [(memory_limit, {})])
    instruments.observe(PROCESS_FILES_LIMIT, _files_limit)
    instruments.observe(PROCESS_THREADS, lambda: [(process.num_threads(), {})])
    instruments.observe(PROCESS_FILES, lambda: [(process.num_fds(), {})])
    instruments.observe(PROCESS_UPTIME, lambda: [(time.time() - started, {})])
    instruments.observe(GC_COLLECTIONS, collections)


def read_memory_limit(root: Path = CGROUPS) -> int:
    """Return the memory in bytes that this process may use: its cgroup's limit, or the memory of the machine.

    A container sees its own cgroup at the root of the file system, with either version of cgroups.
    """
    machine = psutil.virtual_memory().total
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            limit = int((root / name).read_text())
        except (OSError, ValueError):  # no such version, or `max`
            continue
        return min(limit, machine)
    return machine


def _files_limit() -> Observations:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return [] if limit == resource.RLIM_INFINITY else [(limit, {})]


class LoopLagSampler:
    """Sampler of the event loop's lag. Each of its listeners is called with each sample, in seconds."""

    def __init__(self, instruments: Instruments, interval: float) -> None:
        self._recent: deque[float] = deque(maxlen=RECENT_SAMPLES)
        self.listeners: list[Callable[[float], None]] = []
        self._instruments = instruments
        self._interval = interval

    def card(self) -> OncallCard:
        """Return what on-call is shown of the lag of this replica in the last minute."""
        samples = list(self._recent)
        ordered = sorted(samples)
        figures = {
            "lag_seconds": samples[-1] if samples else None,
            "p95_seconds": ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None,
            "max_seconds": ordered[-1] if ordered else None,
        }
        return OncallCard(
            utc_now(), {name: value and round(value, 3) for name, value in figures.items()}, scope="replica"
        )

    async def run(self) -> None:
        """Sample the lag until cancelled.

        A blocked loop misses samples: each missed sample is recorded with the lag that it would have measured.
        Otherwise a stall of 6 s in every 12 s would be one sample in 25, and no percentile would show it.
        """
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval
            await asyncio.sleep(self._interval)
            late = max(0.0, loop.time() - due)
            for listener in self.listeners:
                listener(late)
            for missed in range(min(int(late / self._interval), MAX_MISSED_SAMPLES) + 1):
                self._instruments.record(EVENT_LOOP_LAG, late - missed * self._interval)
                self._recent.append(late - missed * self._interval)
