"""Panels on service levels: running clocks, breaches, the time that is used, and the reports of breaches."""

from observability import thresholds as t

from grafana.panel import Panel, Query, Row, highest, hourly, quantile

SERVICE_LEVELS = Row(
    "Service levels",
    (
        Panel(
            "Support service level breaches",
            "Breaches per hour by target; on the right, running clocks. Normal: a small part of the clocks that end. "
            f"The alert needs {t.SLA_BREACHES} in {t.SLA_WINDOW}.",
            (
                Query(hourly("support_sla_breached_total", "target"), "{{target}}"),
                Query(highest("support_sla_running", "target"), "running: {{target}}", right="short"),
            ),
            "suffix: /h",
            alerts=("SupportSlaBreaching",),
            width=12,
        ),
        Panel(
            "Support reports of breaches",
            "Time since the first breach that is not reported (the line is its limit). Normal: under 5 s.",
            (Query(highest("support_sla_unreported_age_seconds"), "not reported"),),
            "s",
            t.SLA_UNREPORTED_AGE,
            alerts=("SupportSlaClockStalled",),
            width=12,
        ),
        Panel(
            "Support used share of service levels",
            "Working time until a target was reached, as a share of the allowed time. Half of the clocks that ended in "
            "the last 6 h used at most this share; above 1 they were late.",
            (Query(quantile(0.5, "support_sla_used_share", "target", window="6h"), "{{target}}"),),
            "percentunit",
            width=12,
        ),
        Panel(
            "Support oldest overdue case",
            "Time since the longest overdue clock of each target was due. It includes nights and holidays.",
            (Query(highest("support_sla_oldest_overdue_seconds", "target"), "{{target}}"),),
            "s",
            width=12,
        ),
    ),
)
