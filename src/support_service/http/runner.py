"""The HTTP server, with a Connection for each client and the connection limits of its application."""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from support_service.http.admission import GATE
from support_service.http.connection import LINGER, MAX_FIELD, MAX_FIELDS, MAX_LINE, Connection, Refuse
from support_service.http.connection_limits import CROWD, Crowd
from support_service.http.instrumentation import REQUESTS


class Listener(web.Server):
    """A server of Connections that also answers the Expect headers which aiohttp rejects before any middleware."""

    def __init__(self, server: web.Server, refuse: Refuse, limits: Crowd) -> None:
        super().__init__(
            self._handle,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            loop=asyncio.get_running_loop(),
        )
        self.refuse = refuse
        self._limits = limits
        self._inner_handler: Any = server.request_handler
        self._connection_options = server._kwargs | {  # noqa: SLF001 - the only way to use a custom connection class
            # aiohttp would decompress the rest of a refused body without a pause, and 1 MB may become 1 GB.
            "auto_decompress": False,
            "keepalive_timeout": limits.bounds.idle_timeout,
            "lingering_time": LINGER,
            "max_line_size": MAX_LINE,
            "max_field_size": MAX_FIELD,
            "max_headers": MAX_FIELDS,
        }

    def __call__(self) -> RequestHandler:
        return Connection(self, self._limits, loop=asyncio.get_running_loop(), **self._connection_options)

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        try:
            return await self._inner_handler(request)  # type: ignore[no-any-return]
        except web.HTTPExpectationFailed as refusal:
            return self.refuse(417, "expectation_failed", "Only 100-continue can be expected.", refusal)


class Runner(web.AppRunner):
    """A runner that applies connection limits and metrics; an application without a Gate gets aiohttp's own server."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        if GATE not in self.app:
            return server
        return Listener(server, Refuse(self.app[REQUESTS], self.app[GATE]), self.app[CROWD])
