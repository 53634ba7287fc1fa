"""Conversion of errors to problem responses (RFC 9457)."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import pydantic_core
from aiohttp import web
from pydantic import BaseModel, Field

from support_service.core import errors
from support_service.core.errors import FieldError, SupportError
from support_service.core.problem_codes import STATUS_BY_CODE
from support_service.platform.telemetry.logs import LOG_REQUEST_ID, cause_chain, describe_cause, outage_logger

RETRY_AFTER_BY_STATUS = {503: "1", 507: "60"}  # seconds
CHALLENGE = 'Bearer realm="support-service"'
QUOTED_STRING_REPLACEMENTS = str.maketrans('"\\', "''")
CLIENT_CLOSED_REQUEST = 499  # nginx's status for a client that closed its connection before the response
CODE_BY_STATUS = {
    404: "route_not_found",
    405: "method_not_allowed",
    413: "body_too_large",
}  # errors that aiohttp itself raises
DETAIL_BY_STATUS = {
    404: "There is no such path; /openapi.json lists all paths.",
    413: "The body exceeds the size limit of this request.",
}

PROBLEM_CODE = web.ResponseKey("problem_code", str)  # the code of a problem response, for the access log

log = logging.getLogger(__name__)


class FieldProblem(BaseModel):
    """One error of one field."""

    field: str = Field(description="the field's dotted path")
    message: str


class Problem(BaseModel):
    """A problem as defined by RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="what to do next")
    code: str = Field(description="stable code for programs")
    requestId: str | None = Field(description="identifies the request in the log")  # noqa: N815 - JSON is in camelCase
    errors: list[FieldProblem] | None = Field(default=None, description="each invalid field")
    limitBytes: int | None = Field(  # noqa: N815
        default=None, description="of `attachment_too_large`: the size that a file may have at most"
    )
    currentVersion: int | None = Field(  # noqa: N815
        default=None, description="of `case_changed` for a message: the number in the `ETag` that the case has now"
    )
    messages: list[dict[str, Any]] | None = Field(
        default=None,
        description="of `case_changed` for a message: the messages that were added since, at most the newest 50",
    )


def response_to_failure(request: web.Request, failure: Exception) -> web.Response:
    """Return the problem of an error. Unexpected errors are logged with a traceback; the response omits it."""
    if isinstance(failure, SupportError):
        return _response_to_error(failure)
    if isinstance(failure, web.HTTPException):
        response = problem_response(
            CODE_BY_STATUS.get(failure.status, "http_error"),
            DETAIL_BY_STATUS.get(failure.status, failure.reason),
            status=failure.status,
        )
        if "Allow" in failure.headers:
            response.headers["Allow"] = failure.headers["Allow"]
        return response
    if isinstance(failure, web.RequestPayloadError):
        response = problem_response("malformed_body", f"The body can't be read: {' '.join(str(failure).split())}")
        response.force_close()
        failure.__traceback__ = None  # refers to the body's stream, which keeps the error
        return response
    if isinstance(failure, ConnectionError) and (request.transport is None or request.transport.is_closing()):
        failure.__traceback__ = None  # refers to the body's stream, which keeps the error
        return web.Response(status=CLIENT_CLOSED_REQUEST)
    log.error("%s %s failed", request.method, request.path, exc_info=failure)
    return problem_response(
        "internal_error", "The service failed unexpectedly; its log has the details under the request id."
    )


def _response_to_error(error: SupportError) -> web.Response:
    """Return the response of an error; what is unavailable is logged."""
    response = problem_response(error.code, error.detail, error.errors, error.problem, status=error.status)
    if isinstance(error, errors.Unavailable):
        _log_unavailable(error)
    if error.status == HTTPStatus.REQUEST_TIMEOUT:
        response.force_close()
    if isinstance(error, errors.Unauthenticated):
        response.headers["WWW-Authenticate"] = _challenge(error)
    if isinstance(error, errors.RateLimited):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _log_unavailable(error: SupportError) -> None:
    """Log the code and the innermost cause, which the response omits."""
    cause = f" ({describe_cause(error)})" if len(cause_chain(error)) > 1 else ""
    outage_logger(error.code).warning("%s%s", error.detail.rstrip("."), cause)


def _challenge(error: errors.Unauthenticated) -> str:
    """Return the WWW-Authenticate header of RFC 6750. A client that sent a token learns why it is invalid."""
    if error.code == "token_missing":
        return CHALLENGE
    return (
        f'{CHALLENGE}, error="invalid_token", error_description="{error.detail.translate(QUOTED_STRING_REPLACEMENTS)}"'
    )


def problem_response(
    code: str,
    detail: str,
    fields: Sequence[FieldError] = (),
    members: Mapping[str, Any] = MappingProxyType({}),
    *,
    status: int | None = None,
) -> web.Response:
    """Return an `application/problem+json` response, with Retry-After for 503 and 507.

    `members` are added to the members of every problem. Without a `status` the response has that of the code.
    """
    status = status or STATUS_BY_CODE[code] or 500
    document = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        code=code,
        requestId=LOG_REQUEST_ID.get(),
        errors=[FieldProblem(field=field.field, message=field.message) for field in fields] or None,
    )
    body = pydantic_core.to_json(document, exclude_none=True)
    if members:
        body = b"%b,%b" % (body[:-1], pydantic_core.to_json(members, inf_nan_mode="null")[1:])
    headers = {"Retry-After": RETRY_AFTER_BY_STATUS[status]} if status in RETRY_AFTER_BY_STATUS else None
    response = web.Response(body=body, status=status, headers=headers, content_type="application/problem+json")
    response[PROBLEM_CODE] = code
    return response
