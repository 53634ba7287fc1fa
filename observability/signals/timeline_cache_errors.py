"""SupportTimelineCacheErrors: Redis fails, timelines are read without their cache."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import redis.asyncio as redis
from grafana.panel import FIRST_RUNBOOK, Panel, Query, rate, selector

from observability.drill import Action, Cause, Deployment, DrillFault, Exercise
from observability.faults import CounterValues, Fault
from observability.signal import CAUSE_KEPT, SYMPTOM_WINDOW, Alert, Signal, value_template

REDIS_ERROR_SHARE = 0.05  # share of reads, or of operations on streams; a healthy Redis causes none, a failover a few
REDIS_FULL_SHARE = 0.98  # share of maxmemory in use; Redis refuses a write that would exceed it
LEAKED_CLIENTS, LEAKING = 20, "leaking"  # in the drill: connections of another application, and their name
REDIS_FAILS_FOR = "3m"  # longer than CAUSE_FOR: that only one replica can't use Redis is said first, and mutes this
REDIS_ERRORS = 3  # errors per window; one lost connection is not an outage


def cache_events(events: str) -> str:
    return f'sum(increase(support_timeline_cache_events_total{{event=~"{events}"}}[{SYMPTOM_WINDOW}]))'


READS, CACHE_ERRORS = cache_events("hit|miss"), cache_events("error")
MISSED = f"{cache_events('miss')} / {READS}"
CACHE_FAILING = f"{CACHE_ERRORS} / {READS} > {REDIS_ERROR_SHARE} and {CACHE_ERRORS} >= {REDIS_ERRORS}"
CACHE_EVENTS = "support_timeline_cache_events_total"


def redis_cause(server: str) -> str:
    """Return the part of a summary that names why a server, `cache` or `events`, refuses changes, or nothing."""
    own = f'server="{server}"'
    replica = f'max by (server) (support_redis_role{{{own},role="replica"}}) == 1'
    full = (
        f"max by (server) (support_redis_memory_usage_bytes{{{own}}})"
        f" / (max by (server) (support_redis_memory_limit_bytes{{{own}}}) > 0) > {REDIS_FULL_SHARE}"
    )
    causes = ((replica, "Its server is a replica, which refuses changes"), (full, "Its memory is full"))
    return "".join(f"{{{{ range query `{query}` }}}}. {cause}{{{{ end }}}}" for query, cause in causes)


def cache_event(name: str) -> str:
    return f'support_timeline_cache_events_total{{event="{name}"}}'


def stream_operations(error: str = "") -> str:
    labels = f'job="support-service",db_system_name="redis",db_operation_name="XADD",error_type="{error}"'
    return f"db_client_operation_duration_seconds_count{{{labels}}}"


@asynccontextmanager
async def _redis_is_killed(deployment: Deployment) -> AsyncIterator[None]:
    deployment.redis.kill()
    yield
    await asyncio.to_thread(deployment.redis.start)


@asynccontextmanager
async def _redis_freezes(deployment: Deployment) -> AsyncIterator[None]:
    deployment.redis.freeze()
    yield
    deployment.redis.thaw()


@asynccontextmanager
async def _redis_is_full(deployment: Deployment) -> AsyncIterator[None]:
    """Its memory is used up, and it evicts nothing."""
    async with redis.Redis.from_url(deployment.redis.url) as client:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", (await client.info("memory"))["used_memory"])
        yield
        await client.config_set("maxmemory", 0)


@asynccontextmanager
async def _redis_is_read_only(deployment: Deployment) -> AsyncIterator[None]:
    """It has become a replica, as after a failover that the service does not follow."""
    async with redis.Redis.from_url(deployment.redis.url) as client:
        await client.replicaof("127.0.0.1", "9")
        yield
        await client.replicaof("NO", "ONE")


@asynccontextmanager
async def _redis_has_too_many_clients(deployment: Deployment) -> AsyncIterator[None]:
    """Another application holds all connections that Redis accepts."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            redis.Redis.from_url(deployment.redis.url, single_connection_client=True)
        )
        for _ in range(LEAKED_CLIENTS):
            leaked = redis.Redis.from_url(deployment.redis.url, single_connection_client=True)
            await (await stack.enter_async_context(leaked)).client_setname(LEAKING)
        usual = str((await client.config_get("maxclients"))["maxclients"])
        await client.config_set("maxclients", LEAKED_CLIENTS + 1)
        for each in await client.client_list():
            if each["name"] != LEAKING and each["id"] != str(await client.client_id()):
                await client.client_kill_filter(_id=each["id"])
        yield
        await client.config_set("maxclients", usual)


@asynccontextmanager
async def _redis_runs_an_endless_script(deployment: Deployment) -> AsyncIterator[None]:
    """A script of another application. After its time, Redis answers BUSY to all others."""
    await asyncio.to_thread(deployment.redis.run, "CONFIG", "SET", "busy-reply-threshold", "100")
    script = asyncio.create_task(_run_endless_script(deployment))
    yield
    async with redis.Redis.from_url(deployment.redis.url) as client:
        with suppress(redis.ResponseError):  # somebody has killed it
            await client.script_kill()
    await script


async def _run_endless_script(deployment: Deployment) -> None:
    async with redis.Redis.from_url(deployment.redis.url, socket_timeout=None) as client:
        with suppress(redis.ResponseError):
            await client.eval("while true do end", 0)


@asynccontextmanager
async def _redis_can_not_save(deployment: Deployment) -> AsyncIterator[None]:
    """Its last snapshot failed, as with a full disk, so that it refuses changes."""
    async with redis.Redis.from_url(deployment.redis.url) as client:
        place = deployment.folder / (await client.config_get("dbfilename"))["dbfilename"]
        place.unlink(missing_ok=True)
        place.mkdir()  # a folder where the snapshot shall be
        await client.config_set("save", "3600 1")
        await _save(client)
        yield
        place.rmdir()
        await _save(client)
        await client.config_set("save", "")
        await client.config_set("stop-writes-on-bgsave-error", "yes")


async def _save(client: "redis.Redis") -> None:
    """Write a snapshot in the background, and wait for its end, whatever it is."""
    await client.bgsave()
    while (await client.info("persistence"))["rdb_bgsave_in_progress"]:  # noqa: ASYNC110 - Redis has no event of its end
        await asyncio.sleep(0.05)


SIGNAL = Signal(
    group="timeline",
    alerts=(
        Alert(
            name="SupportTimelineCacheErrors",
            short=(
                "Redis fails, timelines are read without their cache",
                "Redis lỗi, timeline được đọc không qua cache",
            ),
            expr=CACHE_FAILING,
            for_=REDIS_FAILS_FOR,
            severity="warning",
            summary="Redis fails: {{ $value | humanize }} operations of the cache fail for each timeline read, and "
            f"{value_template(MISSED, 'humanizePercentage', 'few')} of reads miss it{redis_cause('cache')}",
            description="{{ $value | humanize }} operations of the cache fail for each timeline read (limit "
            f"{REDIS_ERROR_SHARE:g} and {REDIS_ERRORS} errors in {SYMPTOM_WINDOW}). Reads that miss the cache call the "
            "upstream services. If events use the same Redis, they wait until it works.",
            keep_firing_for=CAUSE_KEPT,
            stated=(f"{REDIS_ERROR_SHARE * 100:g} %", f"{REDIS_ERRORS} ", SYMPTOM_WINDOW, REDIS_FAILS_FOR),
        ),
    ),
    panels=(
        Panel(
            "Support timeline cache events",
            "Uses of the timeline cache. hit and miss are one read each. error is an operation on Redis that failed. "
            "Normal: more hits than misses, no errors.",
            row="first",
            place=30,
            queries=(Query(rate(CACHE_EVENTS, "event"), "{{event}}"),),
            unit="ops",
            alerts=("SupportTimelineCacheErrors", "SupportTimelineCacheMissSurge"),
            runbook=FIRST_RUNBOOK,
            width=12,
        ),
        Panel(
            "Support Redis role",
            "The role of each Redis server. Normal: master. replica: after a failover the address leads to the wrong "
            "server, which refuses changes.",
            row="dependencies",
            place=40,
            queries=(Query(f"max by (server, role) ({selector('support_redis_role')})", "{{server}}: {{role}}"),),
            unit="short",
            alerts=("SupportTimelineCacheErrors", "SupportRedisFailing"),
            kind="states",
            words={"1": "yes"},
        ),
    ),
    faults={
        "Redis gives errors": Fault(
            ("SupportTimelineCacheErrors",),
            {
                cache_event("hit"): CounterValues(20, 20),
                cache_event("miss"): CounterValues(6, 6),
                cache_event("error"): CounterValues(0, 2),
                stream_operations(): CounterValues(20, 20),
                stream_operations("_OTHER"): CounterValues(0, 2),
            },
        ),
        "Redis is down": Fault(
            ("SupportTimelineCacheErrors", "SupportTimelineCacheMissSurge"),
            {
                cache_event("hit"): CounterValues(40, 0),
                cache_event("miss"): CounterValues(20, 60),
                cache_event("error"): CounterValues(0, 60),
                'support_timeline_collection_failures_total{stage="cache"}': CounterValues(0, 60),
                stream_operations(): CounterValues(60, 0),
                stream_operations("_OTHER"): CounterValues(0, 12),
            },
        ),
    },
    drills=(
        DrillFault(
            "Redis killed",
            ("SupportTimelineCacheErrors", "SupportOutboxStalled"),
            _redis_is_killed,
            (Cause(1, "refused"),),
            actions=(Action("Restart Redis"),),
        ),
        DrillFault(
            "Redis frozen",
            ("SupportTimelineCacheErrors", "SupportOutboxStalled"),
            _redis_freezes,
            (Cause(2, "Redis is unavailable"),),
            actions=(Action("Restart Redis"),),
        ),
        DrillFault(
            "Redis full",
            ("SupportTimelineCacheErrors", "SupportOutboxStalled"),
            _redis_is_full,
            (Cause(3, r'"server": "events"} [1-9]'),),
            actions=(Action("Raise maxmemory"),),
        ),
        DrillFault(
            "Redis read-only",
            ("SupportTimelineCacheErrors", "SupportOutboxStalled"),
            _redis_is_read_only,
            (Cause(3, "role:slave"),),
            only_repair="the address has to lead to the master",
        ),
        DrillFault(
            "Redis has too many clients",
            ("SupportTimelineCacheErrors", "SupportOutboxStalled"),
            _redis_has_too_many_clients,
            (Cause(1, "max number of clients"),),
            only_repair="the other application has to give connections back",
        ),
        DrillFault(
            "Redis busy with a script",
            ("SupportTimelineCacheErrors", "SupportOutboxStalled"),
            _redis_runs_an_endless_script,
            (Cause(1, "BUSY"),),
            actions=(Action("End the script"),),
        ),
        DrillFault(
            "Redis can't save",
            ("SupportTimelineCacheErrors", "SupportOutboxStalled"),
            _redis_can_not_save,
            (Cause(1, "MISCONF"),),
            actions=(Action("Take changes without a snapshot"),),
        ),
    ),
    exercises=(Exercise(("stop Redis", "dừng Redis"), ("start Redis", "khởi động Redis")),),
)
