"""The database component."""

from collections.abc import AsyncIterator

from aiohttp import web

from support_service.database import Database, connect
from support_service.database.timings import DatabaseTimings
from support_service.settings.resources import DatabaseSettings
from support_service.telemetry.component import CONNECTION_POOLS, INSTRUMENTS
from support_service.telemetry.instruments.stores import DATABASE_OPERATIONS
from support_service.telemetry.stores import OperationMetrics

DATABASE = web.AppKey("database", Database)


def setup(app: web.Application, settings: DatabaseSettings, timings: DatabaseTimings) -> None:
    """Add the database. Startup raises Unavailable if it can't be used."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        system = settings.url.partition(":")[0]
        database = app[DATABASE] = connect(
            settings.url,
            synchronous=settings.synchronous,
            pool_size=settings.pool_size,
            measure=OperationMetrics(app[INSTRUMENTS].db_operation, system, DATABASE_OPERATIONS).record,
            timings=timings,
        )
        await database.open()
        app[CONNECTION_POOLS]["database"] = database.connections
        yield
        await database.close()

    app.cleanup_ctx.append(run)
