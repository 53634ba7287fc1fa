"""The audit component: seals the entries of the audit log in the background."""

from collections.abc import AsyncIterator

from aiohttp import web

from support_service.platform.audit.log import Sealer, SealerTimings
from support_service.platform.background import run_every, run_in_background
from support_service.platform.database.component import DATABASE
from support_service.platform.telemetry.component import INSTRUMENTS

AUDIT_SEALER = web.AppKey("audit_sealer", Sealer)


def setup(app: web.Application, timings: SealerTimings) -> None:
    """Seal new entries in the background."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        sealer = Sealer(app[DATABASE], app[INSTRUMENTS], timings)
        app[AUDIT_SEALER] = sealer
        await sealer.refresh_gauges()
        async with run_in_background(run_every(timings.seal_interval, sealer.run, "Sealing the audit log")):
            yield

    app.cleanup_ctx.append(run)
