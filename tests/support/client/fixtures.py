"""Clients of the service that do not wait between attempts."""

import pytest
from aiohttp import web

from support_service.client import ClientTimings, SupportClient
from support_service.core.clock import Backoff
from tests.support.calls import GENEROUS_TIMEOUT

QUICK = ClientTimings(attempt=GENEROUS_TIMEOUT, deadline=2 * GENEROUS_TIMEOUT, backoff=Backoff(0.001, 0.01))


@pytest.fixture
async def answering(aiohttp_server):
    """Serve every request with one async function; gives the client of that server."""
    clients = []

    async def serve(handler, **options):
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", handler)
        server = await aiohttp_server(app)
        clients.append(SupportClient(str(server.make_url("/")), **{"timings": QUICK} | options))
        return clients[-1]

    yield serve
    for each in clients:
        await each.close()
