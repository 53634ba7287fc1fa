"""SupportSlaBreaching: many cases are answered or resolved too late."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from grafana.panel import Panel, Query, highest_over_replicas, hourly_rate

from observability.drill import Cause, Deployment, DrillFault, Exercise, repeatedly
from observability.faults import CounterValues, Fault
from observability.signal import CAUSE_FOR, WINDOW, Alert, Signal

SLA_WINDOW = "15m"  # long enough that a share of the clocks that end means something
SLA_BREACHES = 10  # breaches in SLA_WINDOW; fewer are for the team of the cases, who learn of each by its event
SLA_BREACH_SHARE = 0.2  # share of all clocks that end; targets that are met in four of five cases are met usually


def _breached(window: str) -> str:
    return f"sum(increase(support_sla_breached_total[{window}]))"


def _many_of_all(window: str) -> str:
    """Return the condition that a large share of the clocks that ended was breached. It is not met if none ended."""
    edge = 'le=~"1(.0)?"'  # 1 if ingested by OTLP, 1.0 if scraped
    in_time = f"sum(increase(support_sla_used_share_bucket{{{edge}}}[{window}]))"
    return f"{_breached(window)} / ({_breached(window)} + {in_time}) > {SLA_BREACH_SHARE:g}"


@asynccontextmanager
async def _answers_come_late(deployment: Deployment) -> AsyncIterator[None]:
    """No agent answers in time. After the block the waiting cases count as answered."""
    await deployment.traffic.promise_answers()
    async with repeatedly(partial(deployment.traffic.open_case, read=False, tags=["promised"]), 0.25):
        yield
    await deployment.database.run("UPDATE case_clocks SET state = 'met' WHERE state = 'running'")


SIGNAL = Signal(
    group="service-levels",
    alerts=(
        Alert(
            name="SupportSlaBreaching",
            short=("many cases are answered or resolved too late", "nhiều case được trả lời hoặc giải quyết quá muộn"),
            expr=f"{_breached(SLA_WINDOW)} >= {SLA_BREACHES} and {_many_of_all(SLA_WINDOW)} and {_many_of_all(WINDOW)}",
            for_=CAUSE_FOR,
            severity="warning",
            summary="Service levels are breached: {{ $value | humanize }} clocks of cases in a quarter of an hour",
            description=f"{{{{ $value | humanize }}}} clocks of cases were breached in the last {SLA_WINDOW} (limit "
            f"{SLA_BREACHES}). They are more than {SLA_BREACH_SHARE * 100:g} % of the clocks that ended, in the last "
            f"{WINDOW} too. Customers wait longer than they were promised.",
            stated=(f"{SLA_BREACHES} ", f"{SLA_BREACH_SHARE * 100:g} %", SLA_WINDOW, WINDOW, CAUSE_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support service level breaches",
            "Breaches per hour by target. On the right: running clocks. Normal: a small part of the clocks that end. "
            f"The alert needs {SLA_BREACHES} in {SLA_WINDOW}.",
            row="service levels",
            place=10,
            queries=(
                Query(hourly_rate("support_sla_breached_total", "target"), "{{target}}"),
                Query(highest_over_replicas("support_sla_running", "target"), "running: {{target}}", right="short"),
            ),
            unit="suffix: /h",
            width=12,
        ),
    ),
    faults={
        "clocks are breached": Fault(
            ("SupportSlaBreaching",),
            {
                'support_sla_breached_total{target="resolution"}': CounterValues(0.1, 3),
                'support_sla_used_share_bucket{target="resolution",le="1.0"}': CounterValues(6, 6),
            },
        ),
        "all clocks are breached, and edges of buckets are named as OTLP does": Fault(
            ("SupportSlaBreaching",),
            {
                'support_sla_breached_total{target="firstResponse"}': CounterValues(0, 3),
                'support_sla_used_share_bucket{target="firstResponse",le="1"}': CounterValues(3, 0),
            },
        ),
        "two of five clocks are breached": Fault(
            ("SupportSlaBreaching",),
            {
                'support_sla_breached_total{target="resolution"}': CounterValues(0, 1.3),
                'support_sla_used_share_bucket{target="resolution",le="1.0"}': CounterValues(2, 2),
            },
        ),
        "few clocks end, and all are breached": Fault(
            (),
            {
                'support_sla_breached_total{target="resolution"}': CounterValues(0, 0.5),
                'support_sla_used_share_bucket{target="resolution",le="1.0"}': CounterValues(0.1, 0),
            },
        ),
        "as many clocks are breached as always, of many that end": Fault(
            (),
            {
                'support_sla_breached_total{target="resolution"}': CounterValues(1, 3),
                'support_sla_used_share_bucket{target="resolution",le="1.0"}': CounterValues(20, 20),
            },
        ),
    },
    drills=(
        DrillFault(
            "answers come late",
            ("SupportSlaBreaching",),
            _answers_come_late,
            (Cause(1, '"firstResponse"'),),
            only_repair="agents have to answer",
        ),
    ),
    exercises=(
        Exercise(
            (
                "make a service level policy with the target `PT1M` for a tag, and open 20 cases with it",
                "tạo chính sách mức dịch vụ với mục tiêu `PT1M` cho một tag, rồi mở 20 case với tag đó",
            ),
            ("delete the policy, and close the cases", "xoá chính sách, đóng các case"),
        ),
    ),
)
