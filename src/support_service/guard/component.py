"""The HTTP component: what happens to every request before its handler, and the limits of connections."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import web

from support_service.guard.admission import Admission
from support_service.guard.connection_limits import ConnectionLimits, ConnectionLimitSettings, ConnectionTimings
from support_service.guard.instrumentation import instrumentation_middleware
from support_service.guard.limits.component import REQUEST_LIMITS
from support_service.guard.problems import problem_middleware
from support_service.guard.readiness import Readiness
from support_service.guard.security import BrowserPolicy
from support_service.guard.unread_answers import UnreadAnswers
from support_service.platform.background import run_in_background
from support_service.platform.settings.process import LimitSettings, ServerSettings
from support_service.platform.telemetry.component import INSTRUMENTS, REQUEST_METRICS
from support_service.platform.telemetry.instruments.http import CONNECTION_OPEN


@dataclass(frozen=True, slots=True)
class HttpTimings:
    """Timeouts in seconds."""

    connections: ConnectionTimings = ConnectionTimings()
    body_timeout: float = 30.0  # for a JSON body; aiohttp waits indefinitely
    chunk_timeout: float = 30.0  # for the next bytes of an upload; aiohttp waits indefinitely
    min_rate_grace: float = 10.0  # of waiting for a client before the minimum rate of uploads applies


READINESS = web.AppKey("readiness", Readiness)
ADMISSION = web.AppKey("admission", Admission)
CONNECTION_LIMITS = web.AppKey("connection_limits", ConnectionLimits)
HTTP_TIMINGS = web.AppKey("http_timings", HttpTimings)
PUBLIC_URL = web.AppKey("public_url", str)  # prefix of attachment URLs; empty for relative URLs


def setup(app: web.Application, server: ServerSettings, limits: LimitSettings, timings: HttpTimings) -> None:
    """Add the middlewares of every request, and close connections whose client exceeds a timeout."""
    instruments, request_limits = app[INSTRUMENTS], app[REQUEST_LIMITS]
    app[HTTP_TIMINGS] = timings
    app[PUBLIC_URL] = server.public_url or ""
    readiness = app[READINESS] = Readiness()
    own = (server.public_url,) if server.public_url else ()
    admission = app[ADMISSION] = Admission(
        proxies=request_limits.proxies,
        browser_policy=BrowserPolicy(limits.cors_origins, own if server.auth == "open" else None),
        overload=request_limits.overload,
        readiness=readiness,
        by_address=request_limits.by_address,
        by_principal=request_limits.by_principal,
        unread=UnreadAnswers(limits.unread_bytes, limits.unread_bytes_per_caller),
        rejections=instruments.request_turned_away,
    )
    connections = app[CONNECTION_LIMITS] = ConnectionLimits(
        ConnectionLimitSettings(
            limits.connections, limits.header_timeout, limits.idle_timeout, limits.send_timeout, limits.send_rate
        ),
        request_limits.proxies,
        lambda reason: instruments.connection_cut.add(1, {"reason": reason}),
        timings.connections,
    )
    instruments.observe(CONNECTION_OPEN, connections.observe_open)
    app.middlewares.extend(
        (
            instrumentation_middleware(app[REQUEST_METRICS], readiness, admission, server.access_log),
            problem_middleware,
            admission.middleware,
        )
    )
    app.on_response_prepare.append(admission.add_response_headers)

    async def watch_connections(_: web.Application) -> AsyncIterator[None]:
        async with run_in_background(connections.enforce_timeouts()):
            yield

    app.cleanup_ctx.append(watch_connections)
