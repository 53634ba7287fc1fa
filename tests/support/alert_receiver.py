"""A receiver in place of Slack, the pager, the dead man's switch and a webhook; it keeps every notification."""

import asyncio
import itertools
import re
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

TITLE = re.compile(r"\[(FIRING|RESOLVED)[^\]]*\] (\w+) ")


@dataclass(frozen=True, slots=True)
class Post:
    at: float  # on the loop's clock
    channel: str
    firing: bool
    alert: str
    runbook: str
    text: str


class Receiver:
    """Listens at the addresses of Slack, the pager, the dead man's switch and a webhook."""

    def __init__(self) -> None:
        self.slack: list[Post] = []
        self.paged: list[str] = []  # alerts that the pager received
        self.beats = 0  # notifications of the watchdog
        app = web.Application()
        app.router.add_post("/slack", self._slack)
        app.router.add_post("/pager", self._pager)
        app.router.add_post("/watchdog", self._watchdog)
        app.router.add_post("/webhook", self._webhook)
        self.webhook_statuses = itertools.cycle((204,))  # of the following answers
        self.webhook_delay = 0.0  # seconds before each
        self._server = TestServer(app)

    async def open(self) -> None:
        await self._server.start_server()

    async def close(self) -> None:
        await self._server.close()

    def forget(self) -> None:
        self.slack.clear()
        self.paged.clear()
        self.beats = 0

    def url(self, path: str) -> str:
        """Return the URL of one of the addresses: /slack, /pager, /watchdog or /webhook."""
        return str(self._server.make_url(path))

    async def _slack(self, request: web.Request) -> web.Response:
        payload: dict[str, Any] = await request.json()
        (attachment,) = payload["attachments"]
        status, alert = TITLE.match(attachment["title"]).groups()
        now = asyncio.get_running_loop().time()
        link, text = attachment["title_link"], attachment["text"]
        self.slack.append(Post(now, payload["channel"], status == "FIRING", alert, link, text))
        return web.Response(text="ok")

    async def _pager(self, request: web.Request) -> web.Response:
        payload = await request.json()
        if payload["status"] == "firing":
            self.paged.append(payload["commonLabels"]["alertname"])
        return web.Response()

    async def _webhook(self, _: web.Request) -> web.Response:
        await asyncio.sleep(self.webhook_delay)
        return web.Response(status=next(self.webhook_statuses))

    async def _watchdog(self, _: web.Request) -> web.Response:
        self.beats += 1
        return web.Response()
