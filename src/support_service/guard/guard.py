"""The guard of an application: what bounds its connections, its requests and their callers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from dataclasses import dataclass
from typing import Self

from support_service.guard.addresses import TrustedProxies
from support_service.guard.connection_limits import CONNECTION_CUT, CONNECTION_OPEN, ConnectionLimits, ConnectionTimings
from support_service.guard.overload import LargeBodies, LoadShedder, Readiness
from support_service.guard.rates import Rate, RateLimiter
from support_service.guard.security import BrowserPolicy
from support_service.guard.unread_answers import UnreadAnswers
from support_service.platform.background import run_in_background
from support_service.platform.settings import Settings
from support_service.platform.telemetry.stores import REDIS_OPERATIONS
from support_service.platform.telemetry.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class GuardTimings:
    """Times in seconds, and limits."""

    connections: ConnectionTimings = ConnectionTimings()
    body_timeout: float = 30.0  # for a JSON body; aiohttp waits indefinitely
    chunk_timeout: float = 30.0  # for the next bytes of an upload; aiohttp waits indefinitely
    upload_time: float = 3600.0  # for a whole upload
    upload_rate: float = 1024.0  # bytes per second that a client must send of it
    min_rate_grace: float = 10.0  # of waiting for a client before the minimum rate of uploads applies
    requests: int = 1000  # at once
    unread_bytes: int = 256 * 1024 * 1024  # of answers that all clients may leave unread
    unread_bytes_per_caller: int = 64 * 1024 * 1024  # the same for one address, and for one principal


class Guard:
    """The bounds of one application. They exist before its service, because connections come first."""

    def __init__(self, settings: Settings, telemetry: Telemetry, timings: GuardTimings = GuardTimings()) -> None:
        server, limits, instruments = settings.server, settings.limits, telemetry.instruments
        self.timings = timings
        self.requests = telemetry.requests
        self.instruments = instruments
        self.readiness = Readiness()
        self.proxies = TrustedProxies(limits.trusted_proxies)
        self.load_shedder = LoadShedder(limits.lag, timings.requests)
        telemetry.loop_lag.listeners.append(self.load_shedder.record_lag)
        own = (server.public_url,) if server.public_url else ()
        self.browser_policy = BrowserPolicy(limits.cors_origins, own if server.auth == "open" else None)
        self.address_limiter = _create_limiter("address", settings.address_rate)
        self.principal_limiter = _create_limiter("principal", settings.rate)
        self.unread_answers = UnreadAnswers(timings.unread_bytes, timings.unread_bytes_per_caller)
        self.large_bodies = LargeBodies()
        self.connections = ConnectionLimits(
            limits,
            self.proxies,
            lambda reason: instruments.add(CONNECTION_CUT, 1, {"reason": reason}),
            timings.connections,
        )
        instruments.observe(CONNECTION_OPEN, self.connections.observe_open)

    def with_connection_limit(self, limit: int) -> Self:
        """Return a guard that shares everything but the connections, of which it admits `limit`."""
        other = copy(self)
        other.connections = self.connections.with_limit(limit)
        return other

    @asynccontextmanager
    async def running(self, telemetry: Telemetry, redis_url: str | None) -> AsyncIterator[None]:
        """Close connections whose client exceeds a timeout. With a Redis URL, replicas share their rates."""
        limiters = [each for each in (self.address_limiter, self.principal_limiter) if each]
        async with AsyncExitStack() as stack:
            if redis_url and limiters:
                from support_service.guard.shared_rates import SharedRateLimits

                measure = telemetry.operation_recorder("redis", REDIS_OPERATIONS)
                shared = SharedRateLimits(redis_url, limiters, measure)
                stack.push_async_callback(shared.close)
                await stack.enter_async_context(run_in_background(shared.run()))
            await stack.enter_async_context(run_in_background(self.connections.enforce_timeouts()))
            yield


def _create_limiter(name: str, rate: tuple[int, int]) -> RateLimiter | None:
    return RateLimiter(name, Rate(*rate)) if rate[0] else None  # 0: any number of requests
