"""Agents: how much each has to do."""

from aiohttp import web

from support_service.cases.component import CASES
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.http.json_body import json_response


async def workload(request: web.Request) -> web.Response:
    """Count an agent's cases by status.

    An agent whom nobody knows has none.
    """
    return json_response(await request.app[CASES].workload(CURRENT_PRINCIPAL.get(), request.match_info["agent_id"]))
