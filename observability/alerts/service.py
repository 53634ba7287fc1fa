"""Alerts on the service itself, and the watchdog that proves that alerts are delivered."""

from observability import thresholds as t
from observability.alerts.alert import Alert, seconds

ALERTS = (
    Alert(
        "SupportServiceDown",
        '(count(up{job="support-service"} == 1) or vector(0)) == 0',
        t.DOWN_FOR,
        "critical",
        "support-service is down: no replica answers",
        f"{{{{ $value }}}} replicas have answered a scrape in {t.DOWN_FOR} (limit: 1 at least). Agents can neither "
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
        "A replica's event loop is late by {{ $value | humanizeDuration }}",
        "The 95th percentile of the event loop's lag is {{ $value | humanizeDuration }} "
        f"(limit {t.LOOP_LAG_P95:g} s): every request of that replica waits so long besides its own work.",
        "Support event loop lag",
    ),
    Alert(
        "SupportAuditUnsealed",
        f"max(support_audit_unsealed_age_seconds) > {seconds(t.AUDIT_AGE)}",
        t.SYMPTOM_FOR,
        "warning",
        "The audit log is not sealed: the oldest entry waits {{ $value | humanizeDuration }}",
        "The oldest entry of the audit log has waited {{ $value | humanizeDuration }} for its place in the chain "
        f"(limit {t.AUDIT_AGE} s). Until it has one, nobody could prove that it was altered or removed.",
        "Support audit log",
    ),
    Alert(
        "Watchdog",
        "vector(1)",
        t.AT_ONCE,
        "none",
        "Alerts arrive",
        "Always {{ $value }}: whoever waits for this alert and misses it knows that the others would not come either.",
        "Support availability",
    ),
)
