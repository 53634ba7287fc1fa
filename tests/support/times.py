"""What tests cost: the CPU time of this process and of all processes below it, and sums of it by name."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SETUP = "set-up"  # the table of fixtures and starts
SERVICES = "services"  # the table of modules that start services
SLOWNESS = "slowness"  # of the machine, measured during the run

TICKS = os.sysconf("SC_CLK_TCK")  # in a second
REFERENCE = 0.0100  # CPU seconds of `_fixed_work` on the machine that the budget was measured on, while it was idle

Sums = dict[str, list[float]]  # name -> [count, wall seconds, CPU seconds]

enabled = False  # measuring each fixture takes a twentieth of the time of tests
measured_here: dict[str, Sums] = {}  # by table; of this process
_next_measurement = [0.0]


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


def count_service(*, shared: bool) -> None:
    """Count a service that the running test, or a fixture of its module, starts. Each worker may start a shared one."""
    running = os.environ.get("PYTEST_CURRENT_TEST", "")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    add(SERVICES, running.partition("::")[0], [1 / workers if shared else 1, 0, 0])


@dataclass(frozen=True)
class Usage:
    """Seconds of this process and those below it: CPU time, waits for a processor, and on the wall."""

    cpu: float
    waits: float
    wall: float

    @classmethod
    def now(cls) -> "Usage":
        """Return what was used until now, also by processes that have ended."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        below = [_of_process(pid) for pid in _processes_below("self")]
        cpu = time.process_time() + ended.ru_utime + ended.ru_stime + sum(cpu for cpu, _ in below)
        return cls(cpu, _wait("self") + sum(wait for _, wait in below), time.perf_counter())

    def until_now(self) -> "Usage":
        now = Usage.now()
        # A process whose parent ended is no longer below this one: the sum may fall.
        return Usage(max(0.0, now.cpu - self.cpu), max(0.0, now.waits - self.waits), now.wall - self.wall)

    @property
    def seconds(self) -> float:
        """The time that it would have taken on an idle machine, or less: a busy machine makes nothing longer."""
        return max(self.cpu, self.wall - self.waits)


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


def _of_process(pid: str) -> tuple[float, float]:
    """Return CPU seconds, also of ended children, and seconds of waits for a processor."""
    _, _, numbers = _read(f"/proc/{pid}/stat").rpartition(") ")
    return sum(map(int, numbers.split()[11:15])) / TICKS, _wait(pid)  # utime, stime, cutime and cstime of proc(5)


def _wait(pid: str) -> float:
    numbers = _read(f"/proc/{pid}/schedstat").split()
    return int(numbers[1]) / 1e9 if numbers else 0.0


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
