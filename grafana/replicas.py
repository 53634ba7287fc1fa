"""Panels on single replicas: whether they answer, the use of their limits, and their clocks."""

from observability import thresholds as t

from grafana.panel import Panel, Query, Row, series, total


def _used(used: str, limit: str, legend: str, where: str = "", state: str = "") -> Query:
    """Return the share of a limit in use, by replica."""
    both = ",".join(filter(None, (where, state)))
    return Query(
        f"max by (instance) ({series(used, both)}) / max by (instance) ({series(limit, where)})",
        f"{{{{instance}}}} {legend}",
    )


REPLICAS = Row(
    "Replicas",
    (
        Panel(
            "Support replicas that answer",
            "Whether each replica answers Prometheus.",
            (Query(series("up"), "{{instance}}"),),
            "short",
            1,
            low=True,
            alerts=("SupportReplicaDown", "SupportMetricsMissing"),
            kind="states",
            words={"0": "down", "1": "up"},
        ),
        Panel(
            "Support replicas that are ready",
            "Whether each replica is ready (`/readyz` answers 200): the load balancer sends it requests.",
            (Query(series("support_replica_ready"), "{{instance}}"),),
            "short",
            1,
            low=True,
            alerts=("SupportReplicaNotReady",),
            kind="states",
            words={"0": "not ready", "1": "ready"},
        ),
        Panel(
            "Support dependencies",
            "How many replicas report each status of a dependency, as `/readyz` does. Normal: ok, or off for a source "
            "that is not called. Only the database makes a replica unready.",
            (Query(total("support_dependency_status", "dependency, status"), "{{dependency}} {{status}}"),),
            "short",
            alerts=("SupportReplicaNotReady",),
        ),
        Panel(
            "Support limits of replicas",
            f"Used share of each limit by replica. Alerts: {t.MEMORY_SHARE:.0%} of memory, {t.SATURATED_SHARE:.0%} of "
            "file descriptors and of connections to the database.",
            (
                _used("process_memory_usage_bytes", "process_memory_limit_bytes", "memory"),
                _used("process_unix_file_descriptors", "process_unix_file_descriptor_limit", "files"),
                _used(
                    "db_client_connections",
                    "db_client_connection_max",
                    "database connections",
                    'db_client_connection_pool_name="database"',
                    'db_client_connection_state="used"',
                ),
            ),
            "percentunit",
            t.SATURATED_SHARE,
            alerts=("SupportReplicaSaturated",),
            top=1,
        ),
        Panel(
            "Support clock offset",
            "Difference of each replica's clock from that of the database. Normal: under 1 s.",
            (Query(f"abs({series('support_clock_offset_seconds')})", "{{instance}}"),),
            "s",
            t.CLOCK_OFFSET,
            alerts=("SupportClockOffset",),
        ),
    ),
)
