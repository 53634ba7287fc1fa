"""The HTTP server, with a Connection for each client and the connection limits of its application."""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from support_service.http.component import ADMISSION, CONNECTION_LIMITS
from support_service.http.connection import (
    LINGERING_TIME,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_URL_BYTES,
    HttpConnection,
    UnreadableRequestResponder,
)
from support_service.http.connection_limits import ConnectionLimits
from support_service.telemetry.component import REQUEST_METRICS


class HttpServer(web.Server):
    """A server of Connections that also answers the Expect headers which aiohttp rejects before any middleware."""

    def __init__(self, server: web.Server, refuse: UnreadableRequestResponder, limits: ConnectionLimits) -> None:
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
            "lingering_time": LINGERING_TIME,
            "max_line_size": MAX_URL_BYTES,
            "max_field_size": MAX_HEADER_BYTES,
            "max_headers": MAX_HEADERS,
        }

    def __call__(self) -> RequestHandler:
        return HttpConnection(self, self._limits, loop=asyncio.get_running_loop(), **self._connection_options)

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        try:
            return await self._inner_handler(request)  # type: ignore[no-any-return]
        except web.HTTPExpectationFailed as refusal:
            return self.refuse(417, "expectation_failed", "Only 100-continue can be expected.", refusal)


class Runner(web.AppRunner):
    """Apply connection limits and metrics; an application without admission runs on aiohttp's server."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        if ADMISSION not in self.app:
            return server
        return HttpServer(
            server,
            UnreadableRequestResponder(self.app[REQUEST_METRICS], self.app[ADMISSION]),
            self.app[CONNECTION_LIMITS],
        )
