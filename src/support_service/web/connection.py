"""Requests that never reach a handler, because HTTP's own layer refuses them: answered, counted and logged here.

aiohttp would answer in plain text, count nothing, and log the offending line, which may hold a password or a body.
"""

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from support_service.telemetry.http import RequestMetrics
from support_service.telemetry.logs import REFUSED, REQUEST_ID
from support_service.web import keys
from support_service.web.errors import problem
from support_service.web.middleware import new_request_id

log = logging.getLogger(REFUSED)


class Connection(RequestHandler):
    """One client's connection, whose unreadable requests get a problem for an answer."""

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Refuse what can't be read; what else went wrong is aiohttp's to tell."""
        if status != 400 or request.writer.output_size > 0:  # noqa: PLR2004 - HTTP's own number
            return super().handle_error(request, status, exc, message)
        refuse: Refuse = self._manager.refuse  # type: ignore[union-attr]
        answer = refuse(400, "malformed_request", "The request can't be read as HTTP; nothing was done.", exc)
        answer.force_close()
        return answer


class Refuse:
    """Counts a refusal, logs its kind, and gives the answer."""

    def __init__(self, metrics: RequestMetrics) -> None:
        self._metrics = metrics

    def __call__(self, status: int, code: str, detail: str, cause: BaseException | None) -> web.Response:
        request_id = new_request_id()
        token = REQUEST_ID.set(request_id)
        self._metrics.refuse(status)
        log.info("A request was refused unread: %d, %s", status, type(cause).__name__, extra={"status": status})
        answer = problem(status, code, detail)
        answer.headers["X-Request-Id"] = request_id
        REQUEST_ID.reset(token)
        return answer


class Listener(web.Server):
    """Makes a Connection for each client, and answers expectations that aiohttp refuses before any middleware."""

    def __init__(self, made: web.Server, refuse: Refuse) -> None:
        super().__init__(
            self._handle,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=asyncio.get_running_loop(),
        )
        self.refuse = refuse
        self._inner: Any = made.request_handler
        self._options = made._kwargs  # noqa: SLF001 - aiohttp has no other way to make connections of a class of one's own

    def __call__(self) -> RequestHandler:
        # Bodies are taken as they are: of a refused one aiohttp unpacks the rest without a pause, and 1 MB may be 1 GB.
        return Connection(self, loop=asyncio.get_running_loop(), auto_decompress=False, **self._options)

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        try:
            return await self._inner(request)  # type: ignore[no-any-return]
        except web.HTTPExpectationFailed as refusal:
            return self.refuse(417, "expectation_failed", "Only 100-continue can be expected.", refusal)


class Runner(web.AppRunner):
    """Runs an app that counts its requests."""

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return Listener(made, Refuse(self.app[keys.REQUESTS])) if keys.REQUESTS in self.app else made
