"""The component of the desk: the services of saved views and of macros."""

from collections.abc import AsyncIterator

from aiohttp import web

from support_service.desk.macros import MacroService
from support_service.desk.views import ViewLimits, ViewService
from support_service.platform.database.component import DATABASE

VIEW_SERVICE = web.AppKey("view_service", ViewService)
MACRO_SERVICE = web.AppKey("macro_service", MacroService)


def setup(app: web.Application, view_limits: ViewLimits) -> None:
    """Add the services of saved views and of macros."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        app[VIEW_SERVICE] = ViewService(app[DATABASE], view_limits)
        app[MACRO_SERVICE] = MacroService(app[DATABASE])
        yield

    app.cleanup_ctx.append(run)
