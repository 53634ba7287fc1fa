"""Admission control: limits that refuse a request before its handler runs, and headers for every response."""

from dataclasses import dataclass, field
from math import ceil

from aiohttp import web
from multidict import istr

from support_service.core.domain.principals import ANONYMOUS
from support_service.core.errors import RateLimited, SupportError, Unavailable, problem
from support_service.guard.addresses import TrustedProxies, rate_limit_address
from support_service.guard.overload import LARGE_BODY_BYTES, LargeBodies, LoadShedder, Readiness
from support_service.guard.rates import RateLimiter, RateLimitState
from support_service.guard.security import (
    HOST_HEADER,
    HSTS_HEADER,
    HSTS_VALUE,
    BrowserPolicy,
    WebOrigin,
    add_security_headers,
    read_origin,
)
from support_service.guard.unread_answers import (
    ADDRESS_PREFIX,
    CALLERS,
    PRINCIPAL_PREFIX,
    SENT_AT_ONCE_BYTES,
    STREAM_BYTES,
    STREAMED_BYTES,
    AnsweredConnection,
    UnreadAnswers,
)
from support_service.platform.telemetry.http import UNMEASURED_PATHS
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec

MAX_QUERY_BYTES = 4096  # bytes; the longest query that the API needs is a tenth of this
MAX_QUERY_PARAMETERS = 64
SMALL_ANSWER_BYTES = 64 * 1024  # an answer up to this size is sent even if its caller has reached its bound meanwhile
SINGLE_VALUE_HEADERS = tuple(istr(name) for name in ("Content-Encoding", "Content-Type", "If-Range", "Origin", "Range"))
FORWARDED_FOR, FORWARDED_PROTO = istr("X-Forwarded-For"), istr("X-Forwarded-Proto")
ANSWER_BYTES_PER_REQUEST = (
    256 * 1024
)  # bytes of an answer that a request includes, and that each further request pays for
RATE_LIMIT_HEADER, RATE_LIMIT_POLICY_HEADER = istr("RateLimit"), istr("RateLimit-Policy")

REQUEST_TURNED_AWAY = InstrumentSpec(
    "support.request.turned_away",
    "counter",
    "{request}",
    "Requests that admission refused. address, principal: over their rate limit (429). lag, requests: event loop lag, "
    "or too many concurrent requests (503). unread: unread answers of the caller (429) or of all (503). streams: too "
    "many open streams of the caller (429) or of all (503)",
    {"reason": ("address", "principal", "lag", "requests", "unread", "streams")},
)


