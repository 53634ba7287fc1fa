"""Agents: how much each has to do."""

from aiohttp import web

from support_service.web import keys
from support_service.web.wire import reply


async def workload(request: web.Request) -> web.Response:
    """Count an agent's cases by status.

    An agent whom nobody knows has none.
    """
    return reply(await request.app[keys.SUPPORT].workload(request.match_info["agent_id"]))
