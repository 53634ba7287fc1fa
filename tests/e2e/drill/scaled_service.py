"""`support-service` with its intervals divided like the waits of the rules.

No interval is shorter than a quarter of a second, and the relay's lease lasts at least a second: the machine is busy.
"""

import asyncio
import os
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from observability.drill import SIZE_DIVISOR, TIME_DIVISOR
from observability.replica_rules import replica_rules

from support_service import cli, server
from support_service.app import build_app
from support_service.attachments.maintenance.jobs import MaintenanceTimings
from support_service.attachments.maintenance.offload import OffloadTimings
from support_service.attachments.opening import AttachmentTimings
from support_service.cases.clocks.breaches import DetectorTimings
from support_service.cases.gauges import GaugeTimings
from support_service.cases.opening import CaseTimings, SlaTimings
from support_service.core.clock import Backoff
from support_service.events.consumer import ConsumerTimings
from support_service.events.opening import EventTimings
from support_service.events.relay import RelayTimings
from support_service.events.webhook_sender import WebhookTimings
from support_service.guard.guard import Guard
from support_service.oncall.judge import OncallTimings
from support_service.platform.access.timings import AccessTimings, CallerTimings, JwksTimings
from support_service.platform.audit.log import SealerTimings
from support_service.platform.audit.watch import WatchTimings
from support_service.platform.certificates import CertificateTimings
from support_service.platform.database import DatabaseTimings, PostgresTimings
from support_service.platform.telemetry import stores as store_metrics
from support_service.probe import check
from support_service.service import ApiTimings, Timings
from support_service.timeline.cache import RedisCacheTimings
from support_service.timeline.opening import TimelineTimings
from support_service.timeline.source_health import BreakerTimings

MINIMUM = 0.25  # seconds


def shorter(seconds: float) -> float:
    """Return an interval divided by `TIME_DIVISOR`, or the minimum."""
    return max(MINIMUM, seconds / TIME_DIVISOR)


DEFAULTS = Timings()
maintenance = DEFAULTS.attachments.maintenance
reconcile_interval = float(os.environ.get("DRILL_SWEEP_EVERY", shorter(maintenance.reconcile_interval)))
first, last = (min(reconcile_interval, shorter(seconds)) for seconds in maintenance.first_reconcile_delay)


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
    timings=Timings(
        access=AccessTimings(
            jwks=JwksTimings(
                refresh_interval=shorter(DEFAULTS.access.jwks.refresh_interval),
                retry_interval=shorter(DEFAULTS.access.jwks.retry_interval),
                unknown_key_interval=shorter(DEFAULTS.access.jwks.unknown_key_interval),
            ),
            token_file_check_interval=MINIMUM,
            callers=CallerTimings(
                window=shorter(DEFAULTS.access.callers.window),
                line_interval=shorter(DEFAULTS.access.callers.line_interval),
            ),
        ),
        database=DatabaseTimings(
            # No shorter, since the machine is busy; a wait for a lock ends before that for a connection does.
            postgres=PostgresTimings(connect_timeout=1.0, pool_timeout=0.8, lock_timeout=0.5, statement_timeout=1.0),
            clock_interval=shorter(DEFAULTS.database.clock_interval),
        ),
        cases=CaseTimings(gauges=GaugeTimings(refresh_interval=shorter(DEFAULTS.cases.gauges.refresh_interval))),
        certificates=CertificateTimings(first_read_delay=MINIMUM, read_interval=1.0),
        timeline=TimelineTimings(
            breaker=BreakerTimings(
                open_for=DEFAULTS.timeline.breaker.open_for / TIME_DIVISOR,
                max_open_for=DEFAULTS.timeline.breaker.max_open_for / TIME_DIVISOR,
            ),
            redis=RedisCacheTimings(reconnect_interval=DEFAULTS.timeline.redis.reconnect_interval / TIME_DIVISOR),
        ),
        sla=SlaTimings(
            detector=DetectorTimings(
                interval=MINIMUM, lease_duration=max(1.0, DEFAULTS.sla.detector.lease_duration / TIME_DIVISOR)
            ),
            gauges=GaugeTimings(refresh_interval=shorter(DEFAULTS.sla.gauges.refresh_interval)),
        ),
        oncall=OncallTimings(
            sample_interval=shorter(DEFAULTS.oncall.sample_interval),
            rules=replica_rules(time=TIME_DIVISOR, size=SIZE_DIVISOR),
        ),
        api=ApiTimings(dependency_interval=shorter(DEFAULTS.api.dependency_interval)),
        audit=SealerTimings(
            seal_interval=shorter(DEFAULTS.audit.seal_interval), poll_interval=shorter(DEFAULTS.audit.poll_interval)
        ),
        audit_watch=WatchTimings(interval=shorter(DEFAULTS.audit_watch.interval)),
        events=EventTimings(
            backlog_refresh_interval=shorter(DEFAULTS.events.backlog_refresh_interval),
            webhooks=WebhookTimings(
                poll_interval=shorter(DEFAULTS.events.webhooks.poll_interval),
                first_retry_delay=shorter(DEFAULTS.events.webhooks.first_retry_delay),
            ),
            consumer=ConsumerTimings(backoff=Backoff(MINIMUM, shorter(DEFAULTS.events.consumer.backoff.max_delay))),
            relay=RelayTimings(
                backoff=Backoff(MINIMUM, shorter(DEFAULTS.events.relay.backoff.max_delay)),
                lease_duration=max(1.0, DEFAULTS.events.relay.lease_duration / TIME_DIVISOR),
            ),
        ),
        attachments=AttachmentTimings(
            backlog_refresh_interval=shorter(DEFAULTS.attachments.backlog_refresh_interval),
            maintenance=MaintenanceTimings(
                garbage_collection_interval=shorter(maintenance.garbage_collection_interval),
                offload_interval=shorter(maintenance.offload_interval),
                reconcile_interval=reconcile_interval,
                first_reconcile_delay=(first, last),
                offload=OffloadTimings(
                    target_failure_retry_delay=maintenance.offload.target_failure_retry_delay / TIME_DIVISOR
                ),
            ),
        ),
    ),
)
store_metrics.REFRESH_INTERVAL = shorter(store_metrics.REFRESH_INTERVAL)
check.STEP_TIMEOUT_MARGIN = shorter(check.STEP_TIMEOUT_MARGIN)

if __name__ == "__main__":
    cli.main()
