"""Alerts on the service itself, and the watchdog that proves that alerts are delivered."""

from observability import thresholds as t
from observability.alerts.alert import Alert, seconds

NO_REPLICA = '(count(up{job="support-service"} == 1) or vector(0)) == 0'
PROBE_GOOD = "on () max(support_probe_success) == 1"  # the service answers the probe, but not Prometheus

ALERTS = (
    Alert(
        "SupportServiceDown",
        ("no replica responds", "không replica nào trả lời"),
        f"{NO_REPLICA} unless {PROBE_GOOD}",
        t.DOWN_FOR,
        "critical",
        "support-service is down: no replica responds",
        f"{{{{ $value }}}} replicas have answered a scrape in {t.DOWN_FOR} (limit: at least 1). Agents can neither "
        "read nor write cases.",
        "Support availability",
        t.CAUSE_KEPT,
    ),
    Alert(
        "SupportMetricsMissing",
        (
            "Prometheus reads no metrics, although the service works",
            "Prometheus không đọc được metrics, dù service vẫn chạy",
        ),
        f"{NO_REPLICA} and {PROBE_GOOD}",
        t.METRICS_MISSING_FOR,
        "warning",
        "Prometheus reads no metrics of support-service, although the service works",
        f"{{{{ $value }}}} replicas have answered a scrape in {t.METRICS_MISSING_FOR} (limit: at least 1), while the "
        "synthetic check succeeds. No other alert on the service can fire until scrapes work.",
        "Support availability",
    ),
    Alert(
        "SupportAuditUnsealed",
        ("the audit log is not sealed", "nhật ký audit không được niêm phong"),
        f"max(support_audit_unsealed_age_seconds) > {seconds(t.AUDIT_AGE)}",
        t.SYMPTOM_FOR,
        "warning",
        "The audit log is not sealed: the oldest entry has waited {{ $value | humanizeDuration }}",
        "The oldest unsealed entry of the audit log has waited {{ $value | humanizeDuration }} "
        f"(limit {t.AUDIT_AGE} s). Until it is sealed, its alteration or removal cannot be detected.",
        "Support audit log",
    ),
    Alert(
        "Watchdog",
        ("proof that alerts arrive; act if it is missing", "bằng chứng là alert tới nơi; hành động khi vắng nó"),
        "vector(1)",
        t.AT_ONCE,
        "none",
        "Alert delivery works",
        "Always {{ $value }}. This alert fires all the time: if it stops arriving, no other alert arrives either.",
        "Support availability",
    ),
)
