"""Connections to the upstream services: answers are bounded, and unrequested data is never read as an answer."""

import asyncio
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

from support_service.timeline.sources.answers import MAX_ANSWER_BYTES

# Bytes of one answer, including headers, chunk sizes and 1xx answers.
MAX_RESPONSE_BYTES = MAX_ANSWER_BYTES + MAX_ANSWER_BYTES // 4


class LimitedProtocol(asyncio.Protocol):
    """aiohttp's protocol of a connection, behind a limit on the bytes received for each request.

    The limit is 0 while no request is open. Otherwise a second answer to one request would be read as the answer to
    the next request, which may be about another case.
    """

    def __init__(self, protocol: ResponseHandler, transport: asyncio.Transport) -> None:
        self._protocol = protocol
        self._transport = transport
        self._bytes_left = 0

    def begin_request(self) -> None:
        """Allow the bytes of one answer."""
        self._bytes_left = MAX_RESPONSE_BYTES

    def end_request(self) -> None:
        """Allow no further bytes."""
        self._bytes_left = 0

    def data_received(self, data: bytes) -> None:
        """Pass data to aiohttp, or abort the connection at the limit."""
        self._bytes_left -= len(data)
        if self._bytes_left >= 0:
            self._protocol.data_received(data)
            return
        self._protocol.set_exception(HttpProcessingError(code=502, message="the answer exceeds the size limit"))
        self._transport.abort()

    def eof_received(self) -> None:
        self._protocol.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


class UpstreamConnector(aiohttp.TCPConnector):
    """The pool of connections to all upstream services, without a limit: each source limits its own calls."""

    def __init__(self) -> None:
        super().__init__(limit=0)

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


async def prevent_retry(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Raise a lost connection as an error after which aiohttp does not retry: client.py does, within its budget."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as failure:
        raise aiohttp.ClientConnectionError(str(failure)) from failure


def create_session(trace_configs: list[aiohttp.TraceConfig]) -> aiohttp.ClientSession:
    """Return the HTTP session for all sources; each source limits its own calls and their time."""
    return aiohttp.ClientSession(
        connector=UpstreamConnector(),
        timeout=aiohttp.ClientTimeout(),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # requests ask for uncompressed answers
        trace_configs=trace_configs,
        middlewares=(prevent_retry,),
    )
