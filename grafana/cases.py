"""Panels on the number of new cases with its usual range, and on waiting cases."""

from observability import thresholds as t
from observability.alerts.alert import of

from grafana.panel import HOUR, JOB, Panel, Query, Row, highest, hourly, quantile

REAL = 'channel!="synthetic"'
CREATED = "support_ticket_created_total"
LOW, HIGH = "support:tickets_created:expected_low", "support:tickets_created:expected_high"
# The alert's floors, converted from cases in its windows to cases an hour.
SPIKE_FLOOR = t.TRAFFIC_SPIKE_FLOOR * HOUR / of(t.SPIKE_WINDOW)
SILENCE_FLOOR = t.TRAFFIC_SILENCE_FLOOR * HOUR / of(t.SILENCE_WINDOW)

TRAFFIC = Row(
    "Traffic",
    (
        Panel(
            "Support ticket traffic",
            "New cases per hour, with the usual range for this hour over the past 7 days. Dashed: limits of the alert, "
            f"{t.TRAFFIC_SPIKE} times the upper edge plus a minimum, and {t.TRAFFIC_SILENCE:.0%} of the lower edge. "
            f"The band needs {t.TRAFFIC_DAYS} days of history.",
            (
                Query(f"sum(rate({CREATED}{{{JOB},{REAL}}}[{t.SILENCE_WINDOW}])) * {HOUR}", "new cases"),
                Query(f"{HIGH} * {HOUR}", "usual, upper edge"),
                Query(f"{LOW} * {HOUR}", "usual, lower edge"),
                Query(f"{HIGH} * {t.TRAFFIC_SPIKE * HOUR} + {SPIKE_FLOOR:g}", "flood", dashed=True),
                Query(f"({LOW} * {HOUR} >= {SILENCE_FLOOR:g}) * {t.TRAFFIC_SILENCE}", "silence", dashed=True),
            ),
            "suffix: /h",
            alerts=("SupportTicketTrafficAnomaly",),
            width=12,
        ),
        Panel(
            "Support tickets by channel",
            "New cases per hour. `synthetic` is the probe.",
            (Query(hourly(CREATED, "channel"), "{{channel}}"),),
            "suffix: /h",
            kind="stacked",
            width=12,
        ),
        Panel(
            "Support conversation",
            "Messages per hour by type of author.",
            (Query(hourly("support_conversation_added_total", "author_type"), "{{author_type}}"),),
            "suffix: /h",
            kind="stacked",
        ),
        Panel(
            "Support status changes",
            "Status changes per hour by new status.",
            (Query(hourly("support_ticket_status_changed_total", "status"), "{{status}}"),),
            "suffix: /h",
        ),
        Panel(
            "Support open cases",
            "Open and pending cases in the database.",
            (Query(highest("support_ticket_open", "status, priority"), "{{status}} {{priority}}"),),
            "short",
            kind="stacked",
        ),
        Panel(
            "Support oldest unanswered customer",
            "Age of the oldest customer message without an agent's answer.",
            (Query(highest("support_ticket_oldest_unanswered_seconds"), "oldest"),),
            "s",
            width=12,
        ),
        Panel(
            "Support time to first response and to resolution",
            "Half of the cases of the last 6 h took at most this long.",
            (
                Query(quantile(0.5, "support_ticket_first_response_seconds", window="6h"), "first response"),
                Query(quantile(0.5, "support_ticket_resolution_seconds", window="6h"), "resolution"),
            ),
            "s",
            width=12,
        ),
    ),
)
