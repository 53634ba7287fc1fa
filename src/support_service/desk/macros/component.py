"""The macros component: the macro service."""

from collections.abc import AsyncIterator

from aiohttp import web

from support_service.desk.macros.service import MacroService
from support_service.platform.database.component import DATABASE

MACRO_SERVICE = web.AppKey("macro_service", MacroService)


def setup(app: web.Application) -> None:
    """Add the macro service."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        app[MACRO_SERVICE] = MacroService(app[DATABASE])
        yield

    app.cleanup_ctx.append(run)
