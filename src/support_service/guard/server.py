"""The HTTP server of an application with connection limits, built on aiohttp's public classes."""

import asyncio
from contextlib import suppress
from typing import Any

from aiohttp import HttpVersion10, HttpVersion11, Payload, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from multidict import istr

from support_service.guard.connection import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_URL_BYTES,
    HttpConnection,
    check_head,
    refuse_before_middleware,
)
from support_service.guard.exchange import EXCHANGE, Exchange
from support_service.guard.guard import Guard
from support_service.platform.telemetry.http import UNMEASURED_PATHS

SLICE_BYTES = 256 * 1024  # as many as a block of a file
MAX_REST_BYTES = 64 * 1024  # bytes of a body that are read before its answer
CONNECTION_HEADER, FORWARDED_PROTO = istr("Connection"), istr("X-Forwarded-Proto")


class HttpServer(web.Server):
    """A server of an application's requests on `HttpConnection`s.

    It also answers requests at which aiohttp fails before any middleware.
    """

    def __init__(self, app: web.Application, guard: Guard, **options: Any) -> None:
        super().__init__(self._handle, request_factory=self._begin_request)
        self._guard = guard
        app.on_response_prepare.append(self._begin_answer)
        self._connection_options = options | {
            # aiohttp would decompress the rest of a refused body without a pause, and 1 MB may become 1 GB.
            "auto_decompress": False,
            "keepalive_timeout": guard.connections.timings.idle_timeout,
            "lingering_time": 0,  # `LingeringClose` does this
            "max_line_size": MAX_URL_BYTES,
            "max_field_size": MAX_HEADER_BYTES,
            "max_headers": MAX_HEADERS,
        }

    def __call__(self) -> HttpConnection:
        return HttpConnection(self, self._guard, loop=asyncio.get_running_loop(), **self._connection_options)

    def connect(self, app_server: web.Server) -> None:
        """Pass requests to the application that this server of aiohttp serves."""
        self._app_handler: Any = app_server.request_handler
        self._app_request_factory: Any = app_server.request_factory

    def _begin_request(
        self,
        message: Any,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        *context: Any,
    ) -> web.BaseRequest:
        assert isinstance(protocol, HttpConnection)  # noqa: S101 - `__call__` creates no other connection
        is_supported = message.version in (HttpVersion10, HttpVersion11)
        protocol.begin_request(payload, writer, is_chunked=message.chunked, is_version_supported=is_supported)
        if not is_supported:
            message = message._replace(version=HttpVersion10)  # a named tuple; the response has its version
        if message.chunked:
            # aiohttp 3.14.5 gives the last field of a trailer to the next request of the connection. So there is none.
            message = message._replace(should_close=True)
            protocol.linger_after_answer()  # the client may have sent another request already
        request: web.BaseRequest = self._app_request_factory(message, payload, protocol, writer, *context)
        scheme = "http"
        if FORWARDED_PROTO in request.headers:
            scheme = self._guard.proxies.scheme(request.remote, request.headers.getall(FORWARDED_PROTO))
        request[EXCHANGE] = Exchange(
            self._guard, request.method, request.headers, request.path not in UNMEASURED_PATHS, scheme
        )
        return request

    async def _begin_answer(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Set the headers of every response just before it is sent, and count its bytes."""
        connection, exchange = request.protocol, request[EXCHANGE]
        if not request.content.is_eof():
            await self._end_body(request, response)
        exchange.set_headers(response)
        if isinstance(connection, HttpConnection) and request.transport is not None:
            exchange.begin_answer(connection, response)
        if isinstance(response, web.Response) and isinstance(response.body, bytes) and len(response.body) > SLICE_BYTES:
            response.body = SlicedBody(response.body, response.content_type)

    async def _end_body(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Read the rest of the request's body if it is short, or let the response say that its connection closes.

        A client uses its connection again unless the response says so. A connection that is closed while the client
        still sends is reset, and the client may lose the response: see `LingeringClose`.
        """
        if response.keep_alive:
            with self._guard.readiness.count_unfinished_body():
                if await _read_short_rest(request, self._guard.connections.timings.rest_time):
                    return
        response.headers[CONNECTION_HEADER] = "close"  # aiohttp has set the header for a connection that stays open
        response.force_close()
        if isinstance(request.protocol, HttpConnection):
            request.protocol.linger_after_answer()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, HttpConnection)  # noqa: S101 - `__call__` creates no other connection
        if not connection.is_version_supported or not connection.is_head_bounded:
            refusal = check_head(request, is_version_supported=connection.is_version_supported)
            if refusal is not None:
                connection.linger_after_answer()
                return refusal
        if request.transport is None and not request.content.is_eof():
            # aiohttp tells it only to a request in progress; the others would wait for their body.
            request.content.set_exception(ConnectionResetError("The client has left."))
        try:
            return await self._app_handler(request)  # type: ignore[no-any-return]
        except ConnectionError:
            raise  # the client has left
        except Exception as failure:  # noqa: BLE001 - the middleware catches its own
            connection.linger_after_answer()
            return refuse_before_middleware(request, failure)


async def _read_short_rest(request: web.BaseRequest, seconds: float) -> bool:
    """Read and discard the rest of a body if it is short and arrives in time. Return whether the body has ended."""
    body, left = request.content, MAX_REST_BYTES
    length = request.content_length
    if (body.total_bytes if length is None else length - body.total_bytes) > left:
        return False
    with suppress(TimeoutError, ConnectionError, web.RequestPayloadError):  # the answer is the same
        async with asyncio.timeout(seconds):
            while left >= 0 and (chunk := await body.readany()):
                left -= len(chunk)
    return body.is_eof()


class GuardedRunner(web.ServerRunner):
    """Starts an application and serves it within the bounds of its guard. It takes the options of `web.AppRunner`."""

    def __init__(self, app: web.Application, guard: Guard, *, shutdown_timeout: float = 60.0, **options: Any) -> None:
        self._app_runner = web.AppRunner(app)
        self._http_server = HttpServer(app, guard, **options)
        self._readiness = guard.readiness
        super().__init__(self._http_server, shutdown_timeout=shutdown_timeout)

    async def setup(self) -> None:
        """Start the application with its service, then the server."""
        await self._app_runner.setup()
        assert self._app_runner.server is not None  # noqa: S101 - `setup` has created it
        self._http_server.connect(self._app_runner.server)
        await super().setup()

    async def shutdown(self) -> None:
        """End the streams; aiohttp calls this before it waits for the requests in progress."""
        self._readiness.close_streams()

    async def cleanup(self) -> None:
        """Close the server with its connections, then the application with its service."""
        try:
            await super().cleanup()
        finally:
            await self._app_runner.cleanup()


class SlicedBody(Payload):
    """A body of bytes: the transport keeps at most one slice, and what it takes before the writer has to wait.

    aiohttp copies a whole body behind the headers. The transport keeps that copy until the client has read its last
    byte, also if the kernel has taken most of it. Meanwhile the answer keeps the original.
    """

    _autoclose = True

    def __init__(self, body: bytes, content_type: str) -> None:
        super().__init__(body, content_type=content_type)
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        return str(self._value, encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body slice by slice, each as soon as the client has read most of the one before."""
        for start in range(0, len(self._value), SLICE_BYTES):
            await writer.write(self._value[start : start + SLICE_BYTES])
