"""A server connection with limits that aiohttp lacks.

aiohttp waits indefinitely for the rest of a request head, and for a client that does not read its response.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.abc import AbstractStreamWriter

from support_service.guard.chunked_framing import ChunkedFraming
from support_service.guard.connection_limits import ConnectionLimits, ConnectionLimitSettings, DelayReason
from support_service.guard.unread_answers import CALLERS, UnreadAnswers
from support_service.guard.unreadable_requests import MAX_HEAD_BYTES, UnreadableRequestResponder

HEAD_END = b"\r\n\r\n"
INVALID_INPUT = b"\0" + HEAD_END  # invalid in every part of a head


class HttpConnection(web.RequestHandler):
    """A server connection that tracks since when it has been waiting for its client, and for what.

    It uses only public methods of aiohttp. Therefore a head that arrives while another request is in progress is not
    measured, and its time counts from the next data that arrives; the idle timeout still applies to it.
    """

    __slots__ = (
        "_answer_writer",
        "_body",
        "_body_beginning",
        "_client_transport",
        "_framing",
        "_head_bytes",
        "_head_end",
        "_head_since",
        "_head_too_large",
        "_idle_since",
        "_limits",
        "_lost_callback",
        "_rate_since",
        "_responder",
        "_taken_before",
        "_unread",
        "_unread_answers",
        "_unread_since",
        "_written",
        "is_head_bounded",
        "is_version_supported",
    )

    def __init__(
        self,
        server: web.Server,
        limits: ConnectionLimits,
        unread_answers: UnreadAnswers,
        responder: UnreadableRequestResponder,
        **options: Any,
    ) -> None:
        super().__init__(server, **options)
        self._limits = limits
        self._lost_callback: Callable[[], None] | None = None
        self._unread_answers = unread_answers
        self._responder = responder
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
        if not self._limits.add(self, peer[0] if isinstance(peer, tuple) else None, now):
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
        self._limits.remove(self)
        self._unread_answers.remove(self)
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
        self._check_framing(data)

    def begin_request(
        self, body: StreamReader, writer: AbstractStreamWriter, *, is_chunked: bool, is_version_supported: bool
    ) -> None:
        """Note that the head of a request is complete; the server calls this before its handler."""
        self._body = body
        self._answer_writer = writer
        beginning, self._body_beginning = self._body_beginning, None
        self._framing = ChunkedFraming() if is_chunked and beginning is not None else None
        self._check_framing(beginning or b"")
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
        self._unread_answers.end(self, request.get(CALLERS, ()))
        self._idle_since = asyncio.get_running_loop().time()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer an unreadable request with a problem response; leave other errors to aiohttp."""
        if status != 400 or request.writer.output_size > 0:  # noqa: PLR2004 - HTTP's own number
            return super().handle_error(request, status, exc, message)
        return self._responder.respond(request, exc, head_too_large=self._head_too_large)

    def idle_since(self) -> float | None:
        """Return the loop time at which the connection became idle, or None while a request is in progress."""
        return self._idle_since if self._body.is_eof() else None

    def unread_bytes(self) -> int:
        """Return the response bytes that the client has not read yet, excluding those in the kernel's buffers."""
        return self._client_transport.get_write_buffer_size() if self._client_transport is not None else 0

    def exceeded_timeout(self, now: float, settings: ConnectionLimitSettings) -> DelayReason | None:
        """Return what the client has delayed for too long: the rest of a head, or reading its response; else None."""
        if self._client_transport is None:
            return None
        unread = self.unread_bytes()
        if unread != self._unread:
            self._unread, self._unread_since = unread, now
        elif unread and now - self._unread_since > settings.send_timeout:
            return "unread"
        if self._is_slow(unread, now, settings):
            return "slow"
        if self._head_since:
            idle = self.idle_since()
            if idle is not None and now - max(idle, self._head_since) > settings.header_timeout:
                return "head"
        return None

    def abort(self) -> None:
        """Close the connection immediately, even if the client has not read its response."""
        self.force_close()
        if self._client_transport is not None:
            self._client_transport.abort()

    def _check_framing(self, data: bytes) -> None:
        """End the body with an error if it is malformed, so that its reader does not wait for the rest."""
        if self._framing is not None and not self._body.is_eof() and not self._framing.feed(data):
            self._framing = None
            self._body.set_exception(web.RequestPayloadError("a chunk is malformed"))

    def _is_slow(self, unread: int, now: float, settings: ConnectionLimitSettings) -> bool:
        """Return True if the client has read its responses below the minimum rate for the whole of the send timeout."""
        written = self._written + (self._answer_writer.output_size if self._answer_writer is not None else 0)
        taken, elapsed = written - unread, now - self._rate_since
        is_slow = elapsed > settings.send_timeout and taken - self._taken_before < settings.send_rate * elapsed
        if not unread or elapsed > settings.send_timeout:
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
