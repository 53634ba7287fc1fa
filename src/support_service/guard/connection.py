"""A server connection with limits that aiohttp lacks, and the refusal of requests that it cannot read.

- aiohttp waits indefinitely for the rest of a request head, and for a client that does not read its response.
- aiohttp notices a malformed chunk, but does not tell the handler that waits for the rest of the body.
- aiohttp answers an unreadable request in plain text, does not count it, and logs the offending line, which may hold a
  password or body.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import LineTooLong
from multidict import istr

from support_service.core.errors import RateLimited
from support_service.guard.addresses import FORWARDED_FOR, rate_limit_address
from support_service.guard.connection_limits import ConnectionTimings, DelayReason
from support_service.guard.exchange import EXCHANGE, new_request_id
from support_service.guard.guard import Guard
from support_service.guard.problems import problem_response
from support_service.platform.telemetry.logs import CLIENT_ERROR_LOGGER, LOG_REQUEST_ID

HEAD_END = b"\r\n\r\n"
INVALID_INPUT = b"\0" + HEAD_END  # invalid in every part of a head
MAX_LINE_BYTES = 8192  # bytes of the line with the size of a chunk, or of a trailer
CHUNK_SIZE_LINE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\x00\r\n]*)?\r\n")
CHUNK_SIZE_LINE_BEGINNING = re.compile(rb"(?:[0-9a-fA-F]{1,16}[ \t]*(?:;[^\x00\r\n]*)?\r?)?")
CHUNK_END = b"\r\n"
TRAILER_BEGINNING = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?::[\t\x20-\x7e\x80-\xff]*(?:\r\n?)?)?|\r\n?")
FRAMING_TRAILER = re.compile(rb"(?:content-length|transfer-encoding):", re.IGNORECASE)  # aiohttp refuses it
MAX_TRAILERS_BYTES = 32 * 1024

MAX_URL_BYTES = 8190  # bytes of the request's URL
# Bytes of one header. It differs from MAX_URL_BYTES, because aiohttp reports only the limit that was exceeded.
MAX_HEADER_BYTES = 8192
MAX_HEADERS = 100
MAX_HEAD_BYTES = 32 * 1024  # bytes of all headers; a browser sends 2 KiB, a long token has 8 KiB
EXPECT, CONTINUE = istr("Expect"), "100-continue"
TOO_MANY_HEADERS_MESSAGE = "Too many headers received"  # aiohttp's message; it has no exception class for this

log = logging.getLogger(CLIENT_ERROR_LOGGER)


class HttpConnection(web.RequestHandler):
    """A server connection that tracks since when it has been waiting for its client, and for what.

    It uses only public methods of aiohttp. Therefore a head that arrives while another request is in progress is not
    measured, and its time counts from the next data that arrives. The idle timeout still applies to it.
    """

    __slots__ = (
        "_answer_writer",
        "_body",
        "_body_beginning",
        "_client_transport",
        "_framing",
        "_guard",
        "_head_bytes",
        "_head_end",
        "_head_since",
        "_head_too_large",
        "_idle_since",
        "_lingers",
        "_lost_callback",
        "_rate_since",
        "_taken_before",
        "_unread",
        "_unread_since",
        "_written",
        "is_head_bounded",
        "is_version_supported",
    )

    def __init__(self, server: web.Server, guard: Guard, **options: Any) -> None:
        super().__init__(server, **options)
        self._guard = guard
        self._lost_callback: Callable[[], None] | None = None
        self._lingers = False  # the client may still send when it gets the answer in progress, the last one
        # aiohttp clears its own reference to the transport when it begins to close.
        self._client_transport: asyncio.Transport | None = None
        self._idle_since: float | None = None  # None while a request is in progress
        self._body: StreamReader = EMPTY_PAYLOAD  # body of the last request
        self._head_since = 0.0  # when the incomplete head began; 0 if there is none
        self._head_bytes = 0  # bytes of the incomplete head
        self._head_end: bytes | None = b""  # its last bytes, or None once it is complete
        self._head_too_large = False
        self._body_beginning: bytes | None = None  # what arrived behind a measured head before its request began
        self._framing: ChunkedFraming | None = None  # of the body, if it is chunked and its head was measured
        self.is_version_supported = True  # the request in progress is HTTP/1.0 or HTTP/1.1
        self.is_head_bounded = False  # its head has at most MAX_HEAD_BYTES for certain
        self._unread = 0  # bytes that the client had not read at the last check
        self._unread_since = 0.0
        self._answer_writer: AbstractStreamWriter | None = None  # of the answer in progress
        self._written = 0  # bytes of the answers before it
        self._taken_before = 0  # bytes that the client had taken when the measured time began
        self._rate_since = 0.0  # when the measured time began

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve the client, or abort the connection if a connection limit is reached."""
        client_transport = cast(asyncio.Transport, transport)
        peer = client_transport.get_extra_info("peername")
        now = asyncio.get_running_loop().time()
        if not self._guard.connections.add(self, peer[0] if isinstance(peer, tuple) else None, now):
            client_transport.abort()
            return
        self._client_transport = client_transport
        self._idle_since = self._head_since = self._rate_since = now
        super().connection_made(transport)

    def connection_lost(self, _: BaseException | None) -> None:
        """Release the connection's place in the connection limits, and end the request in progress.

        aiohttp would raise the error in a task that waits for the client to read. A frame in its traceback refers to
        the future that holds the error, so the whole answer would stay in memory until a garbage collection. Without an
        error the wait just ends; a write after it raises ConnectionError.
        """
        self._guard.connections.remove(self)
        self._guard.unread_answers.remove(self)
        super().connection_lost(None)
        self._client_transport = self._answer_writer = None
        self._body = EMPTY_PAYLOAD  # the body refers to the connection
        if self._lost_callback is not None:
            self._lost_callback()
            self._lost_callback = None

    def begin_stream(self, lost: Callable[[], None], buffer_bytes: int) -> None:
        """Prepare for an answer that is written for as long as its client stays; `lost` is called when it has left.

        A writer has to wait while its client leaves more than `buffer_bytes` unread.
        """
        self._lost_callback = lost
        if self._client_transport is not None:
            self._client_transport.set_write_buffer_limits(high=buffer_bytes)
        else:
            lost()

    def data_received(self, data: bytes) -> None:
        """Parse received data, note when a head began, and refuse a head that is too large before it is complete."""
        if data and self._body.is_eof() and not self._head_too_large:
            self._head_since = self._head_since or asyncio.get_running_loop().time()
            if self._idle_since is not None and self._head_end is not None:
                self._measure_head(data, self._head_end)
                if self._head_end is not None and self._head_bytes > MAX_HEAD_BYTES:
                    self._head_too_large = True
                    super().data_received(INVALID_INPUT)  # aiohttp answers with `handle_error`
                    self.close()
                    return
            elif self._body_beginning is not None:
                self._body_beginning += data
        super().data_received(data)
        if self._framing is not None:
            self._check_framing(self._framing, data)

    def begin_request(
        self, body: StreamReader, writer: AbstractStreamWriter, *, is_chunked: bool, is_version_supported: bool
    ) -> None:
        """Note that the head of a request is complete; the server calls this before its handler."""
        self._body = body
        self._answer_writer = writer
        beginning, self._body_beginning = self._body_beginning, None
        self._framing = None
        if is_chunked and beginning is not None:
            self._framing = ChunkedFraming()
            self._check_framing(self._framing, beginning)
        self.is_version_supported = is_version_supported
        self.is_head_bounded = self._head_end is None and self._head_bytes <= MAX_HEAD_BYTES
        self._idle_since = None
        self._head_since, self._head_bytes, self._head_end = 0.0, 0, b""

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """Note that a response was sent, and free its body; aiohttp calls this at the end of each request.

        aiohttp keeps the last response of an idle connection until the next request.
        """
        super().log_access(request, response, time)
        if isinstance(response, web.Response):
            response.body = None
        self._written += request.writer.output_size
        self._answer_writer = None
        if not self._guard.unread_answers.is_read(self):
            self._guard.unread_answers.end(self, request[EXCHANGE].callers)
        self._idle_since = asyncio.get_running_loop().time()
        if self._lingers and self._client_transport is not None and not self._client_transport.is_closing():
            self._body, self._head_since = EMPTY_PAYLOAD, 0.0  # the connection waits for nothing any more
            self.transport = None  # aiohttp would close it now
            LingeringClose(self, self._client_transport, self._guard)

    def linger_after_answer(self) -> None:
        """Close the connection after the answer in progress, once the client has had the time to read it."""
        self._lingers = True

    def force_close(self) -> None:
        """Close the connection, also one that aiohttp has given up because its client still sends."""
        super().force_close()
        if self._lingers and self._client_transport is not None:
            self._client_transport.close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer an unreadable request with a problem response; leave other errors to aiohttp."""
        if status != 400 or request.writer.output_size > 0:  # noqa: PLR2004 - HTTP's own number
            return super().handle_error(request, status, exc, message)
        self.linger_after_answer()
        return refuse_unreadable(request, exc, head_too_large=self._head_too_large)

    def idle_since(self) -> float | None:
        """Return the loop time at which the connection became idle, or None while a request is in progress."""
        return self._idle_since if self._body.is_eof() else None

    def unread_bytes(self) -> int:
        """Return the response bytes that the client has not read yet, without bytes in the kernel's buffers."""
        return self._client_transport.get_write_buffer_size() if self._client_transport is not None else 0

    def exceeded_timeout(self, now: float, timings: ConnectionTimings) -> DelayReason | None:
        """Return what the client has delayed for too long: the rest of a head, or reading its response; else None."""
        if self._client_transport is None:
            return None
        unread = self.unread_bytes()
        if unread != self._unread:
            self._unread, self._unread_since = unread, now
        elif unread and now - self._unread_since > timings.send_timeout:
            return "unread"
        if self._is_slow(unread, now, timings):
            return "slow"
        if self._head_since:
            idle = self.idle_since()
            if idle is not None and now - max(idle, self._head_since) > timings.head_timeout:
                return "head"
        return None

    def abort(self) -> None:
        """Close the connection immediately, even if the client has not read its response."""
        self.force_close()
        if self._client_transport is not None:
            self._client_transport.abort()

    def _check_framing(self, framing: "ChunkedFraming", data: bytes) -> None:
        """End the body with an error if it is malformed, so that its reader does not wait for the rest."""
        if not self._body.is_eof() and not framing.feed(data):
            self._framing = None
            self._body.set_exception(web.RequestPayloadError("a chunk is malformed"))

    def _is_slow(self, unread: int, now: float, timings: ConnectionTimings) -> bool:
        """Return True if the client has read its responses below the minimum rate for the whole of the send timeout."""
        written = self._written + (self._answer_writer.output_size if self._answer_writer is not None else 0)
        taken, elapsed = written - unread, now - self._rate_since
        is_slow = elapsed > timings.send_timeout and taken - self._taken_before < timings.send_rate * elapsed
        if not unread or elapsed > timings.send_timeout:
            self._taken_before, self._rate_since = taken, now
        return bool(unread) and is_slow

    def _measure_head(self, data: bytes, last: bytes) -> None:
        """Count the bytes of the incomplete head; stop at its end, which may arrive in several parts."""
        if not self._head_bytes:
            data = data.lstrip(b"\r\n")  # a client may send empty lines before a request
        if HEAD_END in last + data[: len(HEAD_END)] or HEAD_END in data:
            # An upper bound, because the body may begin in the same data. `check_head` measures a head that it allows.
            self._head_bytes, self._head_end = self._head_bytes + len(data), None
            self._body_beginning = (last + data).partition(HEAD_END)[2]
        else:
            self._head_bytes += len(data)
            self._head_end = (last + data[-len(HEAD_END) :])[-len(HEAD_END) + 1 :]


