"""The two objectives, and multi-window, multi-burn-rate alerts on their error budgets.

Based on "Alerting on SLOs" in Google's SRE workbook: a pair of windows fires while both burn, so that the alert fires
and resolves quickly.
"""

from dataclasses import dataclass

from observability import thresholds as t
from observability.alerts.alert import Alert, Record, of
from observability.alerts.timeline import DOWN

WINDOWS = sorted({*t.BURN_FAST_WINDOWS, *t.BURN_MEDIUM_WINDOWS, *t.BURN_SLOW_WINDOWS}, key=of)
UNWATCHED = "/metrics|/livez|/readyz|/health"  # requested by machines, not by agents


@dataclass(frozen=True, slots=True)
class Objective:
    """The share of good events to reach, and the queries that count bad events and all events over a window."""

    key: str  # part of the recorded series' names
    alert: str
    share: float
    title: str
    short: tuple[str, str]  # the title in lists of alerts, in English and Vietnamese
    what: str  # describes the bad events
    bad: str
    total: str
    panel: str
    most: str = ""  # text of a template that names what most bad events have in common

    def ratio(self, window: str) -> str:
        """Return the name of the recorded share of bad events."""
        return f"support:{self.key}_bad:ratio_rate{window}"

    def records(self) -> list[Record]:
        """Return recording rules for the share of bad events over every window."""
        return [
            Record(
                self.ratio(window),
                f"({self.bad.replace('WINDOW', window)} or 0 * {self.total.replace('WINDOW', window)})"
                f" / ({self.total.replace('WINDOW', window)} > 0)",
            )
            for window in WINDOWS
        ]

    def alerts(self) -> list[Alert]:
        """Return the fast alert, which pages a person, and the slow alert, which is for the next morning."""
        budget = 1 - self.share
        share = f"{{{{ $value | humanizePercentage }}}} of {self.what} (objective: at most {budget:.1%})"
        window = t.SYMPTOM_FOR
        now = f"({self.bad}) / ({self.total})".replace("WINDOW", window)
        impact = (
            f"{{{{ with query `{now}` }}}}{{{{ . | first | value | humanizePercentage }}}}{{{{ end }}}} of {self.what} "
            f"in the last {window}{self.most.replace('WINDOW', window)}"
        )
        return [
            Alert(
                f"{self.alert}BurnFast",
                (f"{self.short[0]}: the error budget burns fast", f"{self.short[1]}: error budget cháy nhanh"),
                self._pair(t.BURN_FAST, t.BURN_FAST_WINDOWS),
                t.BURN_FAST_FOR,
                "critical",
                f"{self.title}: {impact}",
                f"{share} over the last {t.BURN_FAST_WINDOWS[0]} (limit {t.BURN_FAST * budget:.2%}, also over the last "
                f"{t.BURN_FAST_WINDOWS[1]}). At this rate the error budget of 30 days is used up in two days.",
                self.panel,
            ),
            Alert(
                f"{self.alert}BurnSlow",
                (f"{self.short[0]}: the error budget will not last", f"{self.short[1]}: error budget không đủ tháng"),
                f"({self._pair(t.BURN_MEDIUM, t.BURN_MEDIUM_WINDOWS)})"
                f" or ({self._pair(t.BURN_SLOW, t.BURN_SLOW_WINDOWS)})",
                t.BURN_SLOW_FOR,
                "warning",
                f"{self.title}: the error budget will not last 30 days; {impact}",
                f"{share} over the last {t.BURN_MEDIUM_WINDOWS[0]} or {t.BURN_SLOW_WINDOWS[0]} (limits "
                f"{t.BURN_MEDIUM * budget:.2%} and {t.BURN_SLOW * budget:.2%}).",
                self.panel,
            ),
        ]

    def _pair(self, burn: float, windows: tuple[str, str]) -> str:
        limit = f"{burn * (1 - self.share):.6g}"
        burning = " and ".join(f"{self.ratio(window)} > {limit}" for window in windows)
        requests = self.total.replace("rate(", "increase(").replace("WINDOW", windows[1])
        return f"{burning} and {requests} >= {t.BURN_REQUESTS}"


# By convention all services share the name of the series. Without `job`, failures of others would count here.
ROUTED = f'job="support-service",http_route!~"{UNWATCHED}"'
IN_TIME = f'le=~"{t.LATENCY_P95:g}(.0)?"'  # 2 if ingested by OTLP, 2.0 if scraped
FAILED = f'rate(http_server_request_duration_seconds_count{{{ROUTED},http_response_status_code=~"5.."}}[WINDOW])'
OBJECTIVES = (
    Objective(
        "api_requests",
        "SupportApiErrorBudget",
        t.OBJECTIVE_API,
        "API availability",
        ("API", "API"),
        "API requests returned 5xx",
        f"sum({FAILED})",
        f"sum(rate(http_server_request_duration_seconds_count{{{ROUTED}}}[WINDOW]))",
        "Support API error budget",
        f"{{{{ range query `topk(1, sum by (http_route, http_response_status_code) ({FAILED}))` }}}}, mostly "
        "{{ .Labels.http_route }} with {{ .Labels.http_response_status_code }}{{ end }}",
    ),
    Objective(
        "timeline_reads",
        "SupportTimelineErrorBudget",
        t.OBJECTIVE_TIMELINE,
        "Complete timelines in time",
        ("timelines", "timeline"),
        f"timeline reads were partial or took more than {t.LATENCY_P95:g} s",
        "(sum(rate(support_timeline_read_seconds_count[WINDOW]))"
        f' - sum(rate(support_timeline_read_seconds_bucket{{completeness!="partial",{IN_TIME}}}'
        "[WINDOW])))",
        "sum(rate(support_timeline_read_seconds_count[WINDOW]))",
        "Support timeline error budget",
        "{{ range query `topk(1, sum by (service, outcome) (rate(support_timeline_source_seconds_count"
        f'{{outcome=~"{DOWN}"}}[WINDOW])))` }}}}, mostly because {{{{ .Labels.service }}}} is: '
        "{{ .Labels.outcome }}{{ end }}",
    ),
)
RECORDS = tuple(record for objective in OBJECTIVES for record in objective.records())
ALERTS = tuple(alert for objective in OBJECTIVES for alert in objective.alerts())
