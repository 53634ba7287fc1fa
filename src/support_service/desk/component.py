"""The component of the desk: the services of saved views, macros and service level policies."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web

from support_service.cases.clocks.component import CLOCK_TRACKER
from support_service.desk.macros import MacroService
from support_service.desk.policies import PolicyService
from support_service.desk.views import ViewLimits, ViewService
from support_service.platform.database.component import DATABASE

VIEW_SERVICE = web.AppKey("view_service", ViewService)
MACRO_SERVICE = web.AppKey("macro_service", MacroService)
POLICY_SERVICE = web.AppKey("policy_service", PolicyService)


@dataclass(frozen=True, slots=True)
class DeskLimits:
    """Limits of what agents work with beside cases."""

    views: ViewLimits = field(default_factory=ViewLimits)
    max_macros: int = 1000
    max_policies: int = 100


def setup(app: web.Application, limits: DeskLimits) -> None:
    """Add the services of saved views, macros and service level policies."""

    async def run(app: web.Application) -> AsyncIterator[None]:
        database = app[DATABASE]
        app[VIEW_SERVICE] = ViewService(database, limits.views)
        app[MACRO_SERVICE] = MacroService(database, most=limits.max_macros)
        app[POLICY_SERVICE] = PolicyService(database, app[CLOCK_TRACKER].policies, most=limits.max_policies)
        yield

    app.cleanup_ctx.append(run)
