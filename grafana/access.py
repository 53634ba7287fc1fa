"""Panels on authentication, refused requests, connections and the audit log."""

from observability import thresholds as t

from grafana.panel import Panel, Query, Row, highest, rate, series

ACCESS = Row(
    "Access, limits, audit",
    (
        Panel(
            "Support authentications",
            "Requests whose caller was asked for a token, by what came of it. Normal: accepted, and a few expired; "
            "invalid in numbers is someone who guesses, unavailable is the issuer's keys. An open service asks nobody.",
            (Query(rate("support_access_authentications_total", "outcome"), "{{outcome}}"),),
            "reqps",
        ),
        Panel(
            "Support age of the issuer's keys",
            "Time since each replica last read the keys that JWTs are checked with. Normal: under 5 min; while it "
            "grows the known keys stay. 0 without JWTs.",
            (Query(series("support_access_keys_age_seconds"), "{{instance}}"),),
            "s",
        ),
        Panel(
            "Support audit log",
            "Age of the oldest entry that has no place in the chain yet (the line is its limit); on the right, entries "
            "that have one. Normal: under 2 s.",
            (
                Query(highest("support_audit_unsealed_age_seconds"), "oldest not sealed"),
                Query(highest("support_audit_sealed"), "sealed", right="short"),
            ),
            "s",
            t.AUDIT_AGE,
            alerts=("SupportAuditUnsealed",),
        ),
        Panel(
            "Support requests turned away",
            "Requests that were refused before any work. address, principal: over their rate (429); the others: "
            "overload (503). Normal: 0, and a client now and then that asks too often.",
            (Query(rate("support_request_turned_away_total", "reason"), "{{reason}}"),),
            "reqps",
            width=12,
        ),
        Panel(
            "Support connections",
            "Connections of clients by replica; on the right, those that were refused or ended, by reason. Normal: "
            "head and unread at 0, idle and share only near the bound.",
            (
                Query(series("support_connection_open"), "{{instance}}"),
                Query(rate("support_connection_cut_total", "reason"), "cut: {{reason}}", right="cps"),
            ),
            "short",
            width=12,
        ),
    ),
)