@dataclass(frozen=True, slots=True)
class Admission:
    """The admission checks of one application. A limiter that is None is disabled."""

    proxies: TrustedProxies
    browser_policy: BrowserPolicy
    load_shedder: LoadShedder
    readiness: Readiness
    address_limiter: RateLimiter | None
    principal_limiter: RateLimiter | None
    unread_answers: UnreadAnswers
    instruments: Instruments
    large_bodies: LargeBodies = field(default_factory=LargeBodies)

    def admit(self, request: web.Request) -> web.Response | None:
        """Check a request as `check` does. Return the response to a CORS preflight, or None for other requests."""
        self.check(request)
        return self.browser_policy.preflight(request)

    def check(self, request: web.Request) -> None:
        """Check a request against the allowed origins, overload, the limits of its address, and query limits.

        Health and metrics requests are not checked: they must work under overload and any host name, change nothing,
        and contain no data of cases.

        Raises MisdirectedRequest or Forbidden (origins), Unavailable (overload), RateLimited (rate, unread answers),
        UriTooLong (query), and MalformedRequest (query, repeated headers, Host).
        """
        _check_repeated_headers(request)
        forwarded = request.headers.getall(FORWARDED_FOR, ())
        address = rate_limit_address(self.proxies.client_address(request.remote, forwarded))
        request[CALLERS] = (f"{ADDRESS_PREFIX}{address}",)
        if request.path in UNMEASURED_PATHS:
            return
        self.browser_policy.check(request, self.own_origin(request))
        reason = self.load_shedder.rejection_reason(self.readiness.in_progress - self.readiness.waiting_for_client)
        if reason is not None:
            self.instruments.add(REQUEST_TURNED_AWAY, 1, {"reason": reason})
            raise problem("overloaded", "The service is overloaded; try again in a moment.")
        if self.address_limiter is not None:
            self._apply_limit(request, self.address_limiter, self.address_limiter.consume(address))
        self._check_unread(request)
        query = request.rel_url.raw_query_string
        if query:
            if len(query) > MAX_QUERY_BYTES:
                raise problem("uri_too_long", f"The query string is too long; the limit is {MAX_QUERY_BYTES} bytes.")
            if query.count("&") >= MAX_QUERY_PARAMETERS:
                raise problem(
                    "too_many_parameters", f"The query has too many parameters; the limit is {MAX_QUERY_PARAMETERS}."
                )

    def check_principal(self, request: web.Request, principal: str) -> None:
        """Count a request of an authenticated principal. Raises RateLimited over its rate or its unread answers."""
        if request.path in UNMEASURED_PATHS:
            return
        if self.principal_limiter is not None:
            self._apply_limit(request, self.principal_limiter, self.principal_limiter.consume(principal))
        if principal != ANONYMOUS.name:  # shared by all clients of a service without authentication
            request[CALLERS] += (f"{PRINCIPAL_PREFIX}{principal}",)
            self._check_unread(request)

    def begin_large_body(self, request: web.Request) -> None:
        """Count a request whose body is large until its end. Raises Unavailable if there are too many."""
        try:
            self.large_bodies.begin(request, request.get(CALLERS, ()))
        except Unavailable:
            self.instruments.add(REQUEST_TURNED_AWAY, 1, {"reason": "requests"})
            raise

    def charge_body(self, request: web.Request, size: int) -> None:
        """Count a JSON body of `size` bytes like one request for each `LARGE_BODY_BYTES` beyond the first.

        Raises RateLimited, before the body is parsed, if the caller owes requests.
        """
        if size > LARGE_BODY_BYTES:
            _, *principals = request[CALLERS]
            name = principals[0].removeprefix(PRINCIPAL_PREFIX) if principals else ANONYMOUS.name
            self.charge_work(name, (size - 1) // LARGE_BODY_BYTES)

    def check_answer(self, request: web.Request, size: int) -> None:
        """Check an answer of `size` bytes to a request that has changed nothing, so that it can still be refused.

        Raises RateLimited or Unavailable if a large answer exceeds the bounds of unread answers.
        """
        if size > SMALL_ANSWER_BYTES and request.method != "HEAD":
            self._check_unread(request, size)

    def charge_answer(self, request: web.Request, principal: str, size: int, *, may_owe: bool = False) -> None:
        """Count an answer of `size` bytes like one request for each `ANSWER_BYTES_PER_REQUEST` beyond the first.

        Raises RateLimited, instead of sending the answer, if the principal owes requests for earlier answers. With
        `may_owe` it does not: the answer to a write is sent anyway.
        """
        if self.principal_limiter is not None and size > ANSWER_BYTES_PER_REQUEST:
            limit_state = self.principal_limiter.consume_many(
                principal, (size - 1) // ANSWER_BYTES_PER_REQUEST, may_owe=may_owe
            )
            self._apply_limit(request, self.principal_limiter, limit_state)

    def check_debt(self, principal: str, size: int) -> None:
        """Raise RateLimited if an answer of more than `size` bytes would be refused; spares the work for it."""
        if size > ANSWER_BYTES_PER_REQUEST:
            self.charge_work(principal, 0)

    def charge_work(self, principal: str, requests: int) -> None:
        """Count work that costs so many further requests. Raises RateLimited if the principal owes requests."""
        if self.principal_limiter is not None:
            limit_state = self.principal_limiter.consume_many(principal, requests)
            if not limit_state.admitted:
                raise self._rate_limited_error(self.principal_limiter, limit_state)

    def charge_optional_work(self, principal: str, requests: int) -> float:
        """Count a query that the answer can do without. Return 0.0, or after how many seconds to try again."""
        return 0.0 if self.principal_limiter is None else self.principal_limiter.consume_optional(principal, requests)

    def set_headers(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Set the headers of a response: security, CORS and the state of the client's rate limits."""
        add_security_headers(response)
        self.browser_policy.set_cors_headers(request, response)
        if FORWARDED_PROTO in request.headers and self.scheme(request) == "https":
            response.headers[HSTS_HEADER] = HSTS_VALUE
        if self.address_limiter is None and self.principal_limiter is None:
            return
        rate_limit_headers = request.get(RATE_LIMIT_HEADERS)
        if rate_limit_headers:
            response.headers[RATE_LIMIT_POLICY_HEADER], response.headers[RATE_LIMIT_HEADER] = rate_limit_headers

    def scheme(self, request: web.BaseRequest) -> str:
        """Return the scheme of the client's request, as trusted proxies report it."""
        return self.proxies.scheme(request.remote, request.headers.getall(FORWARDED_PROTO, ()))

    def own_origin(self, request: web.BaseRequest) -> WebOrigin:
        """Return the service as the client calls it, by its scheme and its Host header. Raises MalformedRequest."""
        try:
            return read_origin(self.scheme(request), request.headers.get(HOST_HEADER, ""))
        except ValueError:
            raise problem(
                "malformed_request",
                "The header Host is invalid. Send a host name or an IP address, with or without a port, "
                "such as desk.example:8000.",
            ) from None

    def begin_answer(
        self, connection: AnsweredConnection, request: web.BaseRequest, response: web.StreamResponse
    ) -> None:
        """Count the bytes of an answer that is about to be sent until its client has read them.

        Raises RateLimited or Unavailable for an answer that its handler streams, if the bounds are reached.
        """
        size = 0 if request.method == "HEAD" else response.content_length
        is_streamed = not isinstance(response, web.Response) and size != 0
        if (
            not is_streamed
            and size is not None
            and size <= SENT_AT_ONCE_BYTES
            and self.unread_answers.is_read(connection)
        ):
            return  # sent in one step, and counted at its end if the client does not read it
        max_streamed_bytes = request.get(STREAMED_BYTES, STREAM_BYTES)
        if is_streamed:
            self._check_unread(request, max_streamed_bytes)
        self.unread_answers.begin(
            connection, request.get(CALLERS, ()), size, is_streamed=is_streamed, max_streamed_bytes=max_streamed_bytes
        )

    def _check_unread(self, request: web.BaseRequest, size: int = 0) -> None:
        """Raise RateLimited or Unavailable if an answer of `size` bytes exceeds the bounds; 0 if it is not known yet.

        The bound in total does not apply to health and metrics, so that they work under overload.
        """
        try:
            self.unread_answers.check(request.get(CALLERS, ()), size, in_total=request.path not in UNMEASURED_PATHS)
        except (RateLimited, Unavailable):
            self.instruments.add(REQUEST_TURNED_AWAY, 1, {"reason": "unread"})
            raise

    def _apply_limit(self, request: web.Request, limiter: RateLimiter, limit_state: RateLimitState) -> None:
        """Set the headers that tell the state of a limit. Raises RateLimited if it does not admit the request."""
        policy, state = (
            limiter.policy,
            f'"{limiter.name}";r={limit_state.remaining};t={ceil(limit_state.seconds_until_full)}',
        )
        if limiter is self.principal_limiter and self.address_limiter is not None:  # the address is charged first
            address_policy, address_state = (each.partition(", ")[0] for each in request[RATE_LIMIT_HEADERS])
            policy, state = f"{address_policy}, {policy}", f"{address_state}, {state}"
        request[RATE_LIMIT_HEADERS] = (policy, state)
        if not limit_state.admitted:
            raise self._rate_limited_error(limiter, limit_state)

    def _rate_limited_error(self, limiter: RateLimiter, limit_state: RateLimitState) -> SupportError:
        self.instruments.add(REQUEST_TURNED_AWAY, 1, {"reason": limiter.name})
        rate = f"{limiter.rate.requests} requests in {limiter.rate.seconds} s"
        return problem(
            "rate_limited",
            f"The limit of {rate} for one {limiter.name} is exceeded; retry after the time in Retry-After.",
            retry_after=max(1, ceil(limit_state.retry_after)),
        )


def _check_repeated_headers(request: web.Request) -> None:
    """Raise MalformedRequest if a header that must have a single value is repeated.

    A proxy may read another one of its values than the service. aiohttp refuses Host and Content-Length itself, the
    authenticator Authorization.
    """
    headers = request.headers
    for name in SINGLE_VALUE_HEADERS:
        if name in headers and len(headers.getall(name)) > 1:
            raise problem("malformed_request", f"The header {name} may occur only once.")


RATE_LIMIT_HEADERS = web.RequestKey("rate_limit_headers", tuple[str, str])  # values of RateLimit-Policy and RateLimit
