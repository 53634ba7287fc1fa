"""SupportTimelineNotFoundSurge: a source finds nothing where it found objects the day before."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from grafana.panel import Panel, Query, rate, ratio

from observability.drill import Cause, Deployment, DrillFault, changed_attributes, switch_off
from observability.faults import CounterValues, Fault
from observability.signal import CAUSE_KEPT, SYMPTOM_FOR, WINDOW, Alert, Record, Signal
from observability.signals.timeline_source_down import CALLS, FRESH_READS

FOUND_DROP = 0.5  # share of what was found the day before; cases with ids that no longer exist make no such difference
FOUND_BEFORE = "1d"  # baseline period of a drop; a day includes its rush hours and its night
NOT_FOUND_ANSWERS = 40  # such answers per window; the probe alone, whose ids nobody knows, gets about twenty
FOUND, ANSWERED = 'outcome="ok"', 'outcome=~"ok|not_found"'
FOUND_CALLS, ANSWERED_CALLS = (f"service:support_timeline_source_{what}:increase" for what in ("found", "answered"))


def _calls(outcome: str) -> str:
    return f"sum by (service) (increase({CALLS}_count{{{outcome}}}[{WINDOW}]))"


# Weighted by calls, not by time: at night nearly all calls are the probe's.
USUALLY_FOUND = f"sum_over_time({FOUND_CALLS}[{FOUND_BEFORE}]) / sum_over_time({ANSWERED_CALLS}[{FOUND_BEFORE}])"
NOT_FOUND_SHARE = f"1 - {FOUND_CALLS} / ({ANSWERED_CALLS} > 0)"


def _answers(outcome: str, service: str = "payment") -> str:
    return f'{CALLS}_count{{service="{service}",outcome="{outcome}"}}'


@asynccontextmanager
async def _payment_finds_nothing(deployment: Deployment) -> AsyncIterator[None]:
    deployment.payments.fail_with(404)
    async with changed_attributes(deployment.traffic, **FRESH_READS):
        yield
    deployment.payments.heal()


SIGNAL = Signal(
    group="timeline",
    alerts=(
        Alert(
            name="SupportTimelineNotFoundSurge",
            short=("a source finds nothing where it usually does", "một nguồn không tìm thấy gì như thường lệ"),
            expr=f"label_replace({NOT_FOUND_SHARE}"
            f" and {FOUND_CALLS} / ({ANSWERED_CALLS} > 0) < {FOUND_DROP} * ({USUALLY_FOUND})"
            f" and {ANSWERED_CALLS} - {FOUND_CALLS} >= {NOT_FOUND_ANSWERS}"
            f', "dependency", "$1", "service", "(.*)")',
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="Timelines lack data of {{ $labels.dependency }}: it answers "
            "{{ $value | humanizePercentage }} of calls with not found",
            description="{{ $labels.dependency }} has nothing for {{ $value | humanizePercentage }} of the ids asked "
            f"for. It finds less than half of what it found the day before (limit {FOUND_DROP:g} times the usual "
            "share). Agents see no error: the parts of timelines look empty.",
            keep_firing_for=CAUSE_KEPT,
            stated=(f"{FOUND_DROP * 100:g} %", f"{NOT_FOUND_ANSWERS} ", WINDOW, SYMPTOM_FOR),
        ),
    ),
    records=(Record(FOUND_CALLS, _calls(FOUND)), Record(ANSWERED_CALLS, _calls(ANSWERED))),
    panels=(
        Panel(
            "Support timeline sources not found",
            "Share of each source's answers that say that nothing is known under the id. Normal: as the day before.",
            row="sources",
            place=35,
            queries=(
                Query(
                    ratio(
                        rate(f"{CALLS}_count", "service", 'outcome="not_found"', WINDOW),
                        rate(f"{CALLS}_count", "service", ANSWERED, WINDOW),
                    ),
                    "{{service}}",
                ),
            ),
            unit="percentunit",
            top=1,
        ),
    ),
    faults={
        "payments are not found any more": Fault(
            ('SupportTimelineNotFoundSurge{dependency="payment"}',),
            {
                _answers("ok"): CounterValues(20, 2),
                _answers("not_found"): CounterValues(5, 23),
                _answers("ok", "order"): CounterValues(20, 20),
                _answers("not_found", "order"): CounterValues(1, 1),
            },
        ),
        "payments are not found any more, after a night of the probe's calls alone": Fault(
            ('SupportTimelineNotFoundSurge{dependency="payment"}',),
            {_answers("ok"): CounterValues(20, 0, night=0), _answers("not_found"): CounterValues(5, 25, night=2)},
        ),
        "a burst of cases with unknown payments": Fault(
            (), {_answers("ok"): CounterValues(20, 20), _answers("not_found"): CounterValues(5, 15)}
        ),
        "a source that never finds much": Fault(
            (), {_answers("ok"): CounterValues(3, 2), _answers("not_found"): CounterValues(20, 21)}
        ),
    },
    drills=(
        DrillFault(
            "payment finds nothing",
            ("SupportTimelineNotFoundSurge[payment]",),
            _payment_finds_nothing,
            (Cause(1, r'"payment"} 1'),),
            actions=(switch_off("payment"),),
        ),
    ),
)
