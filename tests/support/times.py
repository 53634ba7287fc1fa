"""What tests cost: the CPU time of this process and of all processes below it, and sums of it by name."""

import asyncio
import os
import resource
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

SETUP = "set-up"  # the table of fixtures and starts
SERVICES = "services"  # the table of modules that start services
SLEEPS = "sleeps"  # the table of the seconds that the sleeps of tests ask for
SLOWNESS = "slowness"  # of the machine, measured during the run

TESTS = str(Path(__file__).parents[1])
LONGEST_POLL = 0.1  # seconds; a busy machine repeats shorter sleeps more often
TICKS = os.sysconf("SC_CLK_TCK")  # in a second
REFERENCE = 0.0100  # CPU seconds of `_fixed_work` on the machine that the budget was measured on, while it was idle

Sums = dict[str, list[float]]  # name -> [count, wall seconds, CPU seconds]

enabled = False  # measuring each fixture takes a twentieth of the time of tests
measured_here: dict[str, Sums] = {}  # by table; of this process
_next_measurement = [0.0]
_slept_until = [0.0]
_sleep, _block = asyncio.sleep, time.sleep


@contextmanager
def measured(name: str, table: str = SETUP) -> Iterator[None]:
    """Add the wall and CPU time of the block to a row of a table."""
    if not enabled:
        yield
        return
    before = Usage.now()
    try:
        yield
    finally:
        used = before.until_now()
        add(table, name, [1, used.wall, used.cpu])


def add(table: str, name: str, values: list[float]) -> None:
    """Add a count, wall seconds and CPU seconds to a row of a table."""
    row = measured_here.setdefault(table, {}).setdefault(name, [0.0, 0.0, 0.0])
    row[:] = [before + more for before, more in zip(row, values, strict=True)]


def running_test() -> str:
    """Return the id of the test that runs, or whose fixture does."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")[0]


def count_service(*, shared: bool) -> None:
    """Count a service that the running test, or a fixture of its module, starts. Each worker may start a shared one."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    add(SERVICES, running_test().partition("::")[0], [1 / workers if shared else 1, 0, 0])


def count_sleeps() -> None:
    """Count from now on the seconds that sleeps in the code of tests ask for. A busy machine sleeps longer."""

    def sleep(delay: float, result: Any = None) -> Coroutine[Any, Any, Any]:
        return (_counted_sleep if _is_counted(delay, sys._getframe(1)) else _sleep)(delay, result)

    def block(delay: float) -> None:
        with counted(delay) if _is_counted(delay, sys._getframe(1)) else nullcontext():
            _block(delay)

    asyncio.sleep, time.sleep = sleep, block


async def _counted_sleep(delay: float, result: Any) -> Any:
    with counted(delay):
        return await _sleep(delay, result)


@contextmanager
def counted(asked: float) -> Iterator[None]:
    """Add the seconds that a sleep asks for, unless it is cancelled. Sleeps at the same time count once."""
    started = time.perf_counter()
    yield
    ended = min(time.perf_counter(), started + asked)  # the clock of an event loop may be simulated
    add(SLEEPS, running_test(), [1, max(0.0, ended - max(started, _slept_until[0])), 0])
    _slept_until[0] = max(ended, _slept_until[0])


def _is_counted(asked: float, caller: FrameType) -> bool:
    return asked > LONGEST_POLL and caller.f_code.co_filename.startswith(TESTS)


@dataclass(frozen=True)
class Usage:
    """Seconds of CPU time of this process and those below it, and on the wall."""

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> "Usage":
        """Return what was used until now, also by processes that have ended."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        below = sum(_cpu_of_process(pid) for pid in _processes_below("self"))
        return cls(time.process_time() + ended.ru_utime + ended.ru_stime + below, time.perf_counter())

    def until_now(self) -> "Usage":
        now = Usage.now()
        # A process whose parent ended is no longer below this one: the sum may fall.
        return Usage(max(0.0, now.cpu - self.cpu), now.wall - self.wall)


def measure_slowness() -> None:
    """Note how many times longer a fixed work takes now than on the machine of the budget, once in two seconds."""
    if time.monotonic() >= _next_measurement[0]:
        _next_measurement[0] = time.monotonic() + 2
        add(SLOWNESS, SLOWNESS, [1, 0, _fixed_work() / REFERENCE])


def _fixed_work() -> float:
    started = time.process_time()
    numbers = {str(number): number for number in range(60_000)}
    sorted(numbers, key=numbers.__getitem__, reverse=True)
    return time.process_time() - started


def _processes_below(pid: str) -> Iterator[str]:
    with suppress(OSError):  # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - a hundred times for each test
            for child in _read(f"/proc/{pid}/task/{task}/children").split():
                yield child
                yield from _processes_below(child)


def _cpu_of_process(pid: str) -> float:
    """Return CPU seconds, also of ended children."""
    _, _, numbers = _read(f"/proc/{pid}/stat").rpartition(") ")
    return sum(map(int, numbers.split()[11:15])) / TICKS  # utime, stime, cutime and cstime of proc(5)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
