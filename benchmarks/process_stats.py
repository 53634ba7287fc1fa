"""Resource usage of a process as the Linux kernel counts it."""

import contextlib
import time
from pathlib import Path

CPUCLOCK_SCHED = 2  # type of the clock that counts the CPU time of a whole process
LISTEN = "0A"  # socket state in /proc/net/tcp


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its threads in seconds, with a resolution of a nanosecond.

    The clock id is computed as in clock_getcpuclockid(3). /proc/PID/stat counts in steps of 10 ms, too coarse for a
    second of load.
    """
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


def resident_mib(pid: int) -> float:
    """Return the current memory of a process in MiB."""
    return _status_mib(pid, "VmRSS")


def peak_mib(pid: int) -> float:
    """Return the peak memory of a process since the last reset_peak in MiB."""
    return _status_mib(pid, "VmHWM")


def reset_peak(pid: int) -> None:
    """Reset the peak to the current memory. Without permission the peak remains that since the process started."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def listens(pid: int, port: int) -> bool:
    """Return whether this process, and not another one, listens on a TCP port of IPv4."""
    sockets = {
        f"socket:[{fields[9]}]"
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port
    }
    try:
        return any(str(file.readlink()) in sockets for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False  # the process ended or closed a file meanwhile


def _status_mib(pid: int, key: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) / 1024
    raise LookupError(f"/proc/{pid}/status has no {key}")
