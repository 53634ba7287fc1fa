"""Panels on the timeline: what on-call checks first, the completeness of its reads, and the upstream services."""

from observability import thresholds as t

from grafana.panel import Panel, Query, Row, highest, lowest, quantile, rate, series, share, total
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES

RUNBOOK = "timeline-slow-or-attachment-backlog.md"
EVENTS = "support_timeline_cache_events_total"
READS = rate(EVENTS, where='event=~"hit|miss"', window=t.SYMPTOM_WINDOW)
FAILED = 'outcome=~"timeout|error|open"'
CALLS = "support_timeline_source_seconds"
BACKLOG = "support_attachment_backlog_bytes"
AHEAD = f"predict_linear({series(BACKLOG)}[{t.GROWTH_WINDOW}], {t.GROWTH_HORIZON})"

FIRST = Row(
    "Support",
    (
        Panel(
            "Support timeline p95 latency",
            "95 of 100 timelines take at most this long. `remote`: called a service; `cache`: did not. Normal: cache "
            "under 50 ms, remote under 1 s.",
            (
                Query(
                    quantile(0.95, "support_timeline_collect_seconds", "source", window=t.SYMPTOM_WINDOW), "{{source}}"
                ),
            ),
            "s",
            t.LATENCY_P95,
            alerts=("SupportTimelineLatencyHigh",),
            runbook=RUNBOOK,
            width=12,
        ),
        Panel(
            "Support attachment backlog",
            "Files on local storage that are neither deleted nor offloaded, at their real size; dashed: prediction for "
            f"{t.GROWTH_HORIZON // 3600} h at the growth of the last {t.GROWTH_WINDOW}.",
            (
                Query(highest(BACKLOG), "bytes"),
                Query(
                    f"clamp_min(max({AHEAD}), 0)",
                    f"bytes in {t.GROWTH_HORIZON // 3600} h",
                    dashed=True,
                ),
                Query(highest("support_attachment_backlog_files"), "files", right="short"),
            ),
            "bytes",
            t.BACKLOG_BYTES,
            alerts=("SupportAttachmentBacklogHigh", "SupportAttachmentGrowthRapid"),
            runbook=RUNBOOK,
            width=12,
        ),
        Panel(
            "Support timeline cache events",
            "Uses of the timeline cache. hit and miss are one read each; error is an operation on Redis that failed. "
            "Normal: more hits than misses, no errors.",
            (Query(rate(EVENTS, "event"), "{{event}}"),),
            "ops",
            alerts=("SupportTimelineCacheErrors", "SupportTimelineCacheMissSurge"),
            runbook=RUNBOOK,
            width=12,
        ),
        Panel(
            "Support timeline failure stages",
            "Failures while timelines are collected. http: no usable response of a service; aggregate: a response that "
            "violates the contract; cache: Redis; cache_decode: an unreadable cached value. Normal: none.",
            (Query(rate("support_timeline_collection_failures_total", "stage"), "{{stage}}"),),
            "ops",
            alerts=("SupportTimelineCollectionFailures",),
            runbook=RUNBOOK,
            width=12,
        ),
    ),
)
READING = Row(
    "Timeline reads",
    (
        Panel(
            "Support timeline cache shares",
            f"Share of reads that miss the cache, and share with a cache error, over {t.SYMPTOM_WINDOW}. "
            "The line is the limit for misses.",
            (
                Query(share(rate(EVENTS, where='event="miss"', window=t.SYMPTOM_WINDOW), READS), "miss"),
                Query(share(rate(EVENTS, where='event="error"', window=t.SYMPTOM_WINDOW), READS), "error"),
            ),
            "percentunit",
            t.MISS_SHARE,
            alerts=("SupportTimelineCacheMissSurge",),
            top=1,
        ),
        Panel(
            "Support timeline completeness",
            "Reads by completeness: complete, stale (an older answer replaces a failed service), partial (no answer of "
            "a service). Normal: all complete.",
            (Query(rate("support_timeline_read_seconds_count", "completeness"), "{{completeness}}"),),
            "reqps",
            kind="stacked",
        ),
        Panel(
            "Support timeline latency by quantile",
            "Timelines that called a service: 50, 95 and 99 of 100 take at most this long.",
            tuple(
                Query(
                    quantile(
                        each, "support_timeline_collect_seconds", where='source="remote"', window=t.SYMPTOM_WINDOW
                    ),
                    f"p{each * 100:g}",
                )
                for each in (0.5, 0.95, 0.99)
            ),
            "s",
            t.LATENCY_P95,
            alerts=("SupportTimelineLatencyHigh",),
        ),
    ),
)
SOURCES = Row(
    f"Sources: {', '.join(UPSTREAM_SERVICES)}",
    (
        Panel(
            "Support timeline sources",
            "Share of calls to a service that fail, time out or are rejected by its circuit breaker. Normal: 0.",
            (
                Query(
                    f"({rate(f'{CALLS}_count', 'service', FAILED, t.SOURCE_WINDOW)})"
                    f" / ({rate(f'{CALLS}_count', 'service', window=t.SOURCE_WINDOW)} > 0)",
                    "{{service}}",
                ),
            ),
            "percentunit",
            t.SOURCE_DOWN_SHARE,
            alerts=("SupportTimelineSourceDown",),
            top=1,
        ),
        Panel(
            "Support timeline source p95 latency",
            "95 of 100 answered calls to a service take at most this long.",
            (Query(quantile(0.95, CALLS, "service", 'outcome=~"ok|not_found"', t.WINDOW), "{{service}}"),),
            "s",
        ),
        Panel(
            "Support timeline source calls",
            "Calls by service and outcome. not_found: unknown or rejected id; open: stopped by the breaker; "
            "invalid: violates the contract.",
            (Query(f"{rate(f'{CALLS}_count', 'service, outcome')} > 0", "{{service}} {{outcome}}"),),
            "reqps",
        ),
        Panel(
            "Support timeline breakers",
            "Replicas whose breaker for a service is not closed: open rejects calls, half_open tries one. Normal: 0.",
            (Query(total("support_timeline_breaker", "service, state", 'state!="closed"'), "{{service}} {{state}}"),),
            "short",
            alerts=("SupportTimelineSourceDown",),
            width=12,
        ),
        Panel(
            "Support timeline sources enabled",
            "Whether a service is called: 0 while an override switches it off, or if it is not configured "
            "(`support-service timeline status` shows overrides).",
            (Query(lowest("support_timeline_source_enabled", "service"), "{{service}}"),),
            "short",
            1,
            low=True,
            kind="states",
            words={"0": "off", "1": "on"},
            width=12,
        ),
    ),
)
