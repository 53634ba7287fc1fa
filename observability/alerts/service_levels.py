"""Alerts on service levels: many breaches at once, and breaches that are not reported."""

from observability import thresholds as t
from observability.alerts.alert import Alert, seconds


def _breached(window: str) -> str:
    return f"sum(increase(support_sla_breached_total[{window}]))"


def _many_of_all(window: str) -> str:
    """Return the condition that a large share of the clocks that ended was breached; not met if none ended."""
    edge = 'le=~"1(.0)?"'  # 1 if ingested by OTLP, 1.0 if scraped
    in_time = f"sum(increase(support_sla_used_share_bucket{{{edge}}}[{window}]))"
    return f"{_breached(window)} / ({_breached(window)} + {in_time}) > {t.SLA_BREACH_SHARE:g}"


ALERTS = (
    Alert(
        "SupportSlaBreaching",
        ("many cases are answered or resolved too late", "nhiều case được trả lời hoặc giải quyết quá muộn"),
        f"{_breached(t.SLA_WINDOW)} >= {t.SLA_BREACHES} and {_many_of_all(t.SLA_WINDOW)} and {_many_of_all(t.WINDOW)}",
        t.CAUSE_FOR,
        "warning",
        "Service levels are breached: {{ $value | humanize }} clocks of cases in a quarter of an hour",
        f"{{{{ $value | humanize }}}} clocks of cases were breached in the last {t.SLA_WINDOW} (limit "
        f"{t.SLA_BREACHES}). "
        f"They are more than {t.SLA_BREACH_SHARE * 100:g} % of those that ended, in the last {t.WINDOW} too. Customers "
        "wait longer than they were promised.",
        "Support service level breaches",
    ),
    Alert(
        "SupportSlaClockStalled",
        ("breaches of service levels are not reported", "vi phạm mức dịch vụ không được báo cáo"),
        f"max(support_sla_unreported_age_seconds) > {seconds(t.SLA_UNREPORTED_AGE)}",
        t.EVENTS_FOR,
        "warning",
        "Breaches of service levels are not reported: one has waited {{ $value | humanizeDuration }}",
        "The oldest breach that is not reported has waited {{ $value | humanizeDuration }} "
        f"(limit {t.SLA_UNREPORTED_AGE} s). Cases show it, but no event and no entry reports it, and no counter "
        "has it.",
        "Support reports of breaches",
    ),
)
