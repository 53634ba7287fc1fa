"""Errors of the service and of its client: a kind (the class) with its HTTP status, a stable code, and what to do next.

`guard/problems.py` writes them as problem documents, and `client/errors.py` reads those.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from support_service.core.problem_codes import STATUS_BY_CODE

if TYPE_CHECKING:  # commands import this module for their help
    from pydantic import ValidationError

MAX_FIELD_ERRORS = 100  # field errors reported for one request


@dataclass(frozen=True, slots=True)
class FieldError:
    """A validation error of one request field; `field` is its dotted path."""

    field: str
    message: str


def field_errors(failure: "ValidationError", *within: str, whole: str = "body") -> list[FieldError]:
    """Return a pydantic validation's errors, at most MAX_FIELD_ERRORS.

    `within` is the model's path in the request. An error of the model as a whole names `whole` as its field.
    """
    return [
        FieldError(".".join(map(str, (*within, *error["loc"]))) or whole, error["msg"].removeprefix("Value error, "))
        for error in failure.errors(include_url=False, include_input=False)[:MAX_FIELD_ERRORS]
    ]


class UserError(Exception):
    """An expected error, which the command line shows as one line: its text says what is wrong and what to do."""


class SupportError(UserError):
    """Base of the errors that a client can act on. The service raises them, and so does its client for an answer.

    `code` is the stable code of the problem, `status` the HTTP status, `detail` says what to do next, `errors` lists
    the invalid fields. `problem` has further members of the problem document; of an answer, the whole document.
    """

    status: int | None = None  # None if there was no answer
    retry_after: float | None = None  # seconds until the next request is allowed, if that is known
    request_id: str | None = None  # of an answer: identifies the request in the log of the service
    reason: str = ""  # which case of the code it is, for the service itself
    caller: str | None = None  # whom a refused token names, if that is certain; for the log, not for the answer
    problem: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, code: str, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)


class Unauthenticated(SupportError):
    """The token is missing, invalid or expired."""

    status = 401


class Forbidden(SupportError):
    """The caller is authenticated but not allowed to do this."""

    status = 403


class NotFound(SupportError):
    """The requested object does not exist, or the caller may not see it."""

    status = 404


class Conflict(SupportError):
    """The request conflicts with the current state."""

    status = 409


class VersionConflict(SupportError):
    """The object was changed after the caller read it. The answer may say how."""

    status = 412
    current_version: int | None = None  # the version of the case now
    messages: Sequence[Any] = ()  # that were added to the case since the expected version, as the client's `Message`


class ValidationFailed(SupportError):
    """The request breaks a rule, and a repeat changes nothing; `errors` lists each violation.

    Also a request that can't be parsed (400), is too large (413), or has a type that is not allowed (415).
    """

    status = 422


class RateLimited(SupportError):
    """The caller exceeded its rate limit."""

    status = 429


class ServiceFailed(SupportError):
    """5xx: the service, or what is in front of it, failed."""

    status = 500


class Unavailable(ServiceFailed):
    """A dependency of the request is unavailable or full (507); the same request may succeed later."""

    status = 503


KIND_BY_STATUS: Mapping[int | None, type[SupportError]] = {
    **{
        kind.status: kind
        for kind in list(vars().values())
        if isinstance(kind, type) and issubclass(kind, SupportError) and "status" in vars(kind)
    },
    **dict.fromkeys((400, 413, 415), ValidationFailed),
    507: Unavailable,
}


def problem(
    code: str,
    detail: str,
    errors: Sequence[FieldError] = (),
    *,
    reason: str = "",
    retry_after: float | None = None,
    limit_bytes: int | None = None,
) -> SupportError:
    """Return the error of a code in `problem_codes`, which has its status. The status has its class.

    `retry_after` is in seconds, `limit_bytes` the size that a file may have. `reason` tells errors of one code apart.
    """
    status = STATUS_BY_CODE[code]
    failure = KIND_BY_STATUS.get(status, SupportError)(code, detail, errors)
    failure.status = status
    failure.reason, failure.retry_after = reason, retry_after
    if limit_bytes is not None:
        failure.problem = {"limitBytes": limit_bytes}
    return failure


@contextmanager
def suppress_codes(*codes: str) -> Iterator[None]:
    """Suppress an error that has one of these codes."""
    try:
        yield
    except SupportError as failure:
        if failure.code not in codes:
            raise


def case_not_found(case_id: str) -> SupportError:
    """Return the error for a case that does not exist, the same at every endpoint."""
    return problem("case_not_found", f"There is no case {case_id[:64]!r}.")
