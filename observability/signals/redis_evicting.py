"""SupportRedisEvicting: Redis may evict event streams."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import redis.asyncio as redis
from grafana.panel import JOB_SELECTOR, Panel, Query, selector

from observability.drill import Action, Cause, Deployment, DrillFault, Exercise
from observability.faults import Fault, GaugeValues
from observability.signal import CAUSE_FOR, Alert, Signal


@asynccontextmanager
async def _redis_may_evict(deployment: Deployment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(deployment.redis.url) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        yield
        await client.config_set("maxmemory-policy", "noeviction")


SIGNAL = Signal(
    group="dependencies",
    alerts=(
        Alert(
            name="SupportRedisEvicting",
            short=("Redis may evict event streams", "Redis có thể loại stream event"),
            expr='max by (policy) (support_redis_eviction_policy{server="events",policy=~"allkeys.+"}) == 1',
            for_=CAUSE_FOR,
            severity="warning",
            summary="Redis may evict event streams: its eviction policy is {{ $labels.policy }}",
            description="{{ $value }} Redis of event streams has the eviction policy {{ $labels.policy }} (limit 0). "
            "When its memory is full, it deletes streams, and with them events that are not applied yet.",
            stated=(CAUSE_FOR,),
        ),
    ),
    panels=(
        Panel(
            "Support Redis memory",
            "Used share of Redis's maxmemory. On the right: keys that it evicts. Normal: under 80 %, and nothing is "
            "evicted from the server of events. No data without a maxmemory.",
            row="dependencies",
            place=30,
            queries=(
                Query(
                    "max by (server) (support_redis_memory_usage_bytes{JOB}) / "
                    "(max by (server) (support_redis_memory_limit_bytes{JOB}) > 0)".replace("JOB", JOB_SELECTOR),
                    "{{server}}",
                ),
                Query(
                    f"max by (server) (rate({selector('support_redis_evicted_keys_total')}[$__rate_interval]))",
                    "evicted: {{server}}",
                    right="ops",
                ),
            ),
            unit="percentunit",
            alerts=("SupportTimelineCacheErrors", "SupportRedisFailing", "SupportRedisEvicting"),
        ),
    ),
    faults={
        "the Redis of events may evict": Fault(
            ("SupportRedisEvicting",),
            {
                'support_redis_eviction_policy{server="events",policy="allkeys-lru"}': GaugeValues(0, 1),
                'support_redis_eviction_policy{server="events",policy="noeviction"}': GaugeValues(1, 0),
                'support_redis_eviction_policy{server="cache",policy="allkeys-lru"}': GaugeValues(1, 1),
            },
        )
    },
    drills=(
        DrillFault(
            "Redis may evict",
            ("SupportRedisEvicting",),
            _redis_may_evict,
            (Cause(1, "allkeys-lru"),),
            actions=(Action("Set the policy"),),
        ),
    ),
    exercises=(
        Exercise(
            ("set `maxmemory-policy` of Redis to `allkeys-lru`", "đặt `maxmemory-policy` của Redis là `allkeys-lru`"),
            ("set `noeviction`", "đặt `noeviction`"),
        ),
    ),
)
