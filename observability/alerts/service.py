"""Alerts on the service itself, and the watchdog that proves that alerts are delivered."""

from observability import thresholds as t
from observability.alerts.alert import Alert, seconds

ALERTS = (
    Alert(
        "SupportServiceDown",
        '(count(up{job="support-service"} == 1) or vector(0)) == 0',
        t.DOWN_FOR,
        "critical",
        "support-service is down: no replica responds",
        f"{{{{ $value }}}} replicas have answered a scrape in {t.DOWN_FOR} (limit: at least 1). Agents can neither "
        "read nor write cases.",
        "Support availability",
        t.DOWN_KEPT,
    ),
    Alert(
        "SupportEventLoopLag",
        "max(histogram_quantile(0.95, sum by (instance, le) "
        f"(rate(support_event_loop_lag_seconds_bucket[{t.WINDOW}])))) > {t.LOOP_LAG_P95}",
        t.SYMPTOM_FOR,
        "warning",
        "The event loop of a replica lags by {{ $value | humanizeDuration }}",
        "The 95th percentile of the event loop lag is {{ $value | humanizeDuration }} "
        f"(limit {t.LOOP_LAG_P95:g} s). Every request of that replica takes that much longer.",
        "Support event loop lag",
    ),
    Alert(
        "SupportAuditUnsealed",
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
        "vector(1)",
        t.AT_ONCE,
        "none",
        "Alert delivery works",
        "Always {{ $value }}. This alert fires all the time: if it stops arriving, no other alert arrives either.",
        "Support availability",
    ),
)
