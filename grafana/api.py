"""Panels on the objectives and their error budgets, and on the API's rate, errors and duration."""

from observability import thresholds as t
from observability.alerts.access import CLIENT_ERROR
from observability.alerts.objectives import IN_TIME, UNWATCHED

from grafana.panel import Panel, Query, Row, quantile, rate, share, total

REQUESTS = "http_server_request_duration_seconds"
ROUTED = f'http_route!~"{UNWATCHED}"'
FAILED = f'{ROUTED},http_response_status_code=~"5.."'
READS = "support_timeline_read_seconds"
MONTH = "30d"
BURN_WINDOWS = (t.BURN_FAST_WINDOWS[0], t.BURN_MEDIUM_WINDOWS[0], t.BURN_SLOW_WINDOWS[0])


def _burn(key: str, objective: float) -> tuple[Query, ...]:
    """Return the burn rate of the budget over each of the alerts' long windows. At 1 it lasts exactly 30 days."""
    budget = f"{1 - objective:g}"
    return tuple(Query(f"support:{key}_bad:ratio_rate{window} / {budget}", window) for window in BURN_WINDOWS)


def _left(bad: str, whole: str, objective: float) -> tuple[Query, ...]:
    return (Query(f"1 - ({share(bad, whole)}) / {1 - objective:g}", "left"),)


GOOD_READS = rate(f"{READS}_bucket", where=f'completeness!="partial",{IN_TIME}', window=MONTH)
ALL_READS = rate(f"{READS}_count", window=MONTH)
BURN = "Normal: under 1, which uses the budget up in exactly 30 days. The line is where a person is called."

OBJECTIVES = Row(
    "Objectives and error budgets",
    (
        Panel(
            "Support availability",
            "Replicas that answer Prometheus, and their versions.",
            (
                Query('count(up{job="support-service"} == 1) or vector(0)', "replicas that answer"),
                Query(total("support_build_info", "version"), "version {{version}}"),
            ),
            "short",
            1,
            low=True,
            alerts=("SupportServiceDown", "Watchdog"),
            kind="number",
            width=6,
        ),
        Panel(
            "Support API error budget left",
            f"Remaining part of the 5xx responses that {t.OBJECTIVE_API:.1%} allows in 30 days. Below 0: missed.",
            _left(
                rate(f"{REQUESTS}_count", where=FAILED, window=MONTH),
                rate(f"{REQUESTS}_count", where=ROUTED, window=MONTH),
                t.OBJECTIVE_API,
            ),
            "percentunit",
            0,
            low=True,
            alerts=("SupportApiErrorBudgetBurnSlow",),
            kind="number",
            width=3,
        ),
        Panel(
            "Support timeline error budget left",
            f"Remaining share of the reads that {t.OBJECTIVE_TIMELINE:.0%} allows to be partial, or to take "
            f"{t.LATENCY_P95:g} s or more, in 30 days. Below 0: objective missed.",
            _left(f"({ALL_READS} - {GOOD_READS})", ALL_READS, t.OBJECTIVE_TIMELINE),
            "percentunit",
            0,
            low=True,
            alerts=("SupportTimelineErrorBudgetBurnSlow",),
            kind="number",
            width=3,
        ),
        Panel(
            "Support API error budget",
            f"Burn rate of the error budget of {t.OBJECTIVE_API:.1%} over each window. {BURN}",
            _burn("api_requests", t.OBJECTIVE_API),
            "suffix: x",
            t.BURN_FAST,
            alerts=("SupportApiErrorBudgetBurnFast", "SupportApiErrorBudgetBurnSlow"),
            width=6,
        ),
        Panel(
            "Support timeline error budget",
            f"Burn rate of the error budget of {t.OBJECTIVE_TIMELINE:.0%} over each window. {BURN}",
            _burn("timeline_reads", t.OBJECTIVE_TIMELINE),
            "suffix: x",
            t.BURN_FAST,
            alerts=("SupportTimelineErrorBudgetBurnFast", "SupportTimelineErrorBudgetBurnSlow"),
            width=6,
        ),
    ),
)
API = Row(
    "API: rate, errors, duration",
    (
        Panel(
            "Support API requests",
            "Requests by route.",
            (
                Query(
                    rate(f"{REQUESTS}_count", "http_request_method, http_route", ROUTED) + " > 0",
                    "{{http_request_method}} {{http_route}}",
                ),
            ),
            "reqps",
        ),
        Panel(
            "Support API errors",
            "Share of responses with status 5xx and 4xx. The line is the share at which the month's budget burns "
            f"{t.BURN_FAST:g} times too fast; 4xx are client errors.",
            (
                Query(share(rate(f"{REQUESTS}_count", where=FAILED), rate(f"{REQUESTS}_count", where=ROUTED)), "5xx"),
                Query(
                    share(
                        rate(f"{REQUESTS}_count", where=f'{ROUTED},http_response_status_code=~"4.."'),
                        rate(f"{REQUESTS}_count", where=ROUTED),
                    ),
                    "4xx",
                ),
            ),
            "percentunit",
            round(t.BURN_FAST * (1 - t.OBJECTIVE_API), 6),
            alerts=("SupportApiErrorBudgetBurnFast",),
        ),
        Panel(
            "Support API latency",
            "Half, 95 and 99 of 100 requests take at most this long. Normal: p95 under 100 ms without uploads.",
            tuple(Query(quantile(each, REQUESTS, where=ROUTED), f"p{each * 100:g}") for each in (0.5, 0.95, 0.99)),
            "s",
        ),
        Panel(
            "Support API p95 latency by route",
            "95 of 100 requests of each route take at most this long.",
            (Query(quantile(0.95, REQUESTS, "http_route", ROUTED), "{{http_route}}"),),
            "s",
            width=12,
        ),
        Panel(
            "Support API requests in work",
            "Requests in progress over all replicas.",
            (Query(total("http_server_active_requests"), "in work"),),
            "short",
            width=12,
        ),
        Panel(
            "Support requests by sender",
            "Requests except health checks and scrapes, of the probe and of others. Normal: others as on other days.",
            (Query(rate("support_request_received_total", "synthetic"), "{{synthetic}}"),),
            "reqps",
            alerts=("SupportNoTraffic",),
            width=12,
        ),
        Panel(
            "Support client errors by route",
            "Share of each route's answers that are 4xx except 401, 404 and 429. Normal: under 5 %.",
            (
                Query(
                    f"{rate(f'{REQUESTS}_count', 'http_route', f'{ROUTED},{CLIENT_ERROR}')} / "
                    f"({rate(f'{REQUESTS}_count', 'http_route', ROUTED)} > 0)",
                    "{{http_route}}",
                ),
            ),
            "percentunit",
            t.CLIENT_ERROR_SHARE,
            alerts=("SupportClientErrorsHigh",),
            width=12,
            top=1,
        ),
    ),
)