class LingeringClose(asyncio.Protocol):
    """The end of a connection: it discards what arrives until the client has read the last answer, and left."""

    def __init__(self, connection: asyncio.Protocol, transport: asyncio.Transport, guard: Guard) -> None:
        """Take a connection over, and tell its client that the last answer is complete."""
        timings = guard.connections.timings
        self._connection = connection
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._left = timings.lingering_bytes
        self._pause = timings.lingering_pause
        self._received_at = self._loop.time()
        self._until = self._received_at + timings.lingering_time
        transport.set_protocol(self)
        transport.resume_reading()  # aiohttp may have paused it because nobody read the body
        with suppress(OSError):  # the client has reset the connection; `connection_lost` follows
            transport.write_eof()
        self._task = self._loop.create_task(self._wait(guard))

    def data_received(self, data: bytes) -> None:
        """Discard data. Too much of it ends the connection."""
        self._received_at = self._loop.time()
        self._left -= len(data)
        if self._left < 0:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting, and tell the connection."""
        self._lost.set_result(None)
        self._connection.connection_lost(exc)

    async def _wait(self, guard: Guard) -> None:
        """Close the connection when its client has left, has sent nothing for a while, or has sent for too long."""
        with guard.readiness.count_unfinished_body():
            while not self._lost.done():
                left = min(self._received_at + self._pause, self._until) - self._loop.time()
                if left <= 0:
                    break
                await asyncio.wait((self._lost,), timeout=left)
        self._transport.close()


class ChunkedFraming:
    """The position in a chunked body, checked as it arrives: in a size, in data, in the trailers, or behind them."""

    def __init__(self) -> None:
        self._line = b""  # the incomplete line
        self._left = 0  # bytes of data that are left in the chunk
        self._in_chunk = False  # the end of the chunk has not arrived
        self._in_trailers = False  # the last chunk has arrived
        self._trailers_left = MAX_TRAILERS_BYTES
        self._is_complete = False

    def feed(self, data: bytes) -> bool:
        """Return False if the body is malformed up to the end of `data`. Do not call it again after that."""
        at = 0
        while at < len(data) and not self._is_complete:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at) + 1 or len(data)
            self._line += data[at:end]
            at = end
            if not self._read_line():
                return False
        return True

    def _read_line(self) -> bool:
        """Interpret the line, which may be incomplete. Return False if it is invalid."""
        line = self._line
        if self._in_trailers:
            return self._read_trailer(line)
        if self._in_chunk:
            if line == CHUNK_END:
                self._line, self._in_chunk = b"", False
            return CHUNK_END.startswith(line)
        found = CHUNK_SIZE_LINE.fullmatch(line)
        if found is None:
            return len(line) <= MAX_LINE_BYTES and CHUNK_SIZE_LINE_BEGINNING.fullmatch(line) is not None
        self._left = int(found[1], 16)
        self._line, self._in_trailers, self._in_chunk = b"", not self._left, True
        return True

    def _read_trailer(self, line: bytes) -> bool:
        """Interpret a line behind the last chunk: a header, or the empty line at the end."""
        if len(line) > min(MAX_LINE_BYTES, self._trailers_left) or TRAILER_BEGINNING.fullmatch(line) is None:
            return False
        if FRAMING_TRAILER.match(line):
            return False
        if line.endswith(b"\n"):
            self._line, self._trailers_left = b"", self._trailers_left - len(line)
            self._is_complete = line == CHUNK_END
        return True


def check_head(request: web.BaseRequest, *, is_version_supported: bool) -> web.Response | None:
    """Return the refusal of a head that aiohttp accepts but has another version or is too large, else None."""
    if not is_version_supported:
        return refuse(
            request, "version_not_supported", "The request is neither HTTP/1.0 nor HTTP/1.1; it had no effect."
        )
    size = sum(len(name) + len(value) + len(": \r\n") for name, value in request.raw_headers)
    return refuse_unreadable(request, None, head_too_large=True) if size > MAX_HEAD_BYTES else None


def refuse_unreadable(
    request: web.BaseRequest, cause: BaseException | None, *, head_too_large: bool = False
) -> web.Response:
    """Return the response to a request that aiohttp cannot parse, and close its connection."""
    too_long = cause.args[1] if isinstance(cause, LineTooLong) else None  # the limit that a line exceeds
    if too_long == MAX_URL_BYTES and not head_too_large:
        return refuse(request, "uri_too_long", f"The URL may have at most {MAX_URL_BYTES} bytes.", cause)
    if too_long or head_too_large or str(cause).endswith(TOO_MANY_HEADERS_MESSAGE):
        limits = f"{MAX_HEADERS} headers, {MAX_HEADER_BYTES} bytes in each, {MAX_HEAD_BYTES} bytes in total"
        return refuse(request, "headers_too_large", f"A request may have at most {limits}.", cause)
    detail = "The request is not valid HTTP/1.0 or HTTP/1.1; it had no effect."
    return refuse(request, "malformed_request", detail, cause)


def refuse_before_middleware(request: web.BaseRequest, cause: Exception) -> web.Response:
    """Return the response to a request at which aiohttp failed before its middleware, and close its connection.

    aiohttp raises for an Expect header that it does not know, and for one that is not ASCII. The request counts for the
    rate limit of its address.
    """
    exchange = request[EXCHANGE]
    guard = exchange.guard
    try:
        client = guard.proxies.client_address(request.remote, request.headers.getall(FORWARDED_FOR, ()))
        exchange.count_request(guard.address_limiter, rate_limit_address(client))
    except RateLimited as failure:
        response = refuse(request, failure.code, failure.detail, cause)
        response.headers["Retry-After"] = str(failure.retry_after)
        return response
    if request.headers.get(EXPECT, CONTINUE).lower() != CONTINUE:
        detail = "The Expect header is not supported, except for 100-continue."
        return refuse(request, "expectation_failed", detail, cause)
    return refuse(request, "internal_error", "The service failed before it read the request; it had no effect.", cause)


def refuse(request: web.BaseRequest, code: str, detail: str, cause: BaseException | None = None) -> web.Response:
    """Return a problem response with a new request id that closes the connection. Count and log the refusal."""
    exchange = request[EXCHANGE]
    exchange.request_id = new_request_id()
    token = LOG_REQUEST_ID.set(exchange.request_id)
    response = problem_response(code, detail)
    exchange.guard.requests.record_unreadable(response.status)
    reason = code if cause is None else f"{code}, {type(cause).__name__}"
    level = logging.WARNING if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
    log.log(level, "Refused an unreadable request: %d %s", response.status, reason, extra={"status": response.status})
    LOG_REQUEST_ID.reset(token)
    exchange.set_headers(response)  # aiohttp does this only for requests with a route
    response.force_close()
    return response
