"""Panels on each replica's process: utilisation, saturation, errors; and on its stores."""

from observability import thresholds as t

from grafana.panel import Panel, Query, Row, quantile, rate, series, share, total

OPERATION = "db_client_operation_duration_seconds"
POOL = "db_client_connection_pool_name"


def _each(expr: str) -> tuple[Query, ...]:
    return (Query(expr, "{{instance}}"),)


PROCESS = Row(
    "Process: utilisation, saturation, errors",
    (
        Panel(
            "Support CPU",
            "Cores in use by replica. One event loop can use one core: near 1 it is saturated.",
            _each(rate("process_cpu_time_seconds_total", "instance")),
            "short",
        ),
        Panel(
            "Support event loop lag",
            "95 of 100 wake-ups of the event loop are at most this late. It adds to the duration of every request. "
            "Normal: under 10 ms.",
            _each(quantile(0.95, "support_event_loop_lag_seconds", "instance", window=t.WINDOW)),
            "s",
            t.LOOP_LAG_P95,
            alerts=("SupportEventLoopLag",),
        ),
        Panel(
            "Support memory",
            "Resident memory by replica. Normal: flat after the first hour.",
            _each(series("process_memory_usage_bytes")),
            "bytes",
        ),
        Panel(
            "Support file descriptors",
            "Open files and connections by replica. Normal: flat; a steady rise is a leak.",
            _each(series("process_unix_file_descriptors")),
            "short",
        ),
        Panel(
            "Support threads",
            "Threads by replica.",
            _each(series("process_threads")),
            "short",
        ),
        Panel(
            "Support garbage collections",
            "Runs of Python's garbage collector over all replicas, by generation.",
            (
                Query(
                    rate("cpython_gc_collections_total", "cpython_gc_generation"),
                    "generation {{cpython_gc_generation}}",
                ),
            ),
            "ops",
        ),
        Panel(
            "Support uptime",
            "Time since each replica started.",
            _each(series("process_uptime_seconds")),
            "s",
            alerts=("SupportServiceDown", "SupportRestartLoop"),
            width=24,
        ),
    ),
)
STORES = Row(
    "Database, Redis, connections",
    (
        Panel(
            "Support database and Redis p95",
            "95 of 100 operations take at most this long.",
            (
                Query(
                    quantile(0.95, OPERATION, "db_system_name, db_operation_name"),
                    "{{db_system_name}} {{db_operation_name}}",
                ),
            ),
            "s",
        ),
        Panel(
            "Support database and Redis errors",
            "Share of operations that fail. Normal: 0.",
            (
                Query(
                    share(
                        rate(f"{OPERATION}_count", "db_system_name", 'error_type!=""'),
                        rate(f"{OPERATION}_count", "db_system_name"),
                    ),
                    "{{db_system_name}}",
                ),
            ),
            "percentunit",
            top=1,
        ),
        Panel(
            "Support connection pools",
            "Share of each pool's connections in use, by replica. At 100 % requests wait for a connection.",
            (
                Query(
                    share(
                        total("db_client_connections", f"instance, {POOL}", 'db_client_connection_state="used"'),
                        total("db_client_connections", f"instance, {POOL}"),
                    ),
                    f"{{{{instance}}}} {{{{{POOL}}}}}",
                ),
            ),
            "percentunit",
            top=1,
        ),
    ),
)
