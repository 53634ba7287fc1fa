"""The idempotency component: claims on idempotency keys, and the deletion of expired keys."""

from collections.abc import AsyncIterator

from aiohttp import web

from support_service.platform.background import run_every, run_in_background
from support_service.platform.database.component import DATABASE
from support_service.platform.idempotency.claims import IdempotencyService, IdempotencyTimings

IDEMPOTENCY_SERVICE = web.AppKey("idempotency_service", IdempotencyService)


def setup(app: web.Application, timings: IdempotencyTimings) -> None:
    """Add the claims, and delete expired keys in the background."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        claims = app[IDEMPOTENCY_SERVICE] = IdempotencyService(app[DATABASE], timings)
        cleanup = run_every(timings.cleanup_interval, claims.delete_expired, "Deleting old idempotency keys")
        async with run_in_background(cleanup):
            yield

    app.cleanup_ctx.append(run)
