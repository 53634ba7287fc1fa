"""The database component."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from aiohttp import web

from support_service.platform.background import run_every, run_in_background
from support_service.platform.database import Database, connect
from support_service.platform.database.clock import ClockOffset
from support_service.platform.database.timings import DatabaseTimings
from support_service.platform.settings.resources import DatabaseSettings
from support_service.platform.telemetry.component import CONNECTION_POOLS, INSTRUMENTS, operation_metrics
from support_service.platform.telemetry.instruments.process import CLOCK_OFFSET
from support_service.platform.telemetry.instruments.stores import DATABASE_OPERATIONS

DATABASE = web.AppKey("database", Database)


def setup(app: web.Application, settings: DatabaseSettings, timings: DatabaseTimings) -> None:
    """Add the database. Startup raises Unavailable if it can't be used."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        system = settings.url.partition(":")[0]
        database = app[DATABASE] = connect(
            settings.url,
            synchronous=settings.synchronous,
            pool_size=settings.pool_size,
            measure=operation_metrics(app, system, DATABASE_OPERATIONS).record,
            timings=timings,
        )
        await database.open()
        app[CONNECTION_POOLS]["database"] = database.connections
        offset = ClockOffset(database)
        if system == "sqlite":
            offset.seconds = 0.0
        app[INSTRUMENTS].observe(CLOCK_OFFSET, lambda: [] if offset.seconds is None else [(offset.seconds, {})])
        async with AsyncExitStack() as stack:
            if system != "sqlite":
                await offset.refresh()
                reading = run_every(timings.clock_interval, offset.refresh, "Reading the clock of the database")
                await stack.enter_async_context(run_in_background(reading))
            yield
        await database.close()

    app.cleanup_ctx.append(run)
