"""Problem responses, metrics and log records for requests that are refused before the application sees them.

aiohttp answers them in plain text, does not count them, and logs the offending line, which may hold a password or body.
"""

import logging

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from support_service.guard.admission import Admission
from support_service.guard.instrumentation import new_request_id
from support_service.guard.problems import problem_response
from support_service.platform.telemetry.http import RequestMetrics
from support_service.platform.telemetry.logs import CLIENT_ERROR_LOGGER, LOG_REQUEST_ID

MAX_URL_BYTES = 8190  # bytes of the request's URL
# Bytes of one header. It differs from MAX_URL_BYTES, because aiohttp reports only the limit that was exceeded.
MAX_HEADER_BYTES = 8192
MAX_HEADERS = 100
MAX_HEAD_BYTES = 32 * 1024  # bytes of all headers; a browser sends 2 KiB, a long token has 8 KiB
TOO_MANY_HEADERS_MESSAGE = "Too many headers received"  # aiohttp's message; it has no exception class for this

log = logging.getLogger(CLIENT_ERROR_LOGGER)


class UnreadableRequestResponder:
    """Factory for the response to a request that cannot be read. Counts the refusal and logs its kind."""

    def __init__(self, metrics: RequestMetrics, admission: Admission) -> None:
        self._metrics = metrics
        self._admission = admission

    def check_head(self, request: web.BaseRequest, *, is_version_supported: bool) -> web.Response | None:
        """Return the refusal of a head that aiohttp accepts but has another version or is too large, else None."""
        if not is_version_supported:
            detail = "The request is neither HTTP/1.0 nor HTTP/1.1; it had no effect."
            return self._complete(request, self.refuse(505, "version_not_supported", detail, None))
        size = sum(len(name) + len(value) + len(": \r\n") for name, value in request.raw_headers)
        return self.respond(request, None, head_too_large=True) if size > MAX_HEAD_BYTES else None

    def respond(
        self, request: web.BaseRequest, cause: BaseException | None, *, head_too_large: bool = False
    ) -> web.Response:
        """Return the response to a request that has no route, and close its connection."""
        if head_too_large:
            response = self._headers_too_large(cause)
        elif isinstance(cause, LineTooLong) and cause.args[1] == MAX_URL_BYTES:
            response = self.refuse(414, "uri_too_long", f"The URL may have at most {MAX_URL_BYTES} bytes.", cause)
        elif isinstance(cause, LineTooLong) or str(cause).endswith(TOO_MANY_HEADERS_MESSAGE):
            response = self._headers_too_large(cause)
        else:
            response = self.refuse(
                400, "malformed_request", "The request is not valid HTTP/1.0 or HTTP/1.1; it had no effect.", cause
            )
        return self._complete(request, response)

    def _complete(self, request: web.BaseRequest, response: web.Response) -> web.Response:
        self._admission.set_headers(request, response)  # aiohttp does this only for requests with a route
        response.force_close()
        return response

    def refuse(self, status: int, code: str, detail: str, cause: BaseException | None) -> web.Response:
        """Return a problem response with a new request id, and count and log the refusal."""
        request_id = new_request_id()
        token = LOG_REQUEST_ID.set(request_id)
        self._metrics.refuse(status)
        reason = code if cause is None else f"{code}, {type(cause).__name__}"
        log.info("Refused an unreadable request: %d %s", status, reason, extra={"status": status})
        response = problem_response(status, code, detail)
        response.headers["X-Request-Id"] = request_id
        LOG_REQUEST_ID.reset(token)
        return response

    def _headers_too_large(self, cause: BaseException | None) -> web.Response:
        limits = f"{MAX_HEADERS} headers, {MAX_HEADER_BYTES} bytes in each, {MAX_HEAD_BYTES} bytes in total"
        return self.refuse(431, "headers_too_large", f"A request may have at most {limits}.", cause)
