"""The exchange: one request with its answer, as far as bounds and headers depend on it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from time import perf_counter

from aiohttp import web
from multidict import istr

from support_service.core.domain.principals import ANONYMOUS, Principal
from support_service.core.errors import SupportError, problem
from support_service.guard.guard import Guard
from support_service.guard.rates import RateLimiter, RateLimitState
from support_service.guard.security import (
    CACHE_CONTROL_HEADER,
    CSP_HEADER,
    DEFAULT_CSP,
    HOST_HEADER,
    HSTS_HEADER,
    HSTS_VALUE,
    ORIGIN_HEADER,
    SECURITY_HEADERS,
    WebOrigin,
    read_origin,
)
from support_service.guard.unread_answers import (
    ADDRESS_PREFIX,
    PRINCIPAL_PREFIX,
    SENT_AT_ONCE_BYTES,
    STREAM_BYTES,
    AnsweredConnection,
)
from support_service.platform.telemetry.instruments import InstrumentSpec
from support_service.platform.telemetry.traces import TraceToken

SMALL_ANSWER_BYTES = 64 * 1024  # an answer up to this size is sent even if its caller has reached its bound meanwhile
# Bytes of an answer that a request includes, and that each further request pays for.
ANSWER_BYTES_PER_REQUEST = 256 * 1024
RATE_LIMIT_HEADER, RATE_LIMIT_POLICY_HEADER = istr("RateLimit"), istr("RateLimit-Policy")
REQUEST_ID_HEADER = istr("X-Request-Id")

REQUEST_TURNED_AWAY = InstrumentSpec(
    "support.request.turned_away",
    "counter",
    "{request}",
    "Requests that admission refused. address, principal: over their rate limit (429). lag, requests: event loop lag, "
    "or too many concurrent requests (503). unread: unread answers of the caller (429) or of all (503). streams: too "
    "many open streams of the caller (429) or of all (503)",
    {"reason": ("address", "principal", "lag", "requests", "unread", "streams")},
)


def new_request_id() -> str:
    """Return an id for a request whose client sent none, or one that is unsuitable for logs."""
    return os.urandom(8).hex()


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and its answer: who sends it, what it costs them, and which headers the answer gets.

    The request has it under the key EXCHANGE. It does not refer to the request, so that both are freed at once.
    """

    guard: Guard  # of the server that has received the request
    method: str
    headers: Mapping[str, str]  # of the request
    is_limited: bool  # rates, load and unread answers in total count: it asks for more than health and metrics
    scheme: str  # of the client's request, as trusted proxies report it
    path: str | None = None  # of the route, with the names of its parameters; None without a route
    request_id: str = ""
    address: str = ""  # of the client, as its bounds count it; empty if they count nothing
    principal: Principal = ANONYMOUS  # who asks, once that is known
    rates: dict[RateLimiter, RateLimitState] = field(default_factory=dict)  # that count, the address first
    body: bytes | None = None  # once it was read, unless it arrived together with the head
    is_counted_as_large: bool = False  # its body is one of the large bodies
    streamed_bytes: int = STREAM_BYTES  # what the answer counts if its handler streams it
    trace: TraceToken | None = None  # of the client, if it is continued here
    began_at: float = field(default_factory=perf_counter)
    stream_began_at: float | None = None  # when the answer began, if it goes on for hours

    @property
    def callers(self) -> tuple[str, ...]:
        """Whose bounds count: the client's address, and the principal if it is known."""
        address = (f"{ADDRESS_PREFIX}{self.address}",) if self.address else ()
        # All clients of a service without authentication are one principal.
        return address if self.principal is ANONYMOUS else (*address, f"{PRINCIPAL_PREFIX}{self.principal.name}")

    @property
    def principal_limiter(self) -> RateLimiter | None:
        """The limiter of principals, if the request is limited."""
        return self.guard.principal_limiter if self.is_limited else None

    def own_origin(self) -> WebOrigin:
        """Return the service as the client calls it, by its scheme and its Host header. Raises ValidationFailed."""
        try:
            return read_origin(self.scheme, self.headers.get(HOST_HEADER, ""))
        except ValueError:
            raise problem(
                "malformed_request",
                "The header Host is invalid. Send a host name or an IP address, with or without a port, "
                "such as desk.example:8000.",
            ) from None

    def count_request(self, limiter: RateLimiter | None, key: str) -> None:
        """Count the request for its address or its principal, if that is limited. Raises RateLimited over its rate."""
        if limiter is not None:
            self.apply_limit(limiter, limiter.consume(key))

    def check_unread(self, size: int = 0) -> None:
        """Raise RateLimited or Unavailable if an answer of `size` bytes exceeds the bounds; 0 if it is not known yet.

        The bound in total does not apply to health and metrics, so that they work under overload.
        """
        try:
            self.guard.unread_answers.check(self.callers, size, in_total=self.is_limited)
        except SupportError:
            self.note_turned_away("unread")
            raise

    def count_large_body(self) -> None:
        """Count the request as one with a large body until its end. Raises Unavailable if there are too many."""
        if self.is_counted_as_large:
            return
        try:
            self.guard.large_bodies.begin(self.callers)
        except SupportError:
            self.note_turned_away("requests")
            raise
        self.is_counted_as_large = True

    def charge(self, requests: int) -> None:
        """Count work that costs so many further requests. Raises RateLimited if the principal owes requests."""
        limiter = self.principal_limiter
        if limiter is not None:
            limit_state = limiter.consume_many(self.principal.name, requests)
            if not limit_state.admitted:
                raise self._rate_limited_error(limiter, limit_state)

    def check_debt(self) -> None:
        """Raise RateLimited if the principal owes requests."""
        self.charge(0)

    def charge_optional(self, requests: int) -> float:
        """Count a query that the answer can do without. Return 0.0, or after how many seconds to try again."""
        limiter = self.principal_limiter
        return 0.0 if limiter is None else limiter.consume_optional(self.principal.name, requests)

    def set_headers(self, response: web.StreamResponse) -> None:
        """Set the headers of a response: the request's id, security, CORS and the state of the client's rate limits.

        A content policy and a cache rule that the response already has stay.
        """
        headers = response.headers
        if self.request_id:
            headers[REQUEST_ID_HEADER] = self.request_id
        headers.update(SECURITY_HEADERS)
        headers.setdefault(CSP_HEADER, DEFAULT_CSP)
        headers.setdefault(CACHE_CONTROL_HEADER, "no-store")
        if self.guard.browser_policy.allowed_origins:
            self.guard.browser_policy.set_cors_headers(self.headers.get(ORIGIN_HEADER), headers)
        if self.scheme == "https":
            headers[HSTS_HEADER] = HSTS_VALUE
        if self.rates:
            headers[RATE_LIMIT_POLICY_HEADER] = ", ".join([limiter.policy for limiter in self.rates])
            headers[RATE_LIMIT_HEADER] = ", ".join(
                [
                    f'"{limiter.name}";r={state.remaining};t={ceil(state.seconds_until_full)}'
                    for limiter, state in self.rates.items()
                ]
            )

    def begin_answer(self, connection: AnsweredConnection, response: web.StreamResponse) -> None:
        """Count the bytes of an answer that is about to be sent until its client has read them.

        Raises RateLimited or Unavailable for an answer that its handler streams, if the bounds are reached.
        """
        size = 0 if self.method == "HEAD" else response.content_length
        is_streamed = not isinstance(response, web.Response) and size != 0
        unread = self.guard.unread_answers
        if not is_streamed and size is not None and size <= SENT_AT_ONCE_BYTES and unread.is_read(connection):
            return  # sent in one step, and counted at its end if the client does not read it
        if is_streamed:
            self.check_unread(self.streamed_bytes)
        unread.begin(connection, self.callers, size, is_streamed=is_streamed, max_streamed_bytes=self.streamed_bytes)

    def note_turned_away(self, reason: str) -> None:
        """Count the request as one that was refused for a reason of REQUEST_TURNED_AWAY."""
        self.guard.instruments.add(REQUEST_TURNED_AWAY, 1, {"reason": reason})

    def apply_limit(self, limiter: RateLimiter, limit_state: RateLimitState) -> None:
        """Keep the state of a limit for the headers of the answer. Raises RateLimited if it admits no request."""
        self.rates[limiter] = limit_state
        if not limit_state.admitted:
            raise self._rate_limited_error(limiter, limit_state)

    def _rate_limited_error(self, limiter: RateLimiter, limit_state: RateLimitState) -> SupportError:
        self.note_turned_away(limiter.name)
        rate = f"{limiter.rate.requests} requests in {limiter.rate.seconds} s"
        return problem(
            "rate_limited",
            f"The limit of {rate} for one {limiter.name} is exceeded; retry after the time in Retry-After.",
            retry_after=max(1, ceil(limit_state.retry_after)),
        )


EXCHANGE = web.RequestKey("exchange", Exchange)
