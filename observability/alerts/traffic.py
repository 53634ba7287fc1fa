"""Alerts on the number of new cases and of requests, compared with the same hour of past days.

They have a rule group of their own: its unit test covers eight days, which the other groups need not be evaluated for.
"""

from observability import thresholds as t
from observability.alerts.alert import Alert, Record, of, seconds

CREATED = 'support_ticket_created_total{channel!="synthetic"}'
# The average of the half hours before and after the same time of each past day.
SAME_HOUR = " or ".join(
    f"label_replace(avg_over_time(support:tickets_created:rate15m[{t.TRAFFIC_HOUR}]"
    f' offset {24 * day - 1}h30m), "day", "{day}", "", "")'
    for day in range(1, t.TRAFFIC_PAST + 1)
)
PAST = "day:support_tickets_created:same_hour"
ENOUGH = f"count({PAST}) >= {t.TRAFFIC_DAYS}"
# With seven days these are exactly the second lowest and the second highest: a weekend counts as usual, one odd day
# does not.
SECOND_LOWEST, SECOND_HIGHEST = "1/6", "5/6"
SPIKE = (
    f"sum(increase({CREATED}[{t.SPIKE_WINDOW}])) > {t.TRAFFIC_SPIKE_FLOOR} + {t.TRAFFIC_SPIKE}"
    f" * support:tickets_created:expected_high * {seconds(of(t.SPIKE_WINDOW))}"
)
SILENCE = (
    f"sum(increase({CREATED}[{t.SILENCE_WINDOW}])) < {t.TRAFFIC_SILENCE}"
    f" * (support:tickets_created:expected_low * {seconds(of(t.SILENCE_WINDOW))} >= {t.TRAFFIC_SILENCE_FLOOR})"
)

REQUESTS = 'support_request_received_total{synthetic="other"}'
EXPECTED = " and ".join(
    f"sum(increase({REQUESTS}[{t.TRAFFIC_HOUR}] offset {24 * day - 1}h30m)) > {t.NO_TRAFFIC_EXPECTED}"
    for day in (1, t.TRAFFIC_PAST)
)

RECORDS = (
    Record("support:tickets_created:rate15m", f"sum(rate({CREATED}[{t.SILENCE_WINDOW}]))"),
    Record(PAST, SAME_HOUR),
    Record("support:tickets_created:expected_low", f"quantile({SECOND_LOWEST}, {PAST}) and {ENOUGH}"),
    Record("support:tickets_created:expected_high", f"quantile({SECOND_HIGHEST}, {PAST}) and {ENOUGH}"),
)
ALERTS = (
    Alert(
        "SupportTicketTrafficAnomaly",
        ("far more or far fewer new cases than usual", "case mới nhiều hoặc ít hơn hẳn thường lệ"),
        f'label_replace({SPIKE}, "direction", "spike", "", "")'
        f' or label_replace({SILENCE}, "direction", "silence", "", "")',
        t.CAUSE_FOR,
        "warning",
        "Unusual number of new cases: {{ $labels.direction }}",
        f"{{{{ $value | humanize }}}} cases were opened in the last {t.SPIKE_WINDOW} (spike) or {t.SILENCE_WINDOW} "
        f"(silence). The limit is {t.TRAFFIC_SPIKE} times (spike) or {t.TRAFFIC_SILENCE:.0%} (silence) of the usual "
        f"number in the same hour of the past {t.TRAFFIC_PAST} days.",
        "Support ticket traffic",
    ),
    Alert(
        "SupportNoTraffic",
        ("no request arrives", "không có request nào tới"),
        f"sum(increase({REQUESTS}[{t.NO_TRAFFIC_WINDOW}])) == 0 and {EXPECTED}",
        t.CAUSE_FOR,
        "critical",
        "No request of a person or a system reaches support-service",
        f"{{{{ $value }}}} requests except the probe's arrived in {t.NO_TRAFFIC_WINDOW} (limit: at least 1), while "
        f"more than {t.NO_TRAFFIC_EXPECTED} arrived in the same hour of yesterday and of the same day last week. The "
        "way to the service is broken: a load balancer, DNS, or a certificate.",
        "Support requests by sender",
        t.CAUSE_KEPT,
    ),
)
