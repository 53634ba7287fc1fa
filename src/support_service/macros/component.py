"""The macros component: the macro service."""

from collections.abc import AsyncIterator

from aiohttp import web

from support_service.database.component import DATABASE
from support_service.macros.service import MacroService

MACRO_SERVICE = web.AppKey("macro_service", MacroService)


def setup(app: web.Application) -> None:
    """Add the macro service."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        app[MACRO_SERVICE] = MacroService(app[DATABASE])
        yield

    app.cleanup_ctx.append(run)
