"""Requests and answers of the client: addresses, credentials, errors as exceptions, and repeats."""

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from yarl import URL

from support_service import __version__
from support_service.client.errors import NoAnswer, error_of_answer
from support_service.client.retries import Attempts, ClientTimings
from support_service.core.errors import SupportError, UserError
from support_service.platform.http_client import describe_client_error

Token = str | Callable[[], str] | None
PERMANENT_FAILURES = (aiohttp.ClientSSLError, aiohttp.InvalidURL, aiohttp.TooManyRedirects)  # a repeat would fail too


@dataclass(frozen=True, slots=True)
class Request:
    """A request, as often as it is sent. `path` has the segments of its address, which are encoded here."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, object] = field(default_factory=dict)  # members that are None are left out
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    accepts: frozenset[int] = frozenset()  # statuses that are not errors, besides 2xx
    token: Token = None  # in place of the client's
    redirects: bool = False  # whether the answer may be somewhere else


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Sends requests to one service."""

    def __init__(
        self,
        base_url: str,
        token: Token,
        headers: Mapping[str, str],
        timings: ClientTimings,
        session: aiohttp.ClientSession | None,
    ) -> None:
        """Every request has `headers`. Without a `session` one is opened for the first request.

        Raises UserError for an address without a host.
        """
        if urlsplit(base_url).scheme not in {"http", "https"} or not urlsplit(base_url).hostname:
            raise UserError(f"the URL can't be used: {base_url}")
        self.timings = timings
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._given = {"User-Agent": f"support-service-client/{__version__}", **headers}
        self._session = session
        self._owns_session = session is None

    async def close(self) -> None:
        """Close the connections, unless the session was given."""
        if self._session is not None and self._owns_session:
            await self._session.close()
            self._session = None

    async def send(self, request: Request) -> Answer:
        """Send a request until it is answered with a success. Raises SupportError."""
        attempts = Attempts(self.timings)
        while True:
            limits = aiohttp.ClientTimeout(total=attempts.seconds_left, sock_connect=self.timings.connect)
            try:
                async with self.open(request, limits) as response:
                    return Answer(response.status, response.headers, await response.read())
            except SupportError as failure:
                await attempts.wait_after(failure)

    @asynccontextmanager
    async def open(
        self, request: Request, limits: aiohttp.ClientTimeout, data: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request once, with `data` as its body if it is given, and give the head of a successful answer.

        Raises SupportError, also for errors inside the block that belong to the connection.
        """
        try:
            async with self._open_session().request(
                request.method,
                self._url(request),
                data=request.body if data is None else data,
                headers={**self._headers(request), **request.headers},
                timeout=limits,
                allow_redirects=request.redirects,
            ) as response:
                if response.status >= HTTPStatus.MULTIPLE_CHOICES and response.status not in request.accepts:
                    raise error_of_answer(response.status, response.headers, await response.read())
                yield response
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as failure:
            raise self.no_answer_error(failure) from failure

    @staticmethod
    def no_answer_error(failure: Exception) -> NoAnswer:
        """Return the error for a request that got no whole answer."""
        return NoAnswer(describe_client_error(failure), may_pass=not isinstance(failure, PERMANENT_FAILURES))

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _url(self, request: Request) -> URL:
        path = "/".join(quote(segment.encode(errors="surrogateescape"), safe="") for segment in request.path)
        query = urlencode([(name, text) for name, value in request.query.items() for text in _as_texts(value)])
        return URL(f"{self._base_url}/{path}{'?' if query else ''}{query}", encoded=True)

    def _headers(self, request: Request) -> dict[str, str]:
        chosen = self._token if request.token is None else request.token
        token = chosen() if callable(chosen) else chosen
        return self._given | _trace_headers() | ({"Authorization": f"Bearer {token}"} if token else {})


def _as_texts(value: object) -> list[str]:
    """Return the value of a query parameter as it is sent; the items of a sequence each."""
    if isinstance(value, list | tuple):
        return [text for item in value for text in _as_texts(item)]
    if value is None:
        return []
    if isinstance(value, bool):
        return [str(value).lower()]
    return [value.isoformat() if isinstance(value, datetime) else str(value)]


def _trace_headers() -> dict[str, str]:
    """Return `traceparent` and others of the current context; none in a program that does not use OpenTelemetry."""
    if "opentelemetry" not in sys.modules:
        return {}
    from opentelemetry import propagate

    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers
