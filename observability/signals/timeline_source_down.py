"""SupportTimelineSourceDown: order, payment or fulfillment fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from grafana.panel import Panel, Query, rate, total_over_replicas

from observability.drill import Cause, Deployment, DrillFault, DrillScenario, Exercise, changed_attributes, switch_off
from observability.faults import CounterValues, Fault
from observability.signal import CAUSE_FOR, CAUSE_KEPT, Alert, Record, Signal
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES

SOURCE_DOWN_SHARE = 0.5  # share of calls; the breaker opens at the same share
SOURCE_WINDOW = "2m"  # shorter than WINDOW, because the breaker's open state of up to 30 s and CAUSE_KEPT add to it
SOURCE_CALLS = 5  # failed calls per window; the breaker needs as many
DOWN = "timeout|error|open"
CALLS = "support_timeline_source_seconds"
FAILED_CALLS = 'outcome=~"timeout|error|open"'


def _calls(service: str, outcome: str) -> str:
    return f'support_timeline_source_seconds_count{{service="{service}",outcome="{outcome}"}}'


@asynccontextmanager
async def _order_hangs(deployment: Deployment) -> AsyncIterator[None]:
    release = deployment.orders.hang()
    yield
    release.set()
    deployment.orders.heal()


@asynccontextmanager
async def _payment_fails(deployment: Deployment) -> AsyncIterator[None]:
    deployment.payments.fail_with(500)
    yield
    deployment.payments.heal()


FAILED_SHARE = 0.3  # of calls, which are not repeated; the breaker opens now and then, at half of the last ten
# With a smaller share of new cases, too few reads are fresh to burn the budget, and with a larger one misses surge.
FRESH_READS = {"cases": 9.0, "reads": 12.0}  # a second
ORDERS = "ORD-"  # of clients; the probe has orders of its own, and only an open breaker makes it fail


@asynccontextmanager
async def _order_limits_calls(deployment: Deployment) -> AsyncIterator[None]:
    deployment.orders.fail_some_with(429, FAILED_SHARE, ORDERS)
    async with changed_attributes(deployment.traffic, **FRESH_READS):
        yield
    deployment.orders.heal()


@asynccontextmanager
async def _sources_are_down(deployment: Deployment) -> AsyncIterator[None]:
    for source in deployment.sources.values():
        source.drop()
    yield
    for source in deployment.sources.values():
        source.heal()


@asynccontextmanager
async def _certificate_of_order_expires(deployment: Deployment) -> AsyncIterator[None]:
    deployment.order_tls.load_cert_chain(deployment.authority.issue(timedelta(days=-1)))
    yield
    deployment.order_tls.load_cert_chain(deployment.authority.issue(timedelta(days=90)))


SIGNAL = Signal(
    group="timeline",
    alerts=(
        Alert(
            name="SupportTimelineSourceDown",
            short=("order, payment or fulfillment fails", "order, payment hoặc fulfillment lỗi"),
            expr=f"label_replace(service:support_timeline_source_failures:ratio > {SOURCE_DOWN_SHARE}"
            f" and sum by (service) "
            f'(increase(support_timeline_source_seconds_count{{outcome=~"{DOWN}"}}[{SOURCE_WINDOW}]))'
            f' >= {SOURCE_CALLS}, "dependency", "$1", "service", "(.*)")',
            for_=CAUSE_FOR,
            severity="warning",
            summary="Parts of timelines are stale or missing: {{ $value | humanizePercentage }} of calls to "
            "{{ $labels.dependency }} fail",
            description="{{ $value | humanizePercentage }} of calls to the {{ $labels.dependency }} service fail, "
            f"time out or are blocked by the circuit breaker (limit {SOURCE_DOWN_SHARE:.0%}). Its part of timelines "
            "is stale or missing.",
            keep_firing_for=CAUSE_KEPT,
            stated=(f"{SOURCE_DOWN_SHARE * 100:g} %", f"{SOURCE_CALLS} ", SOURCE_WINDOW, CAUSE_FOR),
        ),
    ),
    records=(
        Record(
            "service:support_timeline_source_failures:ratio",
            f'sum by (service) (rate(support_timeline_source_seconds_count{{outcome=~"{DOWN}"}}[{SOURCE_WINDOW}]))'
            f" / sum by (service) (rate(support_timeline_source_seconds_count[{SOURCE_WINDOW}]))",
        ),
    ),
    panels=(
        Panel(
            "Support timeline sources",
            "Share of calls to a service that fail, time out or are rejected by its circuit breaker. Normal: 0.",
            row="sources",
            place=10,
            queries=(
                Query(
                    f"({rate(f'{CALLS}_count', 'service', FAILED_CALLS, SOURCE_WINDOW)})"
                    f" / ({rate(f'{CALLS}_count', 'service', window=SOURCE_WINDOW)} > 0)",
                    "{{service}}",
                ),
            ),
            unit="percentunit",
            limit=SOURCE_DOWN_SHARE,
            top=1,
        ),
        Panel(
            "Support timeline breakers",
            "Replicas whose breaker for a service is not closed: open rejects calls, half_open tries one. Normal: 0.",
            row="sources",
            place=40,
            queries=(
                Query(
                    total_over_replicas("support_timeline_breaker", "service, state", 'state!="closed"'),
                    "{{service}} {{state}}",
                ),
            ),
            unit="short",
            width=12,
        ),
    ),
    faults={
        "payments fail": Fault(
            ('SupportTimelineSourceDown{dependency="payment"}',),
            {
                _calls("payment", "ok"): CounterValues(4, 0),
                _calls("payment", "error"): CounterValues(0, 1),
                _calls("payment", "open"): CounterValues(0, 3),
                _calls("order", "ok"): CounterValues(40, 40),
            },
        )
    },
    drills=(
        DrillFault(
            "order hangs",
            ("SupportTimelineSourceDown[order]", "SupportTimelineErrorBudgetBurnFast"),
            _order_hangs,
            (Cause(1, r'"order"} [\d.]+'),),
            actions=(switch_off("order"),),
        ),
        DrillFault(
            "payment answers 500",
            ("SupportTimelineSourceDown[payment]", "SupportTimelineErrorBudgetBurnFast"),
            _payment_fails,
            (Cause(2, "payment.*with status 500"),),
            actions=(switch_off("payment"),),
        ),
        DrillFault(
            "order answers 429 to 30 %",
            ("SupportTimelineCollectionFailures[http]", "SupportTimelineErrorBudgetBurnFast"),
            _order_limits_calls,
            (Cause(2, '"outcome": "error", "service": "order"'),),
            actions=(switch_off("order"),),
        ),
        DrillFault(
            "all sources down",
            (
                *(f"SupportTimelineSourceDown[{service}]" for service in UPSTREAM_SERVICES),
                "SupportTimelineErrorBudgetBurnFast",
            ),
            _sources_are_down,
            (Cause(2, "broke off|can't be reached"),),
            only_repair="they have to be restored: with all switched off, every read misses the cache",
        ),
        DrillFault(
            "certificate of order expired",
            ("SupportTimelineSourceDown[order]", "SupportCertificateExpiring", "SupportTimelineErrorBudgetBurnFast"),
            _certificate_of_order_expires,
            (Cause(2, "certificate has expired"),),
            scenario=DrillScenario(certificate=timedelta(days=90)),
            actions=(switch_off("order", leaves=("SupportCertificateExpiring",)),),
        ),
    ),
    exercises=(
        Exercise(
            ("make payment return 500", "cho payment trả 500"),
            ("make it respond normally", "cho nó trả lời bình thường"),
        ),
        Exercise(("make order hang", "cho order treo"), ("make it respond normally", "cho nó trả lời bình thường")),
    ),
)
