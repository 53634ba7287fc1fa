"""Multi-window, multi-burn-rate alerts on the error budget of an objective, and panels of the budget.

Based on "Alerting on SLOs" in Google's SRE workbook: a pair of windows fires while both burn, so that the alert fires
and resolves quickly. A burn rate of 1 uses up the budget in 30 days.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from grafana.panel import Query, ratio

from observability.signal import SYMPTOM_FOR, Alert, Record, duration_seconds

BURN_FAST = 14.4  # 2 % of the month's budget in an hour
BURN_FAST_WINDOWS = ("1h", "3m")  # the short window ends before the alert on a cause, which is kept for CAUSE_KEPT
BURN_MEDIUM = 6  # 5 % in six hours
BURN_MEDIUM_WINDOWS = ("6h", "30m")
BURN_SLOW = 1  # 10 % in three days
BURN_SLOW_WINDOWS = ("3d", "6h")
BURN_FAST_FOR = "4m"  # longer than DATABASE_FOR: where requests fail at once, the alert on the cause comes first
BURN_SLOW_FOR = "15m"  # pages no person at night, so that the fast alert fires first
BURN_REQUESTS = 30  # requests in a pair's short window; with fewer, one failure would be an incident
RECORDED_WINDOWS = sorted({*BURN_FAST_WINDOWS, *BURN_MEDIUM_WINDOWS, *BURN_SLOW_WINDOWS}, key=duration_seconds)
SHOWN_WINDOWS = (BURN_FAST_WINDOWS[0], BURN_MEDIUM_WINDOWS[0], BURN_SLOW_WINDOWS[0])
BUDGET_PERIOD = "30d"
BURN_RATE_DESCRIPTION = (
    "Normal: under 1, which uses the budget up in exactly 30 days. The line is where a person is called."
)


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
    most: str = ""  # text of a template that names what most bad events have in common
    explained: Mapping[str, str] = field(default_factory=dict)  # what counts bad events that other alerts tell

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
            for window in RECORDED_WINDOWS
        ]

    def alerts(self) -> list[Alert]:
        """Return the fast alert, which pages a person, and the slow alert, which is for the next morning."""
        budget = 1 - self.share
        told = f"{{{{ $value | humanizePercentage }}}} of {self.what} (objective: at most {budget:.1%})"
        window = SYMPTOM_FOR
        now = f"({self.bad}) / ({self.total})".replace("WINDOW", window)
        impact = (
            f"{{{{ with query `{now}` }}}}{{{{ . | first | value | humanizePercentage }}}}{{{{ end }}}} of {self.what} "
            f"in the last {window}{self.most.replace('WINDOW', window)}"
        )
        return [
            Alert(
                name=f"{self.alert}BurnFast",
                labels=self._explained(BURN_FAST),
                short=(f"{self.short[0]}: the error budget burns fast", f"{self.short[1]}: error budget cháy nhanh"),
                expr=self._pair(BURN_FAST, BURN_FAST_WINDOWS),
                for_=BURN_FAST_FOR,
                severity="critical",
                summary=f"{self.title}: {impact}",
                description=f"{told} over the last {BURN_FAST_WINDOWS[0]} (limit {BURN_FAST * budget:.2%}, also over "
                f"the last {BURN_FAST_WINDOWS[1]}). At this rate the error budget of 30 days is used up in two days.",
                stated=(
                    f"{BURN_FAST * budget * 100:.3g} %",
                    f"{BURN_FAST:g} ",
                    *BURN_FAST_WINDOWS,
                    f"{BURN_REQUESTS} ",
                    BURN_FAST_FOR,
                ),
            ),
            Alert(
                name=f"{self.alert}BurnSlow",
                short=(
                    f"{self.short[0]}: the error budget will not last",
                    f"{self.short[1]}: error budget không đủ tháng",
                ),
                expr=f"({self._pair(BURN_MEDIUM, BURN_MEDIUM_WINDOWS)})"
                f" or ({self._pair(BURN_SLOW, BURN_SLOW_WINDOWS)})",
                for_=BURN_SLOW_FOR,
                severity="warning",
                labels=self._explained(BURN_SLOW),
                summary=f"{self.title}: the error budget will not last 30 days. {impact}",
                description=f"{told} over the last {BURN_MEDIUM_WINDOWS[0]} or {BURN_SLOW_WINDOWS[0]} (limits "
                f"{BURN_MEDIUM * budget:.2%} and {BURN_SLOW * budget:.2%}).",
                stated=(
                    f"{BURN_MEDIUM * budget * 100:.3g} %",
                    f"{BURN_SLOW * budget * 100:.3g} %",
                    *BURN_MEDIUM_WINDOWS,
                    *BURN_SLOW_WINDOWS,
                    f"{BURN_REQUESTS} ",
                    BURN_SLOW_FOR,
                ),
            ),
        ]

    def _explained(self, burn: float) -> dict[str, str]:
        """Return the label `explained`: by what, if the budget would not burn at this rate without it.

        Alertmanager mutes an alert with this label while an alert on the named cause fires.
        """
        template = ""
        for name, counted in self.explained.items():
            left = f"(({self.bad}) - ({counted})) / ({self.total}) <= {burn * (1 - self.share):.6g} and ({counted}) > 0"
            template += f"{{{{ with query `{left.replace('WINDOW', SYMPTOM_FOR)}` }}}}{name}{{{{ end }}}}"
        return {"explained": template} if template else {}

    def _pair(self, burn: float, windows: tuple[str, str]) -> str:
        limit = f"{burn * (1 - self.share):.6g}"
        burning = " and ".join(f"{self.ratio(window)} > {limit}" for window in windows)
        requests = self.total.replace("rate(", "increase(").replace("WINDOW", windows[1])
        return f"{burning} and {requests} >= {BURN_REQUESTS}"

    def burn_rates(self) -> tuple[Query, ...]:
        """Return the burn rate of the budget over each of the alerts' long windows. At 1 it lasts exactly 30 days."""
        return tuple(Query(f"{self.ratio(window)} / {1 - self.share:g}", window) for window in SHOWN_WINDOWS)

    def budget_left(self, bad: str, whole: str) -> tuple[Query, ...]:
        """Return the remaining part of the month's budget, given bad and all events as a panel selects them."""
        return (Query(f"1 - ({ratio(bad, whole)}) / {1 - self.share:g}", "left"),)
