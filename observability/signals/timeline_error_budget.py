"""SupportTimelineErrorBudgetBurnFast and SupportTimelineErrorBudgetBurnSlow: timelines are partial or late."""

from grafana.panel import Panel, rate

from observability.error_budget import BUDGET_PERIOD, BURN_FAST, BURN_RATE_DESCRIPTION, Objective
from observability.faults import STEADY_COUNTER, CounterValues, Fault, SeriesValues
from observability.signal import Signal
from observability.signals.timeline_latency_high import LATENCY_P95
from observability.signals.timeline_source_down import DOWN

OBJECTIVE_TIMELINE = 0.99  # share of reads that are not partial and take less than LATENCY_P95, over 30 days
IN_TIME = f'le=~"{LATENCY_P95:g}(.0)?"'  # 2 if ingested by OTLP, 2.0 if scraped
READS = "support_timeline_read_seconds"
OBJECTIVE = Objective(
    key="timeline_reads",
    alert="SupportTimelineErrorBudget",
    share=OBJECTIVE_TIMELINE,
    title="Complete timelines in time",
    short=("timelines", "timeline"),
    what=f"timeline reads were partial or took more than {LATENCY_P95:g} s",
    bad="(sum(rate(support_timeline_read_seconds_count[WINDOW]))"
    f' - sum(rate(support_timeline_read_seconds_bucket{{completeness!="partial",{IN_TIME}}}'
    "[WINDOW])))",
    total="sum(rate(support_timeline_read_seconds_count[WINDOW]))",
    most="{{ range query `topk(1, sum by (service, outcome) (rate(support_timeline_source_seconds_count"
    f'{{outcome=~"{DOWN}"}}[WINDOW])))` }}}}, mostly because {{{{ .Labels.service }}}} is: '
    "{{ .Labels.outcome }}{{ end }}",
)
ALL_READS = rate(f"{READS}_count", window=BUDGET_PERIOD)
GOOD_READS = rate(f"{READS}_bucket", where=f'completeness!="partial",{IN_TIME}', window=BUDGET_PERIOD)


def _reads(
    complete: CounterValues, partial: CounterValues, *, late: bool = False, edge: str = "2.0"
) -> dict[str, SeriesValues]:
    series: dict[str, SeriesValues] = {}
    for name, counter in (("complete", complete), ("partial", partial)):
        series[f'support_timeline_read_seconds_count{{completeness="{name}"}}'] = counter
        in_time = CounterValues(counter.usual, 0) if late else counter
        series[f'support_timeline_read_seconds_bucket{{completeness="{name}",le="{edge}"}}'] = in_time
    return series


SIGNAL = Signal(
    group="objectives",
    alerts=OBJECTIVE.alerts(),
    records=OBJECTIVE.records(),
    panels=(
        Panel(
            "Support timeline error budget",
            f"Burn rate of the error budget of {OBJECTIVE_TIMELINE:.0%} over each window. {BURN_RATE_DESCRIPTION}",
            row="objectives",
            place=50,
            queries=OBJECTIVE.burn_rates(),
            unit="suffix: x",
            limit=BURN_FAST,
            width=6,
        ),
        Panel(
            "Support timeline error budget left",
            f"Remaining share of the reads that {OBJECTIVE_TIMELINE:.0%} allows to be partial, or to take "
            f"{LATENCY_P95:g} s or more, in 30 days. Below 0: objective missed.",
            row="objectives",
            place=30,
            queries=OBJECTIVE.budget_left(f"({ALL_READS} - {GOOD_READS})", ALL_READS),
            unit="percentunit",
            limit=0,
            low=True,
            alerts=("SupportTimelineErrorBudgetBurnSlow",),
            kind="number",
            width=3,
        ),
    ),
    faults={
        "two timelines of five are partial": Fault(
            ("SupportTimelineErrorBudgetBurnFast", "SupportTimelineErrorBudgetBurnSlow"),
            _reads(CounterValues(20, 12), CounterValues(0, 8)),
            still_firing=("SupportTimelineErrorBudgetBurnSlow",),
        ),
        "timelines are partial, and edges of buckets are named as OTLP does": Fault(
            ("SupportTimelineErrorBudgetBurnFast", "SupportTimelineErrorBudgetBurnSlow"),
            _reads(CounterValues(60, 30), CounterValues(0, 30), edge="2"),
            still_firing=("SupportTimelineErrorBudgetBurnSlow",),
        ),
        "a few timelines an hour, many of them partial": Fault(
            ("SupportTimelineErrorBudgetBurnSlow",),
            _reads(CounterValues(5, 3), CounterValues(0, 2)),
            still_firing=("SupportTimelineErrorBudgetBurnSlow",),
        ),
        "complete timelines come late": Fault(
            ("SupportTimelineErrorBudgetBurnFast", "SupportTimelineErrorBudgetBurnSlow"),
            _reads(STEADY_COUNTER, CounterValues(), late=True),
            still_firing=("SupportTimelineErrorBudgetBurnSlow",),
        ),
    },
)
