"""The three stages that every request passes, in this order.

- `head`: may this address ask now, and in this form?
- `caller`: who asks, may they, and how often?
- `answer`: what does the handler return, masked and encoded? `charge` counts what it costs.

`Pipeline.run` calls one after the other, between aiohttp's router and a handler. Errors become problems there and
nowhere else. `decorators.py` lists what a handler may take.
"""

import logging
import random
import re
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import istr

from support_service.api.routing.call import Call, Reply
from support_service.api.routing.endpoint import Endpoint
from support_service.api.routing.idempotency import IDEMPOTENCY_KEY, respond_once
from support_service.core.domain.principals import ANONYMOUS
from support_service.core.errors import Forbidden, SupportError, Unauthenticated, Unavailable, problem
from support_service.core.http import router_path
from support_service.guard.addresses import FORWARDED_FOR, rate_limit_address
from support_service.guard.exchange import (
    ANSWER_BYTES_PER_REQUEST,
    EXCHANGE,
    REQUEST_ID_HEADER,
    SMALL_ANSWER_BYTES,
    Exchange,
    new_request_id,
)
from support_service.guard.guard import Guard
from support_service.guard.json_body import json_response
from support_service.guard.problems import CLIENT_CLOSED_REQUEST, PROBLEM_CODE, response_to_failure
from support_service.platform.access.authenticator import AUTHORIZATION
from support_service.platform.access.sessions import check_not_foreign, check_same_origin, read_cookie
from support_service.platform.telemetry.http import PROBE_USER_AGENT
from support_service.platform.telemetry.logs import LOG_CASE_ID, LOG_REQUEST_ID
from support_service.platform.telemetry.traces import TRACEPARENT, continue_trace, end_trace, set_span_scheme
from support_service.service import SERVICE

MAX_QUERY_BYTES = 4096  # bytes; the longest query that the API needs is a tenth of this
MAX_QUERY_PARAMETERS = 64
SINGLE_VALUE_HEADERS = tuple(istr(name) for name in ("Content-Encoding", "Content-Type", "If-Range", "Origin", "Range"))
USER_AGENT = istr("User-Agent")
REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger("support_service.access")


