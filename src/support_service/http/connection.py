"""A server connection with limits that aiohttp lacks, and problem responses and metrics for unreadable requests.

aiohttp waits indefinitely for the rest of a request head, and for a client that does not read its response. It answers
unreadable requests in plain text, does not count them, and logs the offending line, which may hold a password or body.
"""

import asyncio
import logging
from typing import Any, Literal, cast

from aiohttp import StreamReader, web
from aiohttp.http import HttpVersion10
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from aiohttp.web_request import BaseRequest

from support_service.http.admission import Admission
from support_service.http.connection_limits import ConnectionLimits, ConnectionLimitSettings
from support_service.http.instrumentation import new_request_id
from support_service.http.problems import problem_response
from support_service.telemetry.http import RequestMetrics
from support_service.telemetry.logs import CLIENT_ERROR_LOGGER, REQUEST_ID

MAX_URL_BYTES = 8190  # bytes of the request's URL
MAX_HEADER_BYTES = (
    8192  # bytes of one header; differs from MAX_LINE, because aiohttp reports only the bound that was exceeded
)
MAX_HEADERS = 100
TOO_MANY_HEADERS_MESSAGE = "Too many headers received"  # aiohttp's message; it has no exception class for this
MAX_HEADERS_BYTES = 32 * 1024  # bytes of all headers; a browser sends 2 KiB, a long token has 8 KiB
LINGERING_TIME = 2.0  # seconds of reading and discarding the rest of a body, so that the client sees its response

log = logging.getLogger(CLIENT_ERROR_LOGGER)


class HeadTooLarge(Exception):
    """The headers of a request exceed MAX_HEAD in total, even if each is within MAX_FIELD."""


class HttpConnection(RequestHandler):
    """A server connection that tracks since when it has been waiting for its client, and for what."""

    __slots__ = ("_body", "_client_transport", "_head_bytes", "_head_since", "_limits", "_unread", "_unread_since")

    def __init__(self, manager: "web.Server", limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(manager, **options)
        self._limits = limits
        # aiohttp clears its own reference to the transport when it begins to close.
        self._client_transport: asyncio.Transport | None = None
        self._body: StreamReader = EMPTY_PAYLOAD  # body of the last request
        self._head_since = 0.0  # when the incomplete head began; 0 if there is none
        self._head_bytes = 0
        self._unread = 0  # bytes that the client had not read at the last check
        self._unread_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve the client, or abort the connection if a connection limit is reached."""
        client_transport = cast(asyncio.Transport, transport)
        peer = client_transport.get_extra_info("peername")
        now = self._loop.time()
        if not self._limits.enter(self, peer[0] if isinstance(peer, tuple) else None, now):
            client_transport.abort()
            return
        self._client_transport = client_transport
        self._head_since = now
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Release the connection's place in the connection limits."""
        self._limits.leave(self)
        super().connection_lost(exc)
        self._client_transport = None

    def data_received(self, data: bytes) -> None:
        """Parse received data, refuse a head that is too large, and note when an incomplete head began."""
        requests, in_body = self._request_count, not self._body.is_eof()
        super().data_received(data)
        if self._request_count != requests:
            if self._messages:
                self._refuse_invalid_heads(may_be_large=self._head_bytes + len(data) > MAX_HEADERS_BYTES)
                self._body = self._messages[-1][1]
            self._head_since, self._head_bytes = 0.0, 0
        elif data and not in_body and not self._messages:
            self._head_since = self._head_since or self._loop.time()
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEADERS_BYTES and not self._close:
                self._refuse_large_head()

    def idle_since(self) -> float | None:
        """Return the loop time at which the connection became idle, or None while a request is in progress."""
        if self._waiter is None or self._waiter.done():
            return None
        return self._next_keepalive_close_time - self._keepalive_timeout

    def unread(self) -> int:
        """Return the response bytes that the client has not read yet, excluding those in the kernel's buffers."""
        return self._client_transport.get_write_buffer_size() if self._client_transport is not None else 0

    def overdue(self, now: float, bounds: ConnectionLimitSettings) -> Literal["head", "unread"] | None:
        """Return what the client has delayed for too long: the rest of a head, or reading its response; else None."""
        if self._client_transport is None:
            return None
        unread = self.unread()
        if unread != self._unread:
            self._unread, self._unread_since = unread, now
        elif unread and now - self._unread_since > bounds.send_timeout:
            return "unread"
        if self._head_since:
            idle = self.idle_since()
            if idle is not None and now - max(idle, self._head_since) > bounds.header_timeout:
                return "head"
        return None

    def cut(self) -> None:
        """Close the connection immediately, even if the client has not read its response."""
        self.force_close()
        if self._client_transport is not None:
            self._client_transport.abort()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer an unreadable request with a problem response; leave other errors to aiohttp."""
        if status != 400 or request.writer.output_size > 0:  # noqa: PLR2004 - HTTP's own number
            return super().handle_error(request, status, exc, message)
        refuse: UnreadableRequestResponder = self._manager.refuse  # type: ignore[union-attr]
        if isinstance(exc, LineTooLong) and exc.args[1] == MAX_URL_BYTES:
            response = refuse(414, "uri_too_long", f"The address may have at most {MAX_URL_BYTES} bytes.", exc)
        elif isinstance(exc, (LineTooLong, HeadTooLarge)) or str(exc).endswith(TOO_MANY_HEADERS_MESSAGE):
            bounds = f"{MAX_HEADERS} headers, {MAX_HEADER_BYTES} bytes in each, {MAX_HEADERS_BYTES} bytes in all"
            response = refuse(431, "headers_too_large", f"A request may have at most {bounds}.", exc)
        else:
            response = refuse(400, "malformed_request", "The request can't be read as HTTP; nothing was done.", exc)
        refuse.gate.set_headers(request, response)  # aiohttp does this only for requests with a route
        response.force_close()
        return response

    def _refuse_invalid_heads(self, *, may_be_large: bool) -> None:
        """Replace each request whose head is too large, or whose HTTP version is below 1.0, by an error."""
        for number, (message, _) in enumerate(self._messages):
            if isinstance(message, _ErrInfo):
                continue
            if message.version < HttpVersion10:
                self._messages[number] = (_ErrInfo(400, BadHttpMessage("too old"), ""), EMPTY_PAYLOAD)
            elif may_be_large and _headers_size(message.raw_headers) > MAX_HEADERS_BYTES:
                self._messages[number] = (_ErrInfo(400, HeadTooLarge(), ""), EMPTY_PAYLOAD)

    def _refuse_large_head(self) -> None:
        """Refuse an incomplete head that is already too large, and stop reading."""
        self._messages.append((_ErrInfo(400, HeadTooLarge(), ""), EMPTY_PAYLOAD))
        self._close = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class UnreadableRequestResponder:
    """Factory for the response to a request that is refused unread. Counts the refusal and logs its kind."""

    def __init__(self, metrics: RequestMetrics, gate: Admission) -> None:
        self._metrics = metrics
        self.gate = gate

    def __call__(self, status: int, code: str, detail: str, cause: BaseException | None) -> web.Response:
        request_id = new_request_id()
        token = REQUEST_ID.set(request_id)
        self._metrics.refuse(status)
        log.info("A request was refused unread: %d, %s", status, type(cause).__name__, extra={"status": status})
        response = problem_response(status, code, detail)
        response.headers["X-Request-Id"] = request_id
        REQUEST_ID.reset(token)
        return response


def _headers_size(headers: tuple[tuple[bytes, bytes], ...]) -> int:
    return sum(len(name) + len(value) + len(": \r\n") for name, value in headers)
