"""What a process uses, as the Linux kernel counts it."""

import contextlib
import time
from pathlib import Path

CPUCLOCK_SCHED = 2  # the kind of clock that counts the CPU time of a whole process
LISTEN = "0A"  # the state of a socket in /proc/net/tcp


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all its threads, to the nanosecond.

    The clock id is made as clock_getcpuclockid(3) makes it; /proc/PID/stat counts in steps of 10 ms, too coarse for a
    second of load.
    """
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def resident_mib(pid: int) -> float:
    """Memory that a process holds now."""
    return _status_mib(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """The most memory that a process held since the last reset_peak."""
    return _status_mib(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Let the peak start again from what is held now; where that is not allowed, the peak stays that of all time."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def listens(pid: int, port: int) -> bool:
    """Whether this process, and no other that was quicker, listens on a TCP port of IPv4."""
    sockets = {
        f"socket:[{fields[9]}]"
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port
    }
    try:
        return any(str(file.readlink()) in sockets for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False  # it ended, or closed a file just now


def _status_mib(pid: int, key: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) / 1024
    raise LookupError(f"/proc/{pid}/status has no {key}")
