"""SupportTimelineCacheMissSurge: the cache misses more reads than usual."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis
from grafana.panel import Panel, Query, rate, ratio

from observability.drill import Cause, Deployment, DrillFault, repeatedly
from observability.faults import CounterValues, Fault
from observability.signal import SYMPTOM_WINDOW, Alert, Record, Signal
from observability.signals.timeline_cache_errors import CACHE_EVENTS, READS, cache_event, cache_events

MISS_SHARE = 0.6  # share of reads; cold cases and renewals stay below half
MISS_SURGE = 1.5  # multiple of the previous day's share, so that a usually high miss rate is not a surge
MISS_BEFORE = "1d"  # baseline period of a surge; a day includes its rush hours and its night
MISS_FOR = "8m"  # longer than SYMPTOM_FOR: collections that fail are said first, and mute this
MISS_READS = 10  # reads per window; the first reads of the morning all miss
# Weighted by reads, not by time: at night nearly all reads are the probe's, and each of them misses.
USUAL_MISSES = (
    f"sum_over_time(support:timeline_cache_misses:increase[{MISS_BEFORE}])"
    f" / sum_over_time(support:timeline_cache_reads:increase[{MISS_BEFORE}])"
)
READ_RATE = rate(CACHE_EVENTS, where='event=~"hit|miss"', window=SYMPTOM_WINDOW)


@asynccontextmanager
async def _cache_is_emptied(deployment: Deployment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(deployment.redis.url) as client, repeatedly(client.flushdb, 0.02):
        yield


SIGNAL = Signal(
    group="timeline",
    alerts=(
        Alert(
            name="SupportTimelineCacheMissSurge",
            short=("the cache misses more reads than usual", "cache miss nhiều hơn thường lệ"),
            expr=f"support:timeline_cache_misses:ratio > {MISS_SHARE}"
            f" and support:timeline_cache_misses:ratio > {MISS_SURGE} * ({USUAL_MISSES})"
            f" and on () {READS} >= {MISS_READS}",
            for_=MISS_FOR,
            severity="warning",
            summary="Timelines are slower, {{ $value | humanizePercentage }} of reads miss the cache",
            description="{{ $value | humanizePercentage }} of timeline reads find no fresh snapshot in the cache "
            f"(limit {MISS_SHARE:.0%}, and {MISS_SURGE:g} times the day before). Upstream services receive more load.",
            stated=(f"{MISS_SHARE * 100:g} %", f"{MISS_SURGE:g}", f"{MISS_READS} ", SYMPTOM_WINDOW, MISS_FOR),
        ),
    ),
    records=(
        Record("support:timeline_cache_misses:increase", cache_events("miss")),
        Record("support:timeline_cache_reads:increase", READS),
        Record(
            "support:timeline_cache_misses:ratio",
            "support:timeline_cache_misses:increase / (support:timeline_cache_reads:increase > 0)",
        ),
    ),
    panels=(
        Panel(
            "Support timeline cache shares",
            f"Share of reads that miss the cache, and share with a cache error, over {SYMPTOM_WINDOW}. The line is "
            "the limit for misses.",
            row="reads",
            place=10,
            queries=(
                Query(ratio(rate(CACHE_EVENTS, where='event="miss"', window=SYMPTOM_WINDOW), READ_RATE), "miss"),
                Query(ratio(rate(CACHE_EVENTS, where='event="error"', window=SYMPTOM_WINDOW), READ_RATE), "error"),
            ),
            unit="percentunit",
            limit=MISS_SHARE,
            top=1,
        ),
    ),
    faults={
        "nothing is cached": Fault(
            ("SupportTimelineCacheMissSurge",),
            {cache_event("hit"): CounterValues(8, 1), cache_event("miss"): CounterValues(2, 9)},
        ),
        "nothing is cached, after a night without a read": Fault(
            ("SupportTimelineCacheMissSurge",),
            {cache_event("hit"): CounterValues(50, 5, night=0), cache_event("miss"): CounterValues(10, 55, night=0)},
        ),
        "nothing is cached, after a night of the probe's reads alone": Fault(
            ("SupportTimelineCacheMissSurge",),
            {cache_event("hit"): CounterValues(50, 5, night=0), cache_event("miss"): CounterValues(10, 55, night=2)},
        ),
    },
    drills=(
        DrillFault(
            "cache emptied",
            ("SupportTimelineCacheMissSurge",),
            _cache_is_emptied,
            (Cause(2, r'"miss"} [1-9]'),),
            only_repair="what empties it has to stop",
        ),
    ),
)
