"""Alerts on single replicas: down, restarting, slow, at a limit of their resources, or with a wrong clock."""

from observability import thresholds as t
from observability.alerts.alert import Alert, Record, seconds

JOB = 'job="support-service"'
LAG = "instance:support_event_loop_lag_seconds:p95"


def _share(resource: str, used: str, limit: str, most: float) -> str:
    """Return the share of a resource in use by instance where it is over `most`, with the label `resource`."""
    shares = f"max by (instance) ({used}) / max by (instance) ({limit})"
    return f'label_replace({shares} > {most}, "resource", "{resource}", "", "")'


# Text of a template that names each dependency that fails for the alert's instance, with its code.
UNAVAILABLE = (
    '{{ range query (printf "support_dependency_status{instance=%q,status!~\\"ok|off\\"}" $labels.instance) }}, '
    "{{ .Labels.dependency }}: {{ .Labels.status }}{{ end }}"
)
POOL = 'db_client_connection_pool_name="database"'
RECORDS = (
    Record(
        LAG,
        f"histogram_quantile(0.95, sum by (instance, le) (rate(support_event_loop_lag_seconds_bucket[{t.WINDOW}])))",
    ),
)
ALERTS = (
    Alert(
        "SupportReplicaDown",
        ("one replica does not respond", "một replica không trả lời"),
        f"up{{{JOB}}} == 0 and on () count(up{{{JOB}}} == 1) > 0",
        t.REPLICA_DOWN_FOR,
        "warning",
        "The replica {{ $labels.instance }} does not answer",
        f"The replica {{{{ $labels.instance }}}} has answered no scrape for {t.REPLICA_DOWN_FOR} (up is "
        "{{ $value }}, limit 1). The other replicas have its load.",
        "Support replicas that answer",
    ),
    Alert(
        "SupportReplicaNotReady",
        ("one replica runs and does not become ready", "một replica chạy mà không sẵn sàng"),
        f"max by (instance) (support_replica_ready{{{JOB}}}) == 0",
        t.NOT_READY_FOR,
        "warning",
        f"The replica {{{{ $labels.instance }}}} runs and gets no requests: not ready{UNAVAILABLE}",
        f"The replica {{{{ $labels.instance }}}} has answered /readyz with 503 for {t.NOT_READY_FOR} (ready is "
        "{{ $value }}, limit 1). The other replicas have its load; a rollout that waits for it does not end.",
        "Support replicas that are ready",
    ),
    Alert(
        "SupportRestartLoop",
        ("a replica restarts again and again", "một replica liên tục khởi động lại"),
        f"resets(process_uptime_seconds{{{JOB}}}[{t.RESTART_WINDOW}]) >= {t.RESTARTS}",
        t.AT_ONCE,
        "warning",
        "The replica {{ $labels.instance }} restarts again and again",
        f"The replica {{{{ $labels.instance }}}} restarted {{{{ $value }}}} times in {t.RESTART_WINDOW} (limit "
        f"{t.RESTARTS}). Requests in progress are lost at each crash.",
        "Support uptime",
    ),
    Alert(
        "SupportEventLoopLag",
        ("the event loop of a replica lags", "event loop của một replica bị trễ"),
        f"{LAG} > {t.LOOP_LAG_P95} or min_over_time({LAG}[{t.LOOP_LAG_LONG_FOR}]) > {t.LOOP_LAG_LONG}",
        t.SYMPTOM_FOR,
        "warning",
        "The event loop of {{ $labels.instance }} lags by {{ $value | humanizeDuration }}",
        "The 95th percentile of the event loop lag of {{ $labels.instance }} is {{ $value | humanizeDuration }} "
        f"(limit {t.LOOP_LAG_P95:g} s, or {t.LOOP_LAG_LONG:g} s for {t.LOOP_LAG_LONG_FOR}). Every request of that "
        "replica takes that much longer.",
        "Support event loop lag",
    ),
    Alert(
        "SupportReplicaSaturated",
        (
            "a replica is near its limit of memory, files or connections",
            "một replica gần giới hạn bộ nhớ, file hoặc kết nối",
        ),
        " or ".join(
            (
                _share(
                    "memory",
                    f"process_memory_usage_bytes{{{JOB}}}",
                    f"process_memory_limit_bytes{{{JOB}}}",
                    t.MEMORY_SHARE,
                ),
                _share(
                    "file descriptors",
                    f"process_unix_file_descriptors{{{JOB}}}",
                    f"process_unix_file_descriptor_limit{{{JOB}}}",
                    t.SATURATED_SHARE,
                ),
                _share(
                    "database connections",
                    f'db_client_connections{{{JOB},{POOL},db_client_connection_state="used"}}',
                    f"db_client_connection_max{{{JOB},{POOL}}}",
                    t.SATURATED_SHARE,
                ),
            )
        ),
        t.SYMPTOM_FOR,
        "warning",
        "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of its {{ $labels.resource }}",
        "{{ $labels.instance }} uses {{ $value | humanizePercentage }} of its {{ $labels.resource }} (limit "
        f"{t.MEMORY_SHARE:.0%} of memory, {t.SATURATED_SHARE:.0%} of file descriptors and database connections). "
        "At 100 % it is ended, or its requests wait and fail.",
        "Support limits of replicas",
    ),
    Alert(
        "SupportClockOffset",
        ("the clock of a replica is wrong", "đồng hồ của một replica bị sai"),
        f"abs(support_clock_offset_seconds) > {seconds(t.CLOCK_OFFSET)}",
        t.SYMPTOM_FOR,
        "warning",
        "The clock of {{ $labels.instance }} differs by {{ $value | humanizeDuration }}",
        "The clock of {{ $labels.instance }} differs from that of the database by {{ $value | humanizeDuration }} "
        f"(limit {t.CLOCK_OFFSET} s). Times of cases are wrong, and valid tokens may be refused.",
        "Support clock offset",
    ),
)
