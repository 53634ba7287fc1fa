"""What can go wrong in the domain: a kind, a stable code and a sentence that says what to do next.

The kinds know nothing of HTTP; `http/problems.py` alone gives them a status.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from support_service.core.refusals import Refusal

MAX_TOLD = 100  # fields of a request that are named as wrong


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field of a request; `field` is its dotted path."""

    field: str
    message: str


def field_errors(failure: ValidationError, *within: str) -> list[FieldError]:
    """What a model found wrong, up to MAX_TOLD fields; `within` is where the model lies in the request."""
    return [
        FieldError(".".join(map(str, (*within, *error["loc"]))) or "body", error["msg"].removeprefix("Value error, "))
        for error in failure.errors(include_url=False, include_input=False)[:MAX_TOLD]
    ]


class SupportError(Refusal):
    """A refusal that a client can act on."""

    def __init__(self, code: str, message: str, fields: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.fields = tuple(fields)


class NotFound(SupportError):
    """The thing named does not exist."""


class Conflict(SupportError):
    """The request does not fit the present state."""


class Outdated(SupportError):
    """The thing is no longer as the caller knows it."""


class Malformed(SupportError):
    """The request can't be read at all."""


class Invalid(SupportError):
    """The request can be read, but breaks a rule; `fields` names each place."""


class TooLarge(SupportError):
    """The request is over a limit in size."""


class TooSlow(SupportError):
    """The request did not arrive in time."""


class UnsupportedType(SupportError):
    """The request's content type is none that is read here."""


class Unauthenticated(SupportError):
    """Nobody knows who the caller is."""


class Forbidden(SupportError):
    """The caller may not do this."""


class Misdirected(SupportError):
    """The request was sent to a name that is none of the service's."""


class AddressTooLong(SupportError):
    """The request's address is over a limit in size."""


class TooOften(SupportError):
    """The caller asks too often; `retry_after` says in how many seconds there is room again."""

    def __init__(self, code: str, message: str, retry_after: int) -> None:
        super().__init__(code, message)
        self.retry_after = retry_after


class Unavailable(SupportError):
    """A part that the request needs is out of reach; the same request may succeed later."""


class OutOfSpace(SupportError):
    """There is no room to keep what was sent."""


def no_case(case_id: str) -> NotFound:
    """What every room says of a case that does not exist."""
    return NotFound("case_not_found", f"There is no case {case_id[:64]!r}.")
