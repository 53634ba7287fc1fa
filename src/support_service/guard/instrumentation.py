"""The middleware of every request: its id, its metrics, its admission, its errors, and its line in the access log."""

import logging
import os
import random
import re
from time import perf_counter

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import istr

from support_service.guard.admission import Admission
from support_service.guard.overload import Readiness
from support_service.guard.problems import CLIENT_CLOSED_REQUEST, PROBLEM_CODE, response_to_failure
from support_service.platform.telemetry.http import PROBE_USER_AGENT, RequestMetrics
from support_service.platform.telemetry.logs import LOG_CASE_ID, LOG_REQUEST_ID
from support_service.platform.telemetry.traces import continue_trace, end_trace, set_span_scheme

REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,64}")
REQUEST_ID = web.RequestKey("request_id", str)
STREAM_BEGAN_AT = web.RequestKey("stream_began", float)  # when the answer began, for an answer that goes on for hours
REQUEST_ID_HEADER = istr("X-Request-Id")
USER_AGENT = istr("User-Agent")

log = logging.getLogger("support_service.access")


def new_request_id() -> str:
    """Return an id for a request whose client sent none, or one that is unsuitable for logs."""
    return os.urandom(8).hex()


def is_probe(request: web.BaseRequest) -> bool:
    """Return whether a request says that `support-service probe` sent it."""
    return request.headers.get(USER_AGENT, "").startswith(PROBE_USER_AGENT)


def guard_middleware(
    metrics: RequestMetrics, readiness: Readiness, admission: Admission, access_log: float, *, checks_admission: bool
) -> Middleware:
    """Return a middleware that measures requests, admits them, and logs the share `access_log` (0 to 1) of them.

    It converts errors to problems. One middleware does all this, because every request pays for each further one.

    Server errors are always logged. Once shutdown has begun, each response closes its connection, so that no client
    sends another request during the shutdown.
    """

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = perf_counter()
        request_id = request.headers.get(REQUEST_ID_HEADER)
        if request_id is None or not REQUEST_ID_PATTERN.fullmatch(request_id):
            request_id = new_request_id()
        resource = request.match_info.route.resource
        route = resource.canonical if resource else None
        request[REQUEST_ID] = request_id
        tokens = LOG_REQUEST_ID.set(request_id), LOG_CASE_ID.set(request.match_info.get("case_id"))
        status = 500  # remains if the handler is cancelled at shutdown
        response: web.StreamResponse | None = None
        scheme = admission.scheme(request)
        if scheme == "https":
            set_span_scheme(scheme)
        metrics.begin(request.method, route, scheme, request.headers.get(USER_AGENT, ""))
        readiness.in_progress += 1
        trace = continue_trace(request.headers)
        try:
            try:
                response = (admission.admit(request) if checks_admission else None) or await handler(request)
            except Exception as failure:  # noqa: BLE001 - every error has an answer
                response = response_to_failure(request, failure)
            status = response.status
            if not response.prepared:
                if request.transport is None or request.transport.is_closing():
                    status = CLIENT_CLOSED_REQUEST  # the client has gone and cannot read the response
                response.headers[REQUEST_ID_HEADER] = request_id
                if not readiness.accepting:
                    response.force_close()
        finally:
            admission.large_bodies.end(request)
            readiness.in_progress -= 1
            ended = perf_counter()
            if response is None or response.prepared:  # its handler may have begun a stream
                ended = request.get(STREAM_BEGAN_AT, ended)
            seconds = ended - started
            error = "client_left" if status == CLIENT_CLOSED_REQUEST else None
            metrics.end(request.method, route, status, seconds, scheme=scheme, error=error)
            if status >= 500 or (access_log and random.random() < access_log):  # noqa: PLR2004 - HTTP's own boundary
                _log_access(request, route, status, response, seconds)
            LOG_REQUEST_ID.reset(tokens[0])
            LOG_CASE_ID.reset(tokens[1])
            end_trace(trace)
        return response

    return observe


def _log_access(
    request: web.Request, route: str | None, status: int, response: web.StreamResponse | None, seconds: float
) -> None:
    code = None if response is None else response.get(PROBLEM_CODE)
    log.log(
        logging.WARNING if status >= 500 else logging.INFO,  # noqa: PLR2004 - HTTP's own boundary
        "%s %s %d",
        request.method,
        request.path,
        status,
        extra={"route": route, "status": status, "code": code, "seconds": round(seconds, 6)},
    )
