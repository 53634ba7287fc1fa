"""Panels on authentication, refused requests, connections and the audit log."""

from observability import thresholds as t

from grafana.panel import Panel, Query, Row, highest, rate, series

ACCESS = Row(
    "Access, limits, audit",
    (
        Panel(
            "Support authentications",
            "Authentications of requests by outcome. Normal: accepted, and a few expired. Many invalid: a client "
            "guesses tokens; unavailable: the issuer's keys can't be read. No data with SUPPORT_AUTH=open.",
            (Query(rate("support_access_authentications_total", "outcome"), "{{outcome}}"),),
            "reqps",
            alerts=("SupportAccessRefused",),
        ),
        Panel(
            "Support age of the issuer's keys",
            "Time since each replica last read the keys that verify JWTs, or the token file. Normal: under 5 min. "
            "While it grows, replicas use those that they know. 0 without JWTs, or without a token file.",
            (
                Query(series("support_access_keys_age_seconds"), "{{instance}} keys"),
                Query(series("support_access_tokens_age_seconds"), "{{instance}} tokens"),
            ),
            "s",
            t.KEYS_AGE,
            alerts=("SupportAccessKeysStale",),
        ),
        Panel(
            "Support audit log",
            "Age of the oldest entry that is not sealed (the line is its limit); on the right, sealed entries. Normal: "
            "under 2 s.",
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
            "Requests that admission refused. address, principal: over the rate limit (429); other reasons: overload "
            "(503). Normal: 0, or a few from a client over its limit.",
            (Query(rate("support_request_turned_away_total", "reason"), "{{reason}}"),),
            "reqps",
            alerts=("SupportRequestsTurnedAway",),
            width=12,
        ),
        Panel(
            "Support connections",
            "Client connections by replica; on the right, refused and closed connections by reason. Normal: head and "
            "unread at 0, idle and share only near the limit.",
            (
                Query(series("support_connection_open"), "{{instance}}"),
                Query(rate("support_connection_cut_total", "reason"), "cut: {{reason}}", right="cps"),
            ),
            "short",
            width=12,
        ),
    ),
)
