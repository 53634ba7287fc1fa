"""Connections to the upstream services: answers are bounded, and unrequested data is never read as an answer.

This uses private parts of aiohttp, which is pinned to a release, because aiohttp has no public hook for either.
"""

from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

from support_service.timeline.sources.answers import MAX_ANSWER_BYTES

MAX_RESPONSE_BYTES = (
    MAX_ANSWER_BYTES + MAX_ANSWER_BYTES // 4
)  # bytes of one answer, including headers, chunk sizes and 1xx answers


class PooledConnection(ResponseHandler):
    """A pooled connection, aborted if an answer is too long or if data arrives while no request is open.

    Otherwise a second answer to one request would stay buffered and be read as the answer to the next request, which
    may be about another case.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.idle = False
        self._received = 0

    def set_response_params(self, **parameters: Any) -> None:
        self.idle = False
        self._received = 0
        super().set_response_params(**parameters)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        # aiohttp itself calls this with empty data to continue with its buffer, also after it released the connection.
        if (self.idle and data) or self._received > MAX_RESPONSE_BYTES:
            self._abort_connection()
            return
        super().data_received(data)
        if self.idle and self._buffer:  # aiohttp buffers the end of a large answer, and any data that came with it
            self._abort_connection()

    def _abort_connection(self) -> None:
        self.set_exception(HttpProcessingError(code=502, message="too much was sent"))
        if self.transport is not None:
            self.transport.abort()


class UpstreamConnector(aiohttp.TCPConnector):
    """The pool of connections to all upstream services, without a limit: each source limits its own calls."""

    def __init__(self) -> None:
        super().__init__(limit=0)
        self._factory = partial(PooledConnection, loop=self._loop)  # type: ignore[assignment]

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if isinstance(protocol, PooledConnection):  # pragma: no branch - the factory makes nothing else
            protocol.idle = True
        super()._release(key, protocol, should_close=should_close)


def create_session(trace_configs: list[aiohttp.TraceConfig]) -> aiohttp.ClientSession:
    """Return the HTTP session for all sources; each source limits its own calls and their time."""
    client = aiohttp.ClientSession(
        connector=UpstreamConnector(),
        timeout=aiohttp.ClientTimeout(),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # requests ask for uncompressed answers
        trace_configs=trace_configs,
    )
    client._retry_connection = False  # noqa: SLF001 - client.py retries, within its budget
    return client
