"""Instruments of the process: event loop, CPU, memory, garbage collection, and build."""

from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.platform.telemetry.instruments.spec import InstrumentSpec

EVENT_LOOP_LAG = InstrumentSpec(
    "support.event_loop.lag",
    "histogram",
    "s",
    "Delay of timers of the event loop, which adds to the duration of every request",
    {},
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
PROCESS_CPU = InstrumentSpec("process.cpu.time", "observed counter", "s", "CPU time", {"cpu.mode": ("user", "system")})
PROCESS_MEMORY = InstrumentSpec("process.memory.usage", "observed sum", "By", "Resident memory", {})
PROCESS_THREADS = InstrumentSpec("process.threads", "observed sum", "{thread}", "Threads", {})
PROCESS_FILES = InstrumentSpec(
    "process.unix.file_descriptors", "observed sum", "{file_descriptor}", "Open file descriptors", {}
)
PROCESS_MEMORY_LIMIT = InstrumentSpec(
    "process.memory.limit",
    "observed sum",
    "By",
    "Memory that the process may use: the limit of its cgroup, or the memory of the machine",
    {},
)
PROCESS_FILES_LIMIT = InstrumentSpec(
    "process.unix.file_descriptor_limit",
    "observed sum",
    "{file_descriptor}",
    "File descriptors that the process may open (ulimit -n)",
    {},
)
PROCESS_UPTIME = InstrumentSpec("process.uptime", "gauge", "s", "Time since the process started", {})
GC_COLLECTIONS = InstrumentSpec(
    "cpython.gc.collections",
    "observed counter",
    "{collection}",
    "Runs of the garbage collector",
    {"cpython.gc.generation": ("0", "1", "2")},
)
REPLICA_READY = InstrumentSpec(
    "support.replica.ready",
    "gauge",
    "{replica}",
    "1 while the replica is ready (`/readyz` answers 200), else 0; asked every 10 s",
    {},
)
DEPENDENCY_STATUS = InstrumentSpec(
    "support.dependency.status",
    "gauge",
    "{dependency}",
    "1 for the present status of each dependency, as `/readyz` tells it: ok, off (a source that is not called), or a "
    "code",
    {
        "dependency": ("database", "cache", "events", "storage", "access", *UPSTREAM_SERVICES),
        "status": None,
    },
)
CLOCK_OFFSET = InstrumentSpec(
    "support.clock.offset",
    "gauge",
    "s",
    "Offset of this process's clock from the database's, positive if it is ahead; 0 on SQLite",
    {},
)
CERTIFICATE_EXPIRES = InstrumentSpec(
    "support.certificate.expires",
    "gauge",
    "s",
    "Time until the certificate of a server expires that the service calls over https, read every hour; targets are "
    "the upstream services, keys (`SUPPORT_JWT_KEYS`), s3, and webhook:NAME",
    {"target": None},
)
BUILD_INFO = InstrumentSpec(
    "support.build.info",
    "gauge",
    "{build}",
    "Always 1; the labels are the versions in use",
    {"version": None, "python": None},
)
