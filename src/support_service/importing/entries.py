"""The entries of an import, one for each case, and how their documents become cases."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import pydantic_core
from pydantic import BaseModel, ValidationError

from support_service.cases.model.requests import NewMessage
from support_service.cases.model.vocabulary import Json
from support_service.core.errors import MalformedRequest, SupportError, ValidationFailed, field_errors
from support_service.core.json_input import in_camel_case
from support_service.guard.json_body import INVALID_REQUEST, parse_json
from support_service.importing.model import ImportedCase

# What mappers raise for a document that is not in the form of the other system.
NOT_IN_THE_EXPECTED_FORM = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class KeptIds:
    """Ids that a case and its files keep, the files by their path; all others get new ones."""

    case: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """One case in the form of the file or database, or the reason why it can't be read.

    `place` is the number of its line or of its place in the document, from 1. `size` is what it adds to the progress.
    """

    place: int
    size: int
    document: object = None
    refusal: SupportError | None = None
    kept: KeptIds = KeptIds()


Entries = AsyncIterator[Entry]
Mapper = Callable[[Json], Json]
"""Returns a document of another system as the JSON of an ImportedCase. Raises ValidationFailed and MalformedRequest."""


def checked(place: int, size: int, document: object, kept: KeptIds = KeptIds()) -> Entry:
    """Return an entry with a document that was not parsed by `parse_json`, if it is within the limits of all JSON."""
    try:
        return Entry(place, size, parse_json(pydantic_core.to_json(document, inf_nan_mode="constants")), kept=kept)
    except SupportError as failure:
        return Entry(place, size, refusal=failure)
    except (ValueError, RecursionError):  # nested too deeply to be written
        return Entry(place, size, refusal=MalformedRequest("malformed_json", "The case is nested too deeply."))


def to_case(document: object, mapper: Mapper) -> ImportedCase:
    """Return the case of a document.

    Raises ValidationFailed with every field that breaks a rule, and MalformedRequest for JSON in a text.
    """
    if not isinstance(document, dict):
        raise ValidationFailed("invalid_request", "A case must be a JSON object.")
    try:
        mapped = mapper(document)
    except NOT_IN_THE_EXPECTED_FORM as failure:
        raise ValidationFailed("invalid_request", f"The case is not in the expected form: {failure!r}.") from failure
    return _validate(_with_field_names(ImportedCase, mapped))


def _with_field_names(model: type[BaseModel], sent: Json) -> Json:
    renamed, errors = in_camel_case(model, sent)
    assert isinstance(renamed, dict)  # noqa: S101 - so was `sent`
    messages = renamed.get("messages")
    if isinstance(messages, list):
        found = [in_camel_case(NewMessage, message) for message in messages]
        renamed["messages"] = [message for message, _ in found]
        errors += [error for _, each in found for error in each]
    if errors:
        raise ValidationFailed("invalid_request", INVALID_REQUEST, errors)
    return renamed


def _validate(document: Json) -> ImportedCase:
    try:
        return ImportedCase.model_validate(document)
    except ValidationError as failure:
        raise ValidationFailed("invalid_request", INVALID_REQUEST, field_errors(failure)) from None
