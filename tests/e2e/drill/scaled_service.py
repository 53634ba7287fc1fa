"""`support-service` with its intervals divided like the waits of the rules.

No interval is shorter than a quarter of a second, and the relay's lease lasts at least a second: the machine is busy.
"""

import asyncio
import os
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from observability.drill import SIZE_DIVISOR, TIME_DIVISOR
from observability.replica_rules import replica_rules

from support_service import cli, server, service
from support_service.app import build_app
from support_service.attachments import storage
from support_service.attachments.maintenance import jobs, offload
from support_service.cases import gauges
from support_service.cases.clocks import breaches
from support_service.core.clock import Backoff
from support_service.guard.guard import Guard
from support_service.platform import certificates
from support_service.platform.audit import log, watch
from support_service.platform.database import PostgresTimings
from support_service.platform.telemetry import stores as store_metrics
from support_service.probe import check
from support_service.timings import Timings

MINIMUM = 0.25  # seconds


def shorter(seconds: float) -> float:
    """Return an interval divided by `TIME_DIVISOR`, or the minimum."""
    return max(MINIMUM, seconds / TIME_DIVISOR)


def scaled(timings: Any, *intervals: str, **others: Any) -> Any:
    """Return a section of the timings with shorter intervals, and other values."""
    return replace(timings, **{name: shorter(getattr(timings, name)) for name in intervals}, **others)


def lease(seconds: float) -> float:
    return max(1.0, seconds / TIME_DIVISOR)


usual = Timings()
events, breaker = usual.events, usual.timeline.breaker
reconcile_interval = float(os.environ.get("DRILL_SWEEP_EVERY", shorter(jobs.RECONCILE_INTERVAL)))


@web.middleware
async def open_slowly(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Wait before a case is opened, for as long as a fault says."""
    if (request.method, request.path) == ("POST", "/support/cases"):
        await asyncio.sleep(float(os.environ.get("DRILL_OPENING_SECONDS", "0")))
    return await handler(request)


def build_scaled_app(*arguments: Any, **options: Any) -> tuple[web.Application, Guard]:
    """Return an application that may open cases slowly, and its guard."""
    app, guard = build_app(*arguments, **options)
    app.middlewares.append(open_slowly)
    return app, guard


server.build_app = partial(
    build_scaled_app,
    timings=replace(
        usual,
        access=scaled(
            usual.access,
            jwks=scaled(usual.access.jwks, "refresh_interval", "retry_interval", "unknown_key_interval"),
            token_file_check_interval=MINIMUM,
            callers=scaled(usual.access.callers, "window", "line_interval"),
        ),
        database=scaled(
            usual.database,
            "clock_interval",
            # No shorter, since the machine is busy; a wait for a lock ends before that for a connection does.
            postgres=PostgresTimings(connect_timeout=1.0, pool_timeout=0.8, lock_timeout=0.5, statement_timeout=1.0),
        ),
        timeline=scaled(
            usual.timeline,
            breaker=scaled(
                breaker, open_for=breaker.open_for / TIME_DIVISOR, max_open_for=breaker.max_open_for / TIME_DIVISOR
            ),
            redis=scaled(
                usual.timeline.redis, reconnect_interval=usual.timeline.redis.reconnect_interval / TIME_DIVISOR
            ),
        ),
        oncall=scaled(usual.oncall, "sample_interval", rules=replica_rules(time=TIME_DIVISOR, size=SIZE_DIVISOR)),
        api=scaled(usual.api, "dependency_interval"),
        events=scaled(
            events,
            "backlog_refresh_interval",
            webhooks=scaled(events.webhooks, "poll_interval", "first_retry_delay"),
            consumer=scaled(events.consumer, backoff=Backoff(MINIMUM, shorter(events.consumer.backoff.max_delay))),
            relay=scaled(
                events.relay,
                backoff=Backoff(MINIMUM, shorter(events.relay.backoff.max_delay)),
                lease_duration=lease(events.relay.lease_duration),
            ),
        ),
    ),
)
service.REDIS_TIMEOUT = 1.0  # the machine is busy
storage.DISK_RESERVE //= SIZE_DIVISOR
offload.DELETE_GRACE = timedelta(seconds=1)
for module, *names in (
    (store_metrics, "REFRESH_INTERVAL"),
    (gauges, "CASE_REFRESH_INTERVAL", "CLOCK_REFRESH_INTERVAL"),
    (log, "SEAL_INTERVAL", "POLL_INTERVAL"),
    (watch, "VERIFY_INTERVAL"),
    (service, "ATTACHMENT_BACKLOG_INTERVAL"),
    (jobs, "GARBAGE_COLLECTION_INTERVAL", "OFFLOAD_INTERVAL"),
):
    for name in names:
        setattr(module, name, shorter(getattr(module, name)))
breaches.INTERVAL, breaches.LEASE_DURATION = MINIMUM, lease(breaches.LEASE_DURATION)
certificates.FIRST_READ_DELAY, certificates.READ_INTERVAL = MINIMUM, 1.0
first, last = (min(reconcile_interval, shorter(seconds)) for seconds in jobs.FIRST_RECONCILE_DELAY)
jobs.RECONCILE_INTERVAL, jobs.FIRST_RECONCILE_DELAY = reconcile_interval, (first, last)
offload.RETRY_AFTER_TARGET_FAILURE /= TIME_DIVISOR
check.STEP_TIMEOUT_MARGIN = shorter(check.STEP_TIMEOUT_MARGIN)

if __name__ == "__main__":
    cli.main()
