"""An endpoint that receives webhooks, and deliveries to it that are stored past the service."""

import json

import pytest
import sqlalchemy as sa
from aiohttp import web
from aiohttp.test_utils import TestServer

from support_service.platform.database.tables import webhook_deliveries
from tests.support.calls import eventually
from tests.support.service import service_of

SECRET = "whsec_" + "c2VjcmV0" * 4


async def store_deliveries(client, *rows, event='{"secret": 1}'):
    """Store deliveries to an endpoint; each row is (state, due). Return their ids."""
    database = service_of(client).database
    before = await database.fetch_all(sa.select(webhook_deliveries.c.seq))
    async with database.transaction() as tx:
        for state, due in rows:
            row = {"endpoint": "desk", "type": "t", "event": event, "state": state, "tries": 9}
            row |= {"since": due, "due": due, "reason": "why"}
            await tx.execute(webhook_deliveries.insert(), row)
    found = await database.fetch_all(sa.select(webhook_deliveries.c.seq).order_by(webhook_deliveries.c.seq))
    return [row.seq for row in found][len(before) :]


class Endpoint:
    """An endpoint that keeps what it is sent, and answers as it is told."""

    def __init__(self):
        self.sent = []
        self.status = 204
        self.headers = {}
        self.interim_answers = 0
        app = web.Application()
        app.router.add_post("/hook", self._take)
        self.server = TestServer(app)

    async def _take(self, request):
        self.sent.append((dict(request.headers), await request.read()))
        request.transport.write(self.interim_answers * b"HTTP/1.1 102 Processing\r\n\r\n")
        return web.Response(status=self.status, headers=self.headers)

    async def got(self, number):
        await eventually(lambda: len(self.sent) >= number)
        return [json.loads(body) for _, body in self.sent]


@pytest.fixture
async def endpoint():
    endpoint = Endpoint()
    await endpoint.server.start_server()
    yield endpoint
    await endpoint.server.close()