class Pipeline:
    """The way of each request of one application. It logs the share `access_log` (0 to 1) of them.

    Without `checks_head`, requests skip the first stage, and are not limited.
    """

    def __init__(self, guard: Guard, *, access_log: float = 0.0, checks_head: bool = True) -> None:
        self._guard = guard
        self._access_log = access_log
        self._checks_head = checks_head
        self._endpoints: dict[Handler, Endpoint] = {}  # by what the router finds, which is called by `answer` alone

    def add_route(self, app: web.Application, endpoint: Endpoint) -> None:
        """Serve an endpoint. One of GET also answers HEAD."""
        route, handler = endpoint.route, endpoint.route.handler
        self._endpoints[handler] = endpoint
        if route.method == "GET":
            app.router.add_get(router_path(route.path), handler)
        else:
            app.router.add_route(route.method, router_path(route.path), handler)

    @web.middleware
    async def run(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Lead a request through the stages.

        One middleware does all this, because every request pays for each further one.
        """
        exchange = request[EXCHANGE]
        endpoint: Endpoint | None = None
        response: web.StreamResponse | None = None
        self._begin(request, exchange)
        try:
            if self._checks_head:
                response = head(request, exchange)
            else:
                exchange.is_limited = False
            if response is None and (endpoint := self._endpoints.get(request.match_info.handler)) is not None:
                call = await caller(request, exchange, endpoint)
                if endpoint.takes_key and IDEMPOTENCY_KEY in request.headers:
                    response = await respond_once(
                        request, call, endpoint.route, partial(answer, request, call, endpoint)
                    )
                else:
                    response = await answer(request, call, endpoint)
                charge(exchange, endpoint, response)
            elif response is None:  # a page of the console, or no such route
                response = await handler(request)
        except Exception as failure:  # noqa: BLE001 - every error has an answer
            if endpoint is not None and isinstance(failure, Unauthenticated | Unavailable | Forbidden):
                _note_refusal(request, exchange, endpoint, failure)
            response = response_to_failure(request, failure)
        finally:
            self._end(request, exchange, response)
        return response

    def _begin(self, request: web.Request, exchange: Exchange) -> None:
        """Give a request its id, and count it."""
        request_id = request.headers.get(REQUEST_ID_HEADER)
        if request_id is None or not REQUEST_ID_PATTERN.fullmatch(request_id):
            request_id = new_request_id()
        exchange.request_id = request_id
        LOG_REQUEST_ID.set(request_id)
        LOG_CASE_ID.set(request.match_info.get("case_id"))
        if exchange.scheme == "https":
            set_span_scheme(exchange.scheme)
        resource = request.match_info.route.resource
        exchange.path = resource.canonical if resource else None
        self._guard.requests.begin(request.method, exchange.path, exchange.scheme, request.headers.get(USER_AGENT, ""))
        self._guard.readiness.in_progress += 1
        if TRACEPARENT in request.headers:
            exchange.trace = continue_trace(request.headers)

    def _end(self, request: web.Request, exchange: Exchange, response: web.StreamResponse | None) -> None:
        """Measure a request, and log it if it is in the share or a server error; None if its handler was cancelled.

        Once shutdown has begun, each response closes its connection, so that no client sends another request.
        """
        guard, ended = self._guard, perf_counter()
        status = 500 if response is None else response.status
        if response is None or response.prepared:
            ended = exchange.stream_began_at or ended
        else:
            if request.transport is None or request.transport.is_closing():
                status = CLIENT_CLOSED_REQUEST  # the client has gone and cannot read the response
            if not guard.readiness.accepting:
                response.force_close()
        if exchange.is_counted_as_large:
            guard.large_bodies.end(exchange.callers)
        guard.readiness.in_progress -= 1
        seconds = ended - exchange.began_at
        error = "client_left" if status == CLIENT_CLOSED_REQUEST else None
        guard.requests.end(request.method, exchange.path, status, seconds, scheme=exchange.scheme, error=error)
        if status >= 500 or (self._access_log and random.random() < self._access_log):  # noqa: PLR2004 - HTTP's own
            code = None if response is None else response.get(PROBLEM_CODE)
            log.log(
                logging.WARNING if status >= 500 else logging.INFO,  # noqa: PLR2004 - HTTP's own boundary
                "%s %s %d",
                request.method,
                request.path,
                status,
                extra={"route": exchange.path, "status": status, "code": code, "seconds": round(seconds, 6)},
            )
        LOG_REQUEST_ID.set(None)
        LOG_CASE_ID.set(None)
        if exchange.trace is not None:
            end_trace(exchange.trace)


def head(request: web.Request, exchange: Exchange) -> web.Response | None:
    """Check repeated headers, origins, overload, the limits of the address and of the query.

    Health and metrics requests are not checked: they must work under overload and any host name, change nothing, and
    contain no data of cases. Return the response to a CORS preflight, or None for other requests.

    Raises SupportError (host, query), Forbidden (origins), Unavailable (overload), RateLimited (rate, unread answers),
    and ValidationFailed (query, repeated headers, Host).
    """
    guard, headers = exchange.guard, request.headers
    for name in SINGLE_VALUE_HEADERS:
        # A proxy may read another one of the values than the service. aiohttp refuses Host and Content-Length itself,
        # the authenticator Authorization.
        if name in headers and len(headers.getall(name)) > 1:
            raise problem("malformed_request", f"The header {name} may occur only once.")
    client = guard.proxies.client_address(request.remote, headers.getall(FORWARDED_FOR, ()))
    address = exchange.address = rate_limit_address(client)
    if exchange.is_limited:
        guard.browser_policy.check(request, exchange.own_origin())
        reason = guard.load_shedder.rejection_reason(guard.readiness.in_progress - guard.readiness.waiting_for_client)
        if reason is not None:
            exchange.note_turned_away(reason)
            raise problem("overloaded", "The service is overloaded; try again in a moment.")
        exchange.count_request(guard.address_limiter, address)
        exchange.check_unread()
        query = request.rel_url.raw_query_string
        if len(query) > MAX_QUERY_BYTES:
            raise problem("uri_too_long", f"The query string is too long; the limit is {MAX_QUERY_BYTES} bytes.")
        if query.count("&") >= MAX_QUERY_PARAMETERS:
            raise problem(
                "too_many_parameters", f"The query has too many parameters; the limit is {MAX_QUERY_PARAMETERS}."
            )
    return guard.browser_policy.preflight(request) if request.method == "OPTIONS" else None


async def caller(request: web.Request, exchange: Exchange, endpoint: Endpoint) -> Call:
    """Authenticate the caller, count the request for it, and return what its permission allows.

    Raises Unauthenticated, Unavailable, Forbidden, and RateLimited (rate, unread answers).
    """
    service, permission = request.app[SERVICE], endpoint.permission
    if permission is None:
        return Call("all", service, exchange)
    authorization: Sequence[str] = request.headers.getall(AUTHORIZATION, ())
    sessions = service.sessions if not authorization else None
    session = read_cookie(request) if sessions is not None else None
    if sessions is not None and session is not None:
        check_same_origin(request)
        principal = await sessions.authenticate(session)
    else:
        if authorization:
            check_not_foreign(request, service.settings.limits.cors_origins)
        principal = await service.authenticator.authenticate(authorization)
    exchange.principal = principal
    exchange.count_request(exchange.principal_limiter, principal.name)
    if principal is not ANONYMOUS:
        exchange.check_unread()
        if service.callers is not None and not _is_probe(request):
            service.callers.note_accepted(_credential(request), principal.name, writes=endpoint.is_change)
        service.agents.note_claims(principal)
    scope = permission.scopes.get(principal.role)
    if scope is None:
        raise problem(
            "permission_missing", f"The permission {permission.name!r} is missing: {principal.role}s don't have it."
        )
    return Call(scope, service, exchange, authorization=authorization, session=session)


async def answer(request: web.Request, call: Call, endpoint: Endpoint) -> web.StreamResponse:
    """Call the handler of an endpoint with what it takes. Return its reply as a response.

    The response is masked if the caller's scope is, and has a sealed cursor.
    """
    body = None if endpoint.read_body is None else await endpoint.read_body(request)
    reply: Reply[Any] | web.StreamResponse = await endpoint.route.handler(
        *[provide(request, call, body) for provide in endpoint.arguments]
    )
    if not isinstance(reply, Reply):
        return reply
    route, content = endpoint.route, reply.content
    if content is None:
        return web.Response(status=reply.status or route.status, headers=reply.headers)
    if call.scope == "masked" and not route.masks_itself:
        masker = call.service.masker
        content = masker.mask_all(content) if route.is_list else masker.mask(content)
    if endpoint.has_pages and content.next_cursor is not None:
        content.next_cursor = call.service.cursors.seal(route.operation, content.next_cursor)
    return json_response(content, reply.status or route.status, reply.headers)


def charge(exchange: Exchange, endpoint: Endpoint, response: web.StreamResponse) -> None:
    """Count an answer like one request for each `ANSWER_BYTES_PER_REQUEST` beyond the first, unless it is streamed.

    Raises RateLimited or Unavailable, instead of sending a large answer, if the principal owes requests, or over the
    bounds of unread answers. The answer to a write reports a change, so it is sent in any case.
    """
    size = len(response.body) if isinstance(response, web.Response) and isinstance(response.body, bytes) else 0
    if size <= SMALL_ANSWER_BYTES:
        return
    if not endpoint.takes_key and exchange.method != "HEAD":
        exchange.check_unread(size)
    limiter, requests = exchange.principal_limiter, (size - 1) // ANSWER_BYTES_PER_REQUEST
    if endpoint.permission is not None and limiter is not None and requests:
        exchange.apply_limit(
            limiter, limiter.consume_many(exchange.principal.name, requests, may_owe=endpoint.takes_key)
        )


def _note_refusal(request: web.Request, exchange: Exchange, endpoint: Endpoint, failure: SupportError) -> None:
    """Note whom an endpoint refuses, so that alerts and the log tell whom it concerns."""
    callers = request.app[SERVICE].callers
    if callers is None or endpoint.permission is None or _is_probe(request):
        return
    name = None if exchange.principal is ANONYMOUS else exchange.principal.name
    if isinstance(failure, Forbidden) and endpoint.is_change:
        callers.note_forbidden(_credential(request), name, failure, exchange.address)
    elif name is None and (credential := _credential(request)):
        callers.note_refused(credential, failure, exchange.address)


def _credential(request: web.Request) -> str:
    """Return the token of a request, or the secret of its browser's session; empty if it has neither."""
    return request.headers.get(AUTHORIZATION) or read_cookie(request) or ""


def _is_probe(request: web.Request) -> bool:
    """Return whether a request says that `support-service probe` sent it."""
    return request.headers.get(USER_AGENT, "").startswith(PROBE_USER_AGENT)
