"""Alerts on the timeline: its latency, its cache, and the upstream services."""

from observability import thresholds as t
from observability.alerts.alert import Alert, Record
from observability.alerts.redis_cause import redis_cause

W = t.SOURCE_WINDOW
SYMPTOM = t.SYMPTOM_WINDOW


def _cache_events(events: str) -> str:
    return f'sum(increase(support_timeline_cache_events_total{{event=~"{events}"}}[{SYMPTOM}]))'


# Failures of the stage `cache` are the errors that SupportTimelineCacheErrors reports.
FAILURES = f'sum by (stage) (increase(support_timeline_collection_failures_total{{stage!="cache"}}[{SYMPTOM}]))'
READS, CACHE_ERRORS = _cache_events("hit|miss"), _cache_events("error")
CACHE_FAILING = f"{CACHE_ERRORS} / {READS} > {t.REDIS_ERROR_SHARE} and {CACHE_ERRORS} >= {t.REDIS_ERRORS}"
# Weighted by reads, not by time: at night nearly all reads are the probe's, and each of them misses.
USUAL_MISSES = (
    f"sum_over_time(support:timeline_cache_misses:increase[{t.MISS_BEFORE}])"
    f" / sum_over_time(support:timeline_cache_reads:increase[{t.MISS_BEFORE}])"
)
DOWN = "timeout|error|open"

RECORDS = (
    Record(
        "source:support_timeline_collect_seconds:p95",
        f"histogram_quantile(0.95, sum by (source, le) (rate(support_timeline_collect_seconds_bucket[{SYMPTOM}])))",
    ),
    Record("support:timeline_cache_misses:increase", _cache_events("miss")),
    Record("support:timeline_cache_reads:increase", READS),
    Record(
        "support:timeline_cache_misses:ratio",
        "support:timeline_cache_misses:increase / (support:timeline_cache_reads:increase > 0)",
    ),
    Record(
        "service:support_timeline_source_failures:ratio",
        f'sum by (service) (rate(support_timeline_source_seconds_count{{outcome=~"{DOWN}"}}[{W}]))'
        f" / sum by (service) (rate(support_timeline_source_seconds_count[{W}]))",
    ),
)
ALERTS = (
    Alert(
        "SupportTimelineLatencyHigh",
        ("timelines are slow", "timeline chậm"),
        f'source:support_timeline_collect_seconds:p95{{source="remote"}} > {t.LATENCY_P95:g}'
        f' and on () sum(increase(support_timeline_collect_seconds_count{{source="remote"}}[{SYMPTOM}]))'
        f" >= {t.LATENCY_READS}",
        t.SLOW_FOR,
        "warning",
        "Agents wait for timelines: the 95th percentile is {{ $value | humanizeDuration }}",
        "The 95th percentile of timeline reads that call an upstream service is {{ $value | humanizeDuration }} "
        f"(limit {t.LATENCY_P95:g} s).",
        "Support timeline p95 latency",
    ),
    Alert(
        "SupportTimelineCacheErrors",
        ("Redis fails, timelines are read without their cache", "Redis lỗi, timeline được đọc không qua cache"),
        CACHE_FAILING,
        t.CAUSE_FOR,
        "warning",
        f"Redis fails, timelines are read without their cache{redis_cause('cache')}",
        "Redis errors for {{ $value | humanizePercentage }} of timeline reads (limit "
        f"{t.REDIS_ERROR_SHARE:.0%} and {t.REDIS_ERRORS} errors in {SYMPTOM}). Reads call the upstream services each "
        "time. If events use the same Redis, none is published or applied until it works.",
        "Support timeline cache events",
        t.CAUSE_KEPT,
    ),
    Alert(
        "SupportTimelineCacheMissSurge",
        ("the cache misses more reads than usual", "cache miss nhiều hơn thường lệ"),
        f"support:timeline_cache_misses:ratio > {t.MISS_SHARE}"
        f" and support:timeline_cache_misses:ratio > {t.MISS_SURGE} * ({USUAL_MISSES})"
        f" and on () {READS} >= {t.MISS_READS}",
        t.SYMPTOM_FOR,
        "warning",
        "Timelines are slower, {{ $value | humanizePercentage }} of reads miss the cache",
        "{{ $value | humanizePercentage }} of timeline reads find no fresh snapshot in the cache (limit "
        f"{t.MISS_SHARE:.0%}, and {t.MISS_SURGE:g} times the day before). Upstream services receive more load.",
        "Support timeline cache shares",
    ),
    Alert(
        "SupportTimelineCollectionFailures",
        ("timeline collection fails at one stage", "dựng timeline lỗi ở một stage"),
        f"{FAILURES} / on () group_left () {READS} > {t.FAILURE_SHARE} and {FAILURES} >= {t.FAILURES}",
        t.SYMPTOM_FOR,
        "warning",
        "Parts of timelines are stale or missing: collection fails at stage {{ $labels.stage }}",
        "{{ $value | humanize }} failures of stage {{ $labels.stage }} per timeline read (limit "
        f"{t.FAILURE_SHARE:g}).",
        "Support timeline failure stages",
        t.CAUSE_KEPT,
    ),
    Alert(
        "SupportTimelineSourceDown",
        ("order, payment or fulfillment fails", "order, payment hoặc fulfillment lỗi"),
        # The label `service` names the service that raises the alert; the upstream service gets the label `dependency`.
        f"label_replace(service:support_timeline_source_failures:ratio > {t.SOURCE_DOWN_SHARE}"
        f' and sum by (service) (increase(support_timeline_source_seconds_count{{outcome=~"{DOWN}"}}[{W}]))'
        f' >= {t.SOURCE_CALLS}, "dependency", "$1", "service", "(.*)")',
        t.CAUSE_FOR,
        "warning",
        "Parts of timelines are stale or missing: {{ $value | humanizePercentage }} of calls to "
        "{{ $labels.dependency }} fail",
        "{{ $value | humanizePercentage }} of calls to the {{ $labels.dependency }} service fail, time out or are "
        f"blocked by the circuit breaker (limit {t.SOURCE_DOWN_SHARE:.0%}). Its part of timelines is stale or missing.",
        "Support timeline sources",
        t.CAUSE_KEPT,
    ),
)
