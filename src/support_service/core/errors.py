"""Domain errors: a kind (the class), a stable code, and a sentence that says what to do next.

The kinds are independent of HTTP; only `guard/problems.py` maps them to a status.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from support_service.core.user_error import UserError

if TYPE_CHECKING:  # commands import this module for their help
    from pydantic import ValidationError

MAX_FIELD_ERRORS = 100  # field errors reported for one request


@dataclass(frozen=True, slots=True)
class FieldError:
    """A validation error of one request field; `field` is its dotted path."""

    field: str
    message: str


def field_errors(failure: "ValidationError", *within: str) -> list[FieldError]:
    """Return a pydantic validation's errors, at most MAX_FIELD_ERRORS; `within` is the model's path in the request."""
    return [
        FieldError(".".join(map(str, (*within, *error["loc"]))) or "body", error["msg"].removeprefix("Value error, "))
        for error in failure.errors(include_url=False, include_input=False)[:MAX_FIELD_ERRORS]
    ]


class SupportError(UserError):
    """Base of the errors that a client can act on: a stable code, a message and the invalid fields.

    `members` are JSON members that a problem of this code has besides those of every problem.
    """

    members: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, code: str, message: str, fields: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fields = tuple(fields)


class NotFound(SupportError):
    """The requested object does not exist."""


class Conflict(SupportError):
    """The request conflicts with the current state."""


class VersionConflict(SupportError):
    """The object was changed after the caller read it."""


class MalformedRequest(SupportError):
    """The request can't be parsed."""


class ValidationFailed(SupportError):
    """The request can be parsed but breaks a validation rule; `fields` lists each violation."""


class RequestTooLarge(SupportError):
    """The request exceeds a size limit."""


class RequestTimeout(SupportError):
    """The request did not arrive within its time limit."""


class UnsupportedMediaType(SupportError):
    """The request's content type is not supported."""


class Unauthenticated(SupportError):
    """The caller could not be authenticated."""


class Forbidden(SupportError):
    """The caller is authenticated but not allowed to do this."""


class MisdirectedRequest(SupportError):
    """The request was sent to a host name that the service does not serve."""


class UriTooLong(SupportError):
    """The request's URI exceeds a size limit."""


class RateLimited(SupportError):
    """The caller exceeded its rate limit; `retry_after` is the number of seconds until the next request is allowed."""

    def __init__(self, code: str, message: str, retry_after: int) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after


class Unavailable(SupportError):
    """A dependency of the request is unavailable; the same request may succeed later."""


class InsufficientStorage(SupportError):
    """The storage has no space left for the request's data."""


def case_not_found(case_id: str) -> NotFound:
    """Return the error for a case that does not exist, the same at every endpoint."""
    return NotFound("case_not_found", f"There is no case {case_id[:64]!r}.")
