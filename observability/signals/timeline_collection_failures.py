"""SupportTimelineCollectionFailures: timeline collection fails at one stage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis
from grafana.panel import FIRST_RUNBOOK, Panel, Query, rate

from observability.drill import Cause, Deployment, DrillFault, repeatedly, switch_off
from observability.faults import CounterValues, Fault
from observability.signal import CAUSE_KEPT, SYMPTOM_FOR, SYMPTOM_WINDOW, Alert, Signal
from observability.signals.timeline_cache_errors import READS, cache_event

FAILURE_SHARE = 0.1  # failures per read; each degrades a timeline, and comes after a failed retry
FAILURES = 5  # failures per window
# Failures of the stage `cache` are the errors that SupportTimelineCacheErrors reports.
FAILED_STAGES = (
    f'sum by (stage) (increase(support_timeline_collection_failures_total{{stage!="cache"}}[{SYMPTOM_WINDOW}]))'
)


def _failures(stage: str) -> str:
    return f'support_timeline_collection_failures_total{{stage="{stage}"}}'


@asynccontextmanager
async def _cache_is_corrupt(deployment: Deployment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(deployment.redis.url) as client:

        async def corrupt() -> None:
            async for key in client.scan_iter("support:timeline:*", count=1000):
                if not key.endswith(b"claim"):
                    await client.set(key, b"not a timeline", xx=True, keepttl=True)

        async with repeatedly(corrupt, 0.02):
            yield
        await client.flushdb()


@asynccontextmanager
async def _payment_answers_are_invalid(deployment: Deployment) -> AsyncIterator[None]:
    deployment.payments.answer_with_document({"nonsense": True})
    yield
    deployment.payments.heal()


@asynccontextmanager
async def _payment_answers_about_another_order(deployment: Deployment) -> AsyncIterator[None]:
    of_another = {"id": "PAY-9", "orderId": "another", "status": "captured", "amount": "12.50"}
    deployment.payments.answer_with_document({"items": [of_another]})
    yield
    deployment.payments.heal()


SIGNAL = Signal(
    group="timeline",
    alerts=(
        Alert(
            name="SupportTimelineCollectionFailures",
            short=("timeline collection fails at one stage", "dựng timeline lỗi ở một stage"),
            expr=f"{FAILED_STAGES} / on () group_left () {READS} > {FAILURE_SHARE} and {FAILED_STAGES} >= {FAILURES}",
            for_=SYMPTOM_FOR,
            severity="warning",
            summary="Parts of timelines are stale or missing: {{ $value | humanize }} failures of stage "
            "{{ $labels.stage }} for each timeline read",
            description="{{ $value | humanize }} failures of stage {{ $labels.stage }} per timeline read (limit "
            f"{FAILURE_SHARE:g}).",
            keep_firing_for=CAUSE_KEPT,
            stated=(f"{FAILURE_SHARE * 100:g} %", f"{FAILURES} ", SYMPTOM_WINDOW, SYMPTOM_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support timeline failure stages",
            "Failures while timelines are collected. http: no usable response of a service. aggregate: a response "
            "that violates the contract. cache: Redis. cache_decode: an unreadable cached value. Normal: none.",
            row="first",
            place=40,
            queries=(Query(rate("support_timeline_collection_failures_total", "stage"), "{{stage}}"),),
            unit="ops",
            runbook=FIRST_RUNBOOK,
            width=12,
        ),
    ),
    faults={
        "answers can't be read": Fault(
            ('SupportTimelineCollectionFailures{stage="aggregate"}',),
            {
                cache_event("hit"): CounterValues(15, 15),
                cache_event("miss"): CounterValues(5, 5),
                _failures("aggregate"): CounterValues(0, 4),
            },
        )
    },
    drills=(
        DrillFault(
            "cache corrupt",
            ("SupportTimelineCollectionFailures[cache_decode]",),
            _cache_is_corrupt,
            (Cause(1, r'"cache_decode"} 0?\.?\d*[1-9]'),),
            only_repair="what writes into the cache has to stop",
        ),
        DrillFault(
            "payment answers are invalid",
            (
                "SupportTimelineCollectionFailures[aggregate]",
                "SupportProbeFailing",
                "SupportTimelineErrorBudgetBurnFast",
            ),
            _payment_answers_are_invalid,
            (Cause(3, "payment.*off the contract"),),
            actions=(switch_off("payment"),),
        ),
        DrillFault(
            "payment answers about another order",
            (
                "SupportTimelineCollectionFailures[aggregate]",
                "SupportProbeFailing",
                "SupportTimelineErrorBudgetBurnFast",
            ),
            _payment_answers_about_another_order,
            (Cause(3, "payment.*asked for orderId"),),
            actions=(switch_off("payment"),),
        ),
    ),
)
