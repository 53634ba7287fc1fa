"""Alerts on the service itself and on its traffic, and the watchdog that proves that alerts arrive at all."""

from observability import thresholds as t
from observability.alerts.alert import Alert, Record, of, seconds

CREATED = 'support_ticket_created_total{channel!="synthetic"}'
# The half hour before and after the same time of each past day.
SAME_HOUR = " or ".join(
    f"label_replace(avg_over_time(support:tickets_created:rate15m[{t.TRAFFIC_HOUR}]"
    f' offset {24 * day - 1}h30m), "day", "{day}", "", "")'
    for day in range(1, t.TRAFFIC_PAST + 1)
)
PAST = "day:support_tickets_created:same_hour"
ENOUGH = f"count({PAST}) >= {t.TRAFFIC_DAYS}"
# With seven days these are exactly the second lowest and the second highest: a weekend is usual, one odd day is not.
SECOND_LOWEST, SECOND_HIGHEST = "1/6", "5/6"
SPIKE = (
    f"sum(increase({CREATED}[{t.SPIKE_WINDOW}])) > {t.TRAFFIC_SPIKE_FLOOR} + {t.TRAFFIC_SPIKE}"
    f" * support:tickets_created:expected_high * {seconds(of(t.SPIKE_WINDOW))}"
)
SILENCE = (
    f"sum(increase({CREATED}[{t.SILENCE_WINDOW}])) < {t.TRAFFIC_SILENCE}"
    f" * (support:tickets_created:expected_low * {seconds(of(t.SILENCE_WINDOW))} >= {t.TRAFFIC_SILENCE_FLOOR})"
)

RECORDS = (
    Record("support:tickets_created:rate15m", f"sum(rate({CREATED}[{t.SILENCE_WINDOW}]))"),
    Record(PAST, SAME_HOUR),
    Record("support:tickets_created:expected_low", f"quantile({SECOND_LOWEST}, {PAST}) and {ENOUGH}"),
    Record("support:tickets_created:expected_high", f"quantile({SECOND_HIGHEST}, {PAST}) and {ENOUGH}"),
)
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
        "SupportTicketTrafficAnomaly",
        f'label_replace({SPIKE}, "direction", "spike", "", "")'
        f' or label_replace({SILENCE}, "direction", "silence", "", "")',
        t.CAUSE_FOR,
        "warning",
        "Unusual traffic of new cases: {{ $labels.direction }}",
        f"{{{{ $value | humanize }}}} cases were opened in the last {t.SPIKE_WINDOW} (spike) or {t.SILENCE_WINDOW} "
        f"(silence); the limit is more than {t.TRAFFIC_SPIKE} times, or less than {t.TRAFFIC_SILENCE:.0%} of, what the "
        f"same hour of the past {t.TRAFFIC_PAST} days makes usual.",
        "Support ticket traffic",
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
