"""The component of saved views: their service."""

from collections.abc import AsyncIterator

from aiohttp import web

from support_service.desk.views.service import ViewLimits, ViewService
from support_service.platform.database.component import DATABASE

VIEW_SERVICE = web.AppKey("view_service", ViewService)


def setup(app: web.Application, limits: ViewLimits) -> None:
    """Add the service of saved views."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        app[VIEW_SERVICE] = ViewService(app[DATABASE], limits)
        yield

    app.cleanup_ctx.append(run)
