"""The application: a list of its components, in the order in which they depend on each other.

Components start in this order and stop in reverse. Packages that the settings don't need are not imported: redis,
joserfc and cryptography, obstore, asyncpg, OpenTelemetry's exporters. See tests/e2e/test_imports.py.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from support_service.api import component as api
from support_service.api.routing.services import ApiTimings
from support_service.attachments import component as attachments
from support_service.attachments.component import AttachmentTimings
from support_service.cases import component as cases
from support_service.cases.clocks import component as clocks
from support_service.cases.clocks.component import SlaTimings
from support_service.cases.component import CaseTimings
from support_service.cases.masking import Masker
from support_service.console import component as console
from support_service.desk import component as desk
from support_service.desk.component import DeskLimits
from support_service.events import component as events
from support_service.events.component import EventTimings
from support_service.guard import component as guard
from support_service.guard.component import GuardTimings
from support_service.guard.json_body import MAX_JSON_BODY_BYTES
from support_service.platform import certificates
from support_service.platform.access import component as access
from support_service.platform.access.timings import AccessTimings
from support_service.platform.audit import component as audit
from support_service.platform.audit.log import SealerTimings
from support_service.platform.certificates import CertificateTimings
from support_service.platform.database import component as database
from support_service.platform.database.timings import DatabaseTimings
from support_service.platform.idempotency import component as idempotency
from support_service.platform.idempotency.claims import IdempotencyTimings
from support_service.platform.settings import Settings, WrongSetting
from support_service.platform.telemetry import component as telemetry
from support_service.platform.telemetry.component import TelemetryTimings
from support_service.stream import component as stream
from support_service.stream.service import StreamTimings
from support_service.timeline import component as timeline
from support_service.timeline.component import TimelineTimings
from support_service.timeline.sources.registry import AMOUNTS, PERSONAL_MEMBERS


@dataclass(frozen=True, slots=True)
class Timings:
    """Intervals, timeouts and batch sizes of each component, with their production defaults."""

    telemetry: TelemetryTimings = field(default_factory=TelemetryTimings)
    guard: GuardTimings = field(default_factory=GuardTimings)
    access: AccessTimings = field(default_factory=AccessTimings)
    database: DatabaseTimings = field(default_factory=DatabaseTimings)
    idempotency: IdempotencyTimings = field(default_factory=IdempotencyTimings)
    audit: SealerTimings = field(default_factory=SealerTimings)
    sla: SlaTimings = field(default_factory=SlaTimings)
    cases: CaseTimings = field(default_factory=CaseTimings)
    timeline: TimelineTimings = field(default_factory=TimelineTimings)
    attachments: AttachmentTimings = field(default_factory=AttachmentTimings)
    desk: DeskLimits = field(default_factory=DeskLimits)
    certificates: CertificateTimings = field(default_factory=CertificateTimings)
    events: EventTimings = field(default_factory=EventTimings)
    stream: StreamTimings = field(default_factory=StreamTimings)
    api: ApiTimings = field(default_factory=ApiTimings)


def build(settings: Settings, timings: Timings = Timings()) -> web.Application:
    """Return an application that is ready to start. Parts that need a running loop are created when it starts.

    Startup raises Unavailable if the database, the attachment directory or the admin address can't be used, and
    WrongSetting if a server that is configured as Redis answers in another way.
    """
    app = web.Application(client_max_size=MAX_JSON_BODY_BYTES)
    telemetry.setup(app, settings.telemetry, timings.telemetry)
    app.cleanup_ctx.append(partial(_check_redis, settings.redis_urls))
    guard.setup(
        app,
        settings.server,
        settings.limits,
        timings.guard,
        rate=settings.rate,
        address_rate=settings.address_rate,
        redis_url=settings.timeline.redis_url,
    )
    access.setup(app, settings.access, settings.server.auth, timings.access)
    database.setup(app, settings.database, timings.database)
    access.setup_sessions(app, timings.access.sessions)
    idempotency.setup(app, timings.idempotency)
    audit.setup(app, timings.audit)
    channels = settings.cases.known_channels
    masker = Masker(settings.server.masking_key, AMOUNTS, PERSONAL_MEMBERS, channels)
    clocks.setup(app, timings.sla)
    cases.setup(app, settings.cases, masker, timings.cases)
    timeline.setup(app, settings.timeline, settings.upstream_urls, timings.timeline)
    attachments.setup(app, settings.attachments, settings.s3, timings.attachments)
    desk.setup(app, timings.desk)
    events.setup(app, settings.events, settings.events_redis_url, timings.events)
    certificates.setup(app, settings.called_servers, timings.certificates)
    stream.setup(app, settings.limits, timings.stream)
    api.setup(
        app,
        settings.access,
        settings.attachments,
        settings.events,
        timings.api,
        links=settings.links,
        case_cache_bytes=settings.database.case_cache,
    )
    console.setup(app, settings.server.auth)
    return app


async def _check_redis(urls: Mapping[str, str], _: web.Application) -> AsyncIterator[None]:
    """Check at the start that each server that is configured as Redis is one, unless it is unavailable.

    `urls` are URLs by variable. Raises WrongSetting for another server.
    """
    for variable, url in urls.items():
        from support_service.platform.redis import is_other_server  # noqa: PLC0415 - loads redis only if it is used

        if await is_other_server(url):
            raise WrongSetting(f"{variable}: the server at this URL does not answer as Redis does")
    yield
