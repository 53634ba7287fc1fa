"""Instruments of the timeline: reads, the cache, and calls to the upstream services."""

from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.platform.telemetry.instruments.spec import InstrumentSpec

SOURCE_OUTCOMES = ("ok", "not_found", "timeout", "error", "invalid", "open")
BREAKER_STATES = ("closed", "half_open", "open")
COMPLETENESS = ("complete", "stale", "partial")
CACHE_EVENTS = ("hit", "miss", "write", "invalidate", "error")
# From a cached read to a source that reaches its deadline. The alert's threshold, 2 s, and the defaults of the source
# timeout and the deadline, 2.5 s and 3 s, must be bucket boundaries.
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 5.0, 10.0)

TIMELINE_COLLECT = InstrumentSpec(
    "support.timeline.collect",
    "histogram",
    "s",
    "Time to collect a timeline; remote: called a service, cache: did not",
    {"source": ("cache", "remote")},
    LATENCY_BUCKETS,
)
TIMELINE_READ = InstrumentSpec(
    "support.timeline.read",
    "histogram",
    "s",
    "Time to collect a timeline, by completeness: complete, stale (an older answer replaces a failed service), "
    "partial (no answer of a service)",
    {"completeness": COMPLETENESS},
    LATENCY_BUCKETS,
)
TIMELINE_CACHE_EVENTS = InstrumentSpec(
    "support.timeline.cache_events",
    "counter",
    "{event}",
    "Uses of the timeline cache; error counts failed operations",
    {"event": CACHE_EVENTS},
)
TIMELINE_COLLECTION_FAILURES = InstrumentSpec(
    "support.timeline.collection_failures",
    "counter",
    "{failure}",
    "Failures while collecting: http (no usable response), cache, cache_decode, aggregate (violates the contract)",
    {"stage": ("http", "cache", "cache_decode", "aggregate")},
)
TIMELINE_SOURCE = InstrumentSpec(
    "support.timeline.source",
    "histogram",
    "s",
    "Time of one call to an upstream service, by outcome; not_found: nothing is known under the id, or it was rejected",
    {"service": UPSTREAM_SERVICES, "outcome": SOURCE_OUTCOMES},
    LATENCY_BUCKETS,
)
TIMELINE_BREAKER = InstrumentSpec(
    "support.timeline.breaker",
    "observed sum",
    "{breaker}",
    "1 for the current state of a service's circuit breaker, 0 for the others; open rejects calls",
    {"service": UPSTREAM_SERVICES, "state": BREAKER_STATES},
)
TIMELINE_SOURCE_ENABLED = InstrumentSpec(
    "support.timeline.source_enabled",
    "gauge",
    "{source}",
    "1 while an upstream service is configured and not switched off by an override, 0 otherwise",
    {"service": UPSTREAM_SERVICES},
)
