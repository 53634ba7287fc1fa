"""Connections to other HTTP servers, with bounded answers, and their errors as sentences for people.

Unrequested data is never read as an answer. A sentence about an error has the address and the cause, and no name of an
exception. The address is the scheme, the host and the port: the path of a webhook may be its secret.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

from support_service.core.os_errors import describe_os_error, text_on_one_line

# Bytes of one answer: 1 MiB of content, headers, chunk sizes and 1xx answers.
MAX_RESPONSE_BYTES = 1024 * 1024 + 256 * 1024
MAX_INTERIM_ANSWERS = 8  # 1xx answers before an answer; a server sends one or two, if any
# The beginning of an answer, at the start of a line. No header has this form, because it has no colon.
STATUS_LINE = re.compile(rb"\nHTTP/\d\.\d (\d)")
LONGEST_STATUS_START = len(b"\nHTTP/1.1 ")  # bytes kept, because the next data may complete a status line

OTHER_SERVICE_HINT = "is this the URL of a support-service?"
# From here on aiohttp's text quotes what the server sent, which may repeat the path of the request.
QUOTED_BYTES = re.compile(r":?\s*b?['\"].*", re.DOTALL)


class InterimAnswerCounter:
    """Counts the interim answers (1xx) before an answer, without parsing them.

    aiohttp parses as many as it receives, in one turn of the event loop, and reads on for as long as they come.
    """

    def __init__(self) -> None:
        self._left = MAX_INTERIM_ANSWERS
        self._unfinished = b"\n"  # the end of the data seen so far
        self._answered = False  # whether the answer itself has begun

    def too_many(self, data: bytes) -> bool:
        """Count the interim answers that begin in `data`. Return whether there were more than `MAX_INTERIM_ANSWERS`."""
        if self._answered:
            return False
        data = self._unfinished + data
        counted = 0
        for found in STATUS_LINE.finditer(data):
            if found[1] != b"1":
                self._answered = True
                return False
            self._left -= 1
            if self._left < 0:
                return True
            counted = found.end()
        self._unfinished = data[max(counted, len(data) - LONGEST_STATUS_START) :]
        return False


class LimitedProtocol(asyncio.Protocol):
    """aiohttp's protocol of a connection, behind limits on what is received for each request.

    The limit is 0 bytes while no request is open. Otherwise a second answer to one request would be read as the answer
    to the next request, which may be about another case.
    """

    def __init__(self, protocol: ResponseHandler, transport: asyncio.Transport) -> None:
        self._protocol = protocol
        self._transport = transport
        self._bytes_left = 0
        self._interim = InterimAnswerCounter()

    def begin_request(self) -> None:
        """Allow one answer."""
        self._bytes_left = MAX_RESPONSE_BYTES
        self._interim = InterimAnswerCounter()

    def end_request(self) -> None:
        """Allow no further bytes."""
        self._bytes_left = 0

    def data_received(self, data: bytes) -> None:
        """Pass data to aiohttp, or abort the connection at a limit."""
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            self._abort("the answer exceeds the size limit")
        elif self._interim.too_many(data):
            self._abort("too many interim answers (1xx)")
        else:
            self._protocol.data_received(data)

    def eof_received(self) -> None:
        self._protocol.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def _abort(self, reason: str) -> None:
        self._protocol.set_exception(HttpProcessingError(code=502, message=reason))
        self._transport.abort()


class LimitedConnector(aiohttp.TCPConnector):
    """A pool of connections with limited answers."""

    async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        """Return a connection that limits its answer. A pooled connection with unrequested data is closed instead."""
        while True:
            connection = await super().connect(*arguments, **options)
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None:  # pragma: no cover - lost at once; aiohttp raises the error
                return connection
            limited = transport.get_protocol()
            if not isinstance(limited, LimitedProtocol):  # a new connection
                limited = LimitedProtocol(protocol, transport)
                transport.set_protocol(limited)
            elif protocol.should_close:  # aiohttp had buffered the end of a large answer and the data behind it
                connection.close()
                continue
            limited.begin_request()
            connection.add_callback(limited.end_request)
            return connection


def limited_session(trace_configs: Iterable[aiohttp.TraceConfig], **options: Any) -> aiohttp.ClientSession:
    """Return a client of servers of other people: it limits their answers, and keeps no cookies.

    The number of connections is not limited: callers limit their calls.
    """
    return aiohttp.ClientSession(
        connector=LimitedConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=list(trace_configs),
        **options,
    )


def describe_client_error(failure: Exception) -> str:
    """Return why a request to a service failed, on one line."""
    for kinds, describe in DESCRIPTION_BY_ERROR:
        if isinstance(failure, kinds):
            return describe(failure)
    return text_on_one_line(failure)


def _describe_unreadable_answer(failure: aiohttp.ClientResponseError) -> str:
    reason = " ".join(QUOTED_BYTES.sub("", failure.message).split())
    return f"the answer of {failure.request_info.real_url.origin()} can't be read: {reason}"


# The first row with the type of an error, or a base of it, describes the error.
DESCRIPTION_BY_ERROR: tuple[tuple[tuple[type[Exception], ...], Callable[[Any], str]], ...] = (
    (
        (aiohttp.ClientConnectorCertificateError,),
        lambda failure: (
            f"the certificate of {failure.host}:{failure.port} is not valid: {failure.certificate_error.verify_message}"
        ),
    ),
    (
        (aiohttp.ClientConnectorError,),
        lambda failure: f"can't connect to {failure.host}:{failure.port}: {describe_os_error(failure.os_error)}",
    ),
    ((aiohttp.ServerDisconnectedError,), lambda _: "the server closed the connection without an answer"),
    ((TimeoutError,), lambda _: "no answer in time"),
    ((aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError), lambda _: "the URL is not a valid http or https URL"),
    ((aiohttp.ContentTypeError,), lambda _: f"the answer is not JSON: {OTHER_SERVICE_HINT}"),
    ((aiohttp.ClientResponseError,), _describe_unreadable_answer),
    ((OSError,), lambda failure: f"the connection broke: {describe_os_error(failure)}"),
    ((aiohttp.ClientConnectionError,), lambda failure: f"the connection broke: {text_on_one_line(failure)}"),
    ((aiohttp.ClientError,), lambda failure: f"the answer can't be read: {text_on_one_line(failure)}"),
    (
        (ValueError, LookupError, TypeError),
        lambda _: f"the answer has another form than expected: {OTHER_SERVICE_HINT}",
    ),
)
