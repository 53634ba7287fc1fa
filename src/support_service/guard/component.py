"""The guard's component: what happens to every request before its handler, and the limits of connections and rates."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiohttp import web

from support_service.guard.addresses import TrustedProxies
from support_service.guard.admission import Admission
from support_service.guard.connection_limits import (
    CONNECTION_CUT,
    CONNECTION_OPEN,
    ConnectionLimits,
    ConnectionLimitSettings,
    ConnectionTimings,
)
from support_service.guard.instrumentation import instrumentation_middleware
from support_service.guard.overload import LoadShedder, Readiness
from support_service.guard.problems import problem_middleware
from support_service.guard.rates import Rate, RateLimiter, RateSyncTimings
from support_service.guard.security import BrowserPolicy
from support_service.guard.unread_answers import UnreadAnswers
from support_service.platform.background import run_in_background
from support_service.platform.settings.process import LimitSettings, ServerSettings
from support_service.platform.telemetry.component import INSTRUMENTS, LOOP_LAG, REQUEST_METRICS, operation_metrics
from support_service.platform.telemetry.stores import REDIS_OPERATIONS


@dataclass(frozen=True, slots=True)
class GuardTimings:
    """Timeouts in seconds."""

    connections: ConnectionTimings = ConnectionTimings()
    rates: RateSyncTimings = RateSyncTimings()
    body_timeout: float = 30.0  # for a JSON body; aiohttp waits indefinitely
    chunk_timeout: float = 30.0  # for the next bytes of an upload; aiohttp waits indefinitely
    min_rate_grace: float = 10.0  # of waiting for a client before the minimum rate of uploads applies


READINESS = web.AppKey("readiness", Readiness)
ADMISSION = web.AppKey("admission", Admission)
CONNECTION_LIMITS = web.AppKey("connection_limits", ConnectionLimits)
GUARD_TIMINGS = web.AppKey("guard_timings", GuardTimings)
PUBLIC_URL = web.AppKey("public_url", str)  # prefix of attachment URLs; empty for relative URLs


def setup(
    app: web.Application,
    server: ServerSettings,
    limits: LimitSettings,
    timings: GuardTimings,
    *,
    rate: tuple[int, int],
    address_rate: tuple[int, int],
    redis_url: str | None,
) -> None:
    """Add the middlewares of every request, and close connections whose client exceeds a timeout.

    Rates are (requests, seconds). With a Redis URL, replicas share them.
    """
    instruments = app[INSTRUMENTS]
    app[GUARD_TIMINGS] = timings
    app[PUBLIC_URL] = server.public_url or ""
    readiness = app[READINESS] = Readiness()
    proxies = TrustedProxies(limits.trusted_proxies)
    overload = LoadShedder(limits.lag, limits.requests)
    app[LOOP_LAG].listeners.append(overload.record_lag)
    by_address, by_principal = _limiter("address", address_rate), _limiter("principal", rate)
    own = (server.public_url,) if server.public_url else ()
    admission = app[ADMISSION] = Admission(
        proxies=proxies,
        browser_policy=BrowserPolicy(limits.cors_origins, own if server.auth == "open" else None),
        overload=overload,
        readiness=readiness,
        by_address=by_address,
        by_principal=by_principal,
        unread=UnreadAnswers(limits.unread_bytes, limits.unread_bytes_per_caller),
        instruments=instruments,
    )
    connections = app[CONNECTION_LIMITS] = ConnectionLimits(
        ConnectionLimitSettings(
            limits.connections, limits.header_timeout, limits.idle_timeout, limits.send_timeout, limits.send_rate
        ),
        proxies,
        lambda reason: instruments.add(CONNECTION_CUT, 1, {"reason": reason}),
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
    limiters = [limiter for limiter in (by_address, by_principal) if limiter]

    async def share_rates(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if redis_url and limiters:
                from support_service.guard.shared_rates import SharedRateLimits

                measure = operation_metrics(app, "redis", REDIS_OPERATIONS).record
                shared = SharedRateLimits(redis_url, limiters, measure, timings.rates)
                stack.push_async_callback(shared.close)
                await stack.enter_async_context(run_in_background(shared.run()))
            yield

    async def watch_connections(_: web.Application) -> AsyncIterator[None]:
        async with run_in_background(connections.enforce_timeouts()):
            yield

    app.cleanup_ctx.extend((share_rates, watch_connections))


def _limiter(name: str, rate: tuple[int, int]) -> RateLimiter | None:
    """Return a limiter of a rate, or None if it allows any number of requests."""
    return RateLimiter(name, Rate(*rate)) if rate[0] else None
