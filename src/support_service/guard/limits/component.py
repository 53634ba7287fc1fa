"""The limits component: load shedding, and request rates per client address and per principal."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from aiohttp import web

from support_service.guard.addresses import TrustedProxies
from support_service.guard.overload import LoadShedder
from support_service.guard.rates import Rate, RateLimiter, RateSyncTimings
from support_service.platform.background import run_in_background
from support_service.platform.settings.process import LimitSettings
from support_service.platform.telemetry.component import LOOP_LAG, operation_metrics
from support_service.platform.telemetry.instruments.stores import REDIS_OPERATIONS


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of requests. A rate limiter that is None is disabled."""

    proxies: TrustedProxies
    overload: LoadShedder
    by_address: RateLimiter | None
    by_principal: RateLimiter | None


REQUEST_LIMITS = web.AppKey("request_limits", RequestLimits)


def setup(
    app: web.Application,
    settings: LimitSettings,
    *,
    rate: tuple[int, int],
    address_rate: tuple[int, int],
    redis_url: str | None,
    timings: RateSyncTimings,
) -> None:
    """Add the limits. Rates are (requests, seconds); with a Redis URL, replicas share them."""
    limits = app[REQUEST_LIMITS] = RequestLimits(
        TrustedProxies(settings.trusted_proxies),
        LoadShedder(settings.lag, settings.requests),
        _limiter("address", address_rate),
        _limiter("principal", rate),
    )
    app[LOOP_LAG].listeners.append(limits.overload.record_lag)
    limiters = [limiter for limiter in (limits.by_address, limits.by_principal) if limiter]

    async def share_rates(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if redis_url and limiters:
                from support_service.guard.shared_rates import SharedRateLimits

                measure = operation_metrics(app, "redis", REDIS_OPERATIONS).record
                shared = SharedRateLimits(redis_url, limiters, measure, timings)
                stack.push_async_callback(shared.close)
                await stack.enter_async_context(run_in_background(shared.run()))
            yield

    app.cleanup_ctx.append(share_rates)


def _limiter(name: str, rate: tuple[int, int]) -> RateLimiter | None:
    return RateLimiter(name, Rate(*rate)) if rate[0] else None
