"""Sums of wall and CPU time by name, which tests/support/plugins/times.py prints."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

SETUP = "set-up"  # the table of fixtures and starts

Sums = dict[str, list[float]]  # name -> [count, wall seconds, CPU seconds]

measured_here: dict[str, Sums] = {}  # by table; of this process


@contextmanager
def measured(name: str, table: str = SETUP) -> Iterator[None]:
    """Add the wall and CPU time of the block to a row of a table."""
    wall, cpu = time.perf_counter(), _cpu_time()
    try:
        yield
    finally:
        add(table, name, [1, time.perf_counter() - wall, _cpu_time() - cpu])


def add(table: str, name: str, values: list[float]) -> None:
    """Add a count, wall seconds and CPU seconds to a row of a table."""
    row = measured_here.setdefault(table, {}).setdefault(name, [0.0, 0.0, 0.0])
    row[:] = [before + more for before, more in zip(row, values, strict=True)]


def _cpu_time() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime
