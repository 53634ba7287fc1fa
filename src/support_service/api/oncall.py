"""The state of the service for the engineer on call.

The figures are the ones that the process keeps for its metrics; no table is read. Only the database and the cache are
asked whether they answer, each within a timeout of its own, so that the answer arrives whatever is down.
"""

import asyncio
import math
import os
import platform
import time
from datetime import datetime
from typing import Any

from support_service import __version__
from support_service.api.models.oncall import (
    BacklogCard,
    CacheCard,
    DatabaseCard,
    DeadLettersCard,
    EventLoopCard,
    OnCall,
    OutboxCard,
    ProbeCard,
    SealerCard,
    SourceCard,
    SourcesCard,
    StreamCard,
    WebhooksCard,
)
from support_service.api.models.oncall_actions import ShownOverride
from support_service.api.oncall_actions import TAG, shown
from support_service.api.oncall_parts import OnCallParts
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.route import Permission
from support_service.core.clock import age_in_seconds, utc_now
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES, UpstreamService
from support_service.core.problem_codes import PROBLEM_CODES_BY_NAME
from support_service.service import Service
from support_service.timeline.cache import CacheUnavailable
from support_service.timeline.overrides import TTL_OVERRIDE

BROKER_SILENT = "The Redis of events does not answer."

READ = Permission("oncall:read", {"supervisor": "all", "service": "all"})


@get("/support/oncall", tag=TAG, access=READ)
async def get_oncall(call: Call) -> Reply[OnCall]:
    """Get the state of the service's parts.

    The answer is 200 also while the database, Redis or an upstream service is down: the card of that part says so.
    Cards with the scope `replica` are about the replica that answers.
    """
    parts = call.service.on_call
    database, cache = await asyncio.gather(_database(call.service), _cache(call.service))
    return Reply(
        OnCall.model_construct(
            replica=f"{platform.node()}-{os.getpid()}",
            version=__version__,
            at=utc_now(),
            sources=_sources(parts),
            cache=cache,
            database=database,
            backlog=_backlog(parts),
            outbox=_outbox(parts),
            stream=_stream(parts),
            dead_letters=_dead_letters(parts),
            webhooks=_webhooks(parts),
            probe=ProbeCard.model_construct(
                status="unknown",
                error="The probe runs in a process of its own; its metrics have its results.",
                scope="service",
                as_of=None,
                **parts.links("probe"),
            ),
            audit_sealer=_sealer(parts),
            event_loop=_event_loop(parts),
        )
    )


async def _database(service: Service) -> DatabaseCard:
    started = time.perf_counter()
    status = await service.dependencies.database_status()
    seconds = time.perf_counter() - started
    return DatabaseCard.model_construct(
        status="ok" if status == "ok" else "unavailable",
        error=None if status == "ok" else PROBLEM_CODES_BY_NAME[status].meaning,
        scope="replica",
        as_of=utc_now(),
        answer_seconds=round(seconds, 6) if status == "ok" else None,
        **service.on_call.links("database"),
    )


async def _cache(service: Service) -> CacheCard:
    parts = service.on_call
    error = None
    try:
        async with asyncio.timeout(service.timings.api.ping_timeout):
            await service.cache.ping()
    except (CacheUnavailable, TimeoutError):
        error = "The Redis of the timeline cache does not answer."
    overrides, default = parts.timeline.overrides, parts.timeline.default_ttl
    return CacheCard.model_construct(
        status="unavailable" if error else "ok",
        error=error,
        scope="service",
        as_of=utc_now(),
        ttl_seconds=overrides.ttl(default),
        default_ttl_seconds=default,
        override=_override(parts, TTL_OVERRIDE),
        **parts.links("cache"),
    )


def _sources(parts: OnCallParts) -> SourcesCard:
    items = [_source(parts, service) for service in UPSTREAM_SERVICES]
    failing = [each.service for each in items if each.breaker not in (None, "closed") and each.override is None]
    return SourcesCard.model_construct(
        status="unavailable" if failing else "ok",
        error=f"The circuit breaker rejects calls to: {', '.join(failing)}." if failing else None,
        scope="replica",
        as_of=utc_now(),
        items=items,
        **parts.links("sources"),
    )


def _source(parts: OnCallParts, service: UpstreamService) -> SourceCard:
    client = parts.timeline.sources.get(service)
    recent = client.recent.summary() if client else None
    return SourceCard.model_construct(
        service=service,
        configured=client is not None,
        breaker=client.breaker.state if client else None,
        calls=recent.calls if recent else 0,
        error_share=recent.error_share if recent else None,
        p95_seconds=_rounded(recent.p95 if recent else None),
        last_answer_at=recent.last_answer_at if recent else None,
        override=_override(parts, service),
    )


def _override(parts: OnCallParts, name: str) -> ShownOverride | None:
    override = parts.timeline.overrides.in_effect(name)
    return shown(override) if override else None


def _read(parts: OnCallParts, card: str, at: datetime | None, error: str | None = None) -> dict[str, Any]:
    """Return the common members of a card whose figures were read at a time, of all replicas."""
    if error is None and at is None:
        error = "It was not read yet."
    status = "unavailable" if error else "stale" if at and utc_now() - at > parts.stale_after else "ok"
    return {"status": status, "error": error, "scope": "service", "as_of": at, **parts.links(card)}


def _backlog(parts: OnCallParts) -> BacklogCard:
    found = parts.backlog.status
    return BacklogCard.model_construct(
        **_read(parts, "backlog", found.read_at if found else None),
        files=found.totals.files if found else None,
        bytes=found.totals.bytes if found else None,
        oldest_age_seconds=age_in_seconds(found.oldest) if found else None,
        disk_free_bytes=found.disk_free if found else None,
        full_in_seconds=found.full_in if found else None,
    )


def _outbox(parts: OnCallParts) -> OutboxCard:
    events, age = parts.relay.backlog or (None, None)
    return OutboxCard.model_construct(
        **_read(parts, "outbox", parts.relay.backlog_read_at),
        events=events,
        oldest_age_seconds=age,
        leader=parts.relay.is_leader(),
    )


def _stream(parts: OnCallParts) -> StreamCard:
    found = parts.consumer.backlog
    return StreamCard.model_construct(
        **_read(parts, "stream", parts.consumer.backlog_read_at, None if found else BROKER_SILENT),
        waiting=found.waiting if found else None,
    )


def _dead_letters(parts: OnCallParts) -> DeadLettersCard:
    found = parts.consumer.backlog
    return DeadLettersCard.model_construct(
        **_read(parts, "dead_letters", parts.consumer.backlog_read_at, None if found else BROKER_SILENT),
        count=found.dead if found else None,
    )


def _webhooks(parts: OnCallParts) -> WebhooksCard:
    return WebhooksCard.model_construct(
        **_read(parts, "webhooks", parts.webhooks.pending_read_at),
        pending=parts.webhooks.pending,
        endpoints=parts.webhooks.endpoint_names,
    )


def _sealer(parts: OnCallParts) -> SealerCard:
    found = parts.sealer.status
    return SealerCard.model_construct(
        **_read(parts, "audit_sealer", found.read_at if found else None),
        entries=found.length if found else None,
        last_sealed_at=found.last_sealed_at if found else None,
        unsealed_age_seconds=age_in_seconds(found.oldest_unsealed) if found else None,
    )


def _rounded(seconds: float | None) -> float | None:
    """Return a duration to the millisecond."""
    return None if seconds is None else round(seconds, 3)


def _event_loop(parts: OnCallParts) -> EventLoopCard:
    samples = list(parts.loop_lag.recent)
    ordered = sorted(samples)
    return EventLoopCard.model_construct(
        **_read(parts, "event_loop", utc_now()) | {"scope": "replica"},
        lag_seconds=_rounded(samples[-1] if samples else None),
        p95_seconds=_rounded(ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None),
        max_seconds=_rounded(ordered[-1] if ordered else None),
    )
