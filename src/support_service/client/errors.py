"""What a call of the API raises: one exception for each kind of answer, with the code of the problem.

The codes are those of `core/problem_codes.py`. The kinds have the names of the errors of the service.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import pydantic_core
from pydantic import ValidationError

from support_service.cases.model.case import Message
from support_service.core.errors import FieldError
from support_service.core.user_error import UserError

UNREADABLE = "http_error"  # code of an answer that is not a problem, such as a load balancer's


class SupportError(UserError):
    """A call that failed.

    `code` is the stable code of the problem, `status` the status of the answer (None without an answer), `detail` says
    what to do next, `errors` lists invalid fields, and `request_id` identifies the request in the log of the service.
    """

    def __init__(self, code: str, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status
        self.errors: tuple[FieldError, ...] = ()
        self.request_id: str | None = None
        self.retry_after: float | None = None  # seconds, if the answer says when to repeat the request
        self.problem: Mapping[str, Any] = {}  # the whole document of the problem

    def __str__(self) -> str:
        fields = "; ".join(f"{error.field}: {error.message}" for error in self.errors)
        return f"{self.detail} ({fields})" if fields else self.detail


class NoAnswer(SupportError):
    """The service gave no whole answer; `may_pass` is False if another attempt would fail too."""

    def __init__(self, detail: str, *, may_pass: bool = True) -> None:
        super().__init__("no_answer", detail)
        self.may_pass = may_pass


class UnexpectedAnswer(SupportError):
    """The answer is not one of this API, or the file that it is about has other bytes."""


class MalformedRequest(SupportError):
    """400: the request can't be parsed."""


class Unauthenticated(SupportError):
    """401: the token is missing, invalid or expired."""


class Forbidden(SupportError):
    """403: the caller may not do this."""


class NotFound(SupportError):
    """404: the object does not exist, or the caller may not see it."""


class RequestTimeout(SupportError):
    """408: the request did not arrive within its time limit."""


class Conflict(SupportError):
    """409: the request conflicts with the current state."""


class VersionConflict(SupportError):
    """412: the object was changed since it was read."""

    @property
    def current_version(self) -> int | None:
        """The version of the case now, if the answer names it."""
        version = self.problem.get("currentVersion")
        return version if isinstance(version, int) else None

    @property
    def messages(self) -> list[Message]:
        """The messages that were added to the case since the expected version, if the answer has them."""
        try:
            return [Message.model_validate(message) for message in self.problem.get("messages") or ()]
        except (TypeError, ValidationError):
            return []


class RequestTooLarge(SupportError):
    """413: the request exceeds a size limit."""


class UnsupportedMediaType(SupportError):
    """415: the content type is not supported, or files of this type are not allowed."""


class ValidationFailed(SupportError):
    """422: fields are invalid; `errors` lists them."""


class RateLimited(SupportError):
    """429: the caller exceeded its rate limit."""


class ServiceFailed(SupportError):
    """5xx: the service, or what is in front of it, failed."""


class Unavailable(ServiceFailed):
    """503: the service can't do this now."""


class InsufficientStorage(ServiceFailed):
    """507: the service has no space for the file."""


KIND_BY_STATUS: Mapping[int, type[SupportError]] = {
    400: MalformedRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    408: RequestTimeout,
    409: Conflict,
    412: VersionConflict,
    413: RequestTooLarge,
    415: UnsupportedMediaType,
    422: ValidationFailed,
    429: RateLimited,
    503: Unavailable,
    507: InsufficientStorage,
}


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> SupportError:
    """Return the exception for an answer whose status is not that of a success."""
    problem = _problem(body)
    fallback = ServiceFailed if status >= HTTPStatus.INTERNAL_SERVER_ERROR else SupportError
    detail = problem.get("detail") or f"the service answered {status}"
    error = KIND_BY_STATUS.get(status, fallback)(str(problem.get("code") or UNREADABLE), str(detail), status)
    error.problem = problem
    error.request_id = problem.get("requestId") or headers.get("X-Request-Id")
    error.errors = tuple(_field_errors(problem))
    after = headers.get("Retry-After", "")
    error.retry_after = float(after) if after.isascii() and after.isdigit() else None  # a date is ignored
    return error


def _problem(body: bytes) -> dict[str, Any]:
    try:
        found = pydantic_core.from_json(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _field_errors(problem: Mapping[str, Any]) -> list[FieldError]:
    listed = problem.get("errors")
    return [
        FieldError(str(each.get("field", "")), str(each.get("message", "")))
        for each in (listed if isinstance(listed, list) else ())
        if isinstance(each, dict)
    ]
