"""Sums of wall and CPU time by name, which tests/support/plugins/times.py prints."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.forkserver import _forkserver
from pathlib import Path

SETUP = "set-up"  # the table of fixtures and starts

TICKS = os.sysconf("SC_CLK_TCK")  # in a second

Sums = dict[str, list[float]]  # name -> [count, wall seconds, CPU seconds]

enabled = False  # measuring takes a twentieth of the time of tests
measured_here: dict[str, Sums] = {}  # by table; of this process


@contextmanager
def measured(name: str, table: str = SETUP) -> Iterator[None]:
    """Add the wall and CPU time of the block to a row of a table."""
    if not enabled:
        yield
        return
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
    """Return the CPU seconds of this process and of its children that have ended, also of tests/support/forks.py."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime + _forked_cpu_time()


def _forked_cpu_time() -> float:
    """Return the CPU seconds of the process that forks, and of its forks that have ended."""
    if _forkserver._forkserver_pid is None:
        return 0.0
    _, _, numbers = Path(f"/proc/{_forkserver._forkserver_pid}/stat").read_text().rpartition(") ")
    return sum(map(int, numbers.split()[11:15])) / TICKS  # utime, stime, cutime and cstime of proc(5)
