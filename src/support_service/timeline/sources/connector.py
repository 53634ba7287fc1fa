"""Connections to the services: what comes in is bounded, and what nobody asked for is never taken for an answer.

Reaches into aiohttp's connector, which is pinned to a release: it has no public place for either.
"""

from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

from support_service.timeline.sources.client import MAX_BYTES

MAX_ON_THE_LINE = MAX_BYTES + MAX_BYTES // 4  # bytes of one answer with its headers, chunk marks and interim answers


class Line(ResponseHandler):
    """One connection. It is cut off where an answer is too long, or comes while nothing is asked.

    A second answer to one request, kept until the next request, would be read as the answer to that: another case's.
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
        # aiohttp itself sends nothing, to go on with what it has, and does so after an answer was given back, too.
        if (self.idle and data) or self._received > MAX_ON_THE_LINE:
            self._cut()
            return
        super().data_received(data)
        if self.idle and self._buffer:  # of a large answer it holds the end back, and what came with that
            self._cut()

    def _cut(self) -> None:
        self.set_exception(HttpProcessingError(code=502, message="too much was sent"))
        if self.transport is not None:
            self.transport.abort()


class Connector(aiohttp.TCPConnector):
    """Keeps connections to the services; how many are used at once is each source's own matter."""

    def __init__(self) -> None:
        super().__init__(limit=0)
        self._factory = partial(Line, loop=self._loop)  # type: ignore[assignment]

    def _release(self, key: Any, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if isinstance(protocol, Line):
            protocol.idle = True
        super()._release(key, protocol, should_close=should_close)


def session(trace_configs: list[aiohttp.TraceConfig]) -> aiohttp.ClientSession:
    """A session for all sources; each of them bounds its own calls and their time."""
    made = aiohttp.ClientSession(
        connector=Connector(),
        timeout=aiohttp.ClientTimeout(),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,  # nothing packed is asked for
        trace_configs=trace_configs,
    )
    made._retry_connection = False  # noqa: SLF001 - sources.py retries, within its budget
    return made
