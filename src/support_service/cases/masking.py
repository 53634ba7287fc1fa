"""Masking for analysts: countable values stay; the customer's identity and texts are hidden. Pure.

The fields of models are masked as they declare, see core/personal.py. Members of timeline entries are masked unless
they are listed here or by the declaration of their source.
"""

import hmac
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel

from support_service.cases.model.case import CaseSummary
from support_service.cases.model.requests import CaseFilters
from support_service.cases.model.vocabulary import Json
from support_service.core.domain.case_vocabulary import KNOWN_CONTENT_TYPES, KNOWN_SENTIMENTS, STAFF_AUTHOR_TYPES
from support_service.core.domain.upstream_services import SERVICE_BY_KIND, SOURCES
from support_service.core.personal import Personal, rules_of
from support_service.platform.telemetry.instruments import known_or_other

MASKED_TEXT = "[masked]"
PSEUDONYM_LENGTH = 16  # hex digits: two customers share a pseudonym with a probability of 1 in 2^64
IDENTIFYING_MEMBERS = frozenset({"id", "customerId", "authorId", *(f"{kind}Id" for kind in SERVICE_BY_KIND)})
# At most four digits: five may be a personal number.
WORD_PATTERN = re.compile(r"(?!(?:\D*\d){5})[A-Za-z0-9_.:+-]{1,40}")
TIMESTAMP_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")
AMOUNT_PATTERN = re.compile(r"-?\d{1,8}(\.\d{1,4})?")
LARGE_AMOUNT_PATTERN = re.compile(r"-?[1-9]\d{8,99}(\.\d{1,99})?")
AMOUNT_DIGITS = 4  # after the point
MAX_AMOUNT = 10**8  # a number with more digits may be that of a card, an account or a telephone: a bound is shown
ABOVE, BELOW = f">= {MAX_AMOUNT}", f"<= -{MAX_AMOUNT}"
# Members that hold no personal data, as long as the value matches the pattern: a single word, a time, or an amount.
VISIBLE_MEMBERS = dict.fromkeys(("timestamp", "receivedAt"), TIMESTAMP_PATTERN) | dict.fromkeys(
    ("type", "origin", "source", "status", "eventType", "authorType", "visibility"), WORD_PATTERN
)
VISIBLE_MEMBERS["sentiment"] = re.compile("|".join(KNOWN_SENTIMENTS))
TYPES_WITH_AMOUNTS = frozenset(source.kind for source in SOURCES.values() if source.amount_members)
VISIBLE_WITH_AMOUNTS = VISIBLE_MEMBERS | {
    name: AMOUNT_PATTERN for source in SOURCES.values() for name in source.amount_members
}
# Member names that stay visible. Any other name is masked, because it may be free text.
KNOWN_MEMBER_NAMES = (
    VISIBLE_WITH_AMOUNTS.keys()
    | IDENTIFYING_MEMBERS
    | {"message", "attachmentUri", "attachmentIds", "metadata", "filename", "uri"}
    | {name for source in SOURCES.values() for name in source.personal}
)


ModelT = TypeVar("ModelT", bound=BaseModel)


class Masker:
    """Masks with a secret key; the same key gives a customer the same pseudonym in every export.

    `key`: makes pseudonyms stable across replicas and restarts; a random key if None.
    `channels`: channels that stay visible.
    """

    def __init__(self, key: str | None, channels: Collection[str]) -> None:
        self._known = {"channel": channels, "content_type": KNOWN_CONTENT_TYPES, "sentiment": KNOWN_SENTIMENTS}
        self._key = os.fsencode(key or secrets.token_hex())
        self._masks: dict[str, Callable[[str, Any], Any]] = {
            "shown": lambda _, value: value,
            "masked": lambda *_: MASKED_TEXT,
            "words": lambda _, value: [each if is_harmless_word(each) else MASKED_TEXT for each in value],
            "known": lambda name, value: known_or_other(value, self._known[name]),
            "pseudonym": lambda _, value: self.pseudonym_of(value),
            "author": lambda _, value: self.pseudonym_of(value),
            "entries": lambda _, value: self.mask_entries(value),
            "hidden": lambda _, value: "" if isinstance(value, str) else None,
            "parts": lambda _, value: self.mask_all(value) if isinstance(value, list) else self.mask(value),
        }

    def mask(self, model: ModelT) -> ModelT:
        """Return a copy of a model as analysts are shown it. Raises TypeError for a field without a rule."""
        values = [(name, rule, getattr(model, name)) for name, rule in _masked_fields(type(model))]
        if getattr(model, "author_type", None) in STAFF_AUTHOR_TYPES:
            values = [each for each in values if each[1] != "author"]
        masked = {name: self._masks[rule](name, value) for name, rule, value in values if value is not None}
        return model.model_copy(update=masked) if masked else model

    def mask_all(self, models: Sequence[ModelT]) -> list[ModelT]:
        """Return copies of models as analysts are shown them."""
        return [self.mask(model) for model in models]

    def mask_published_case(self, ticket: Json) -> Json:
        """Return the JSON of a published case as analysts are shown it."""
        return self.mask(CaseSummary.model_validate(ticket)).model_dump(mode="json", by_alias=True)

    def filters_by_masked(self, query: CaseFilters) -> bool:
        """Return whether a query has a filter by what is masked, so that its answer would undo the masking."""
        return any(
            self._is_masked(rule, name, value)
            for name, rule in rules_of(CaseFilters).items()
            if (value := getattr(query, name)) not in (None, ())
        )

    def _is_masked(self, rule: Personal, name: str, value: Any) -> bool:
        if rule.analyst == "words":
            return not all(map(is_harmless_word, value))
        return value not in self._known[name] if rule.analyst == "known" else rule.analyst != "shown"

    def mask_changes(self, changes: Mapping[str, list[Any]]) -> Json:
        """Return a copy of changed fields by their JSON names, each as [before, after]; fields of a case are masked.

        `model/history.py` says which fields analysts see at all.
        """
        masked = {CaseSummary.model_fields[name].alias: (name, rule) for name, rule in _masked_fields(CaseSummary)}
        return {
            member: [value and self._masks[rule](name, value) for value in values]
            for member, values in changes.items()
            for name, rule in (masked.get(member, (member, "shown")),)
        }

    def pseudonym_of(self, identifier: str) -> str:
        """Return the pseudonym of an id: `PSEUDONYM_LENGTH` hex digits that can't be reversed without the key."""
        return hmac.digest(self._key, identifier.encode(), "sha256").hex()[:PSEUDONYM_LENGTH]

    def mask_entries(self, entries: Iterable[Mapping[str, Any]]) -> list[Json]:
        """Return copies of timeline or context entries with masked values."""
        return [self._mask_entry(entry) for entry in entries]

    def mask_message_entries(self, entries: Iterable[Mapping[str, Any]]) -> list[Json]:
        """Return copies of timeline entries of messages and files, which this service has made, with masked values."""
        return [
            self._mask_entry(entry)
            | ({"authorId": entry["authorId"]} if entry.get("authorType") in STAFF_AUTHOR_TYPES else {})
            for entry in entries
        ]

    def _mask_entry(self, entry: Mapping[str, Any]) -> Json:
        kind = entry.get("type")  # in a context any JSON
        has_amounts = isinstance(kind, str) and kind in TYPES_WITH_AMOUNTS
        harmless = VISIBLE_WITH_AMOUNTS if has_amounts else VISIBLE_MEMBERS
        return {
            name if name in KNOWN_MEMBER_NAMES else MASKED_TEXT: self._mask_member(name, value, harmless.get(name))
            for name, value in entry.items()
        }

    def _mask_member(self, name: str, value: Any, harmless_pattern: re.Pattern[str] | None) -> Any:
        if name in IDENTIFYING_MEMBERS and isinstance(value, str | int):
            return self.pseudonym_of(str(value))
        return _keep_if_matching(value, harmless_pattern)


@cache
def _masked_fields(model: type[BaseModel]) -> list[tuple[str, str]]:
    """Return the name and what analysts are shown of each field that they are not shown as it is."""
    return [
        (name, rule.analyst) for name, rule in rules_of(model).items() if rule.analyst not in ("shown", "never sent")
    ]


def is_harmless_word(text: str) -> bool:
    """Return whether analysts are shown a tag: it is one word, without a number of a person."""
    return WORD_PATTERN.fullmatch(text) is not None


def _keep_if_matching(value: Any, harmless_pattern: re.Pattern[str] | None) -> Any:
    if value is None:
        return value
    if harmless_pattern is AMOUNT_PATTERN:
        return _mask_amount(value)
    return value if harmless_pattern and isinstance(value, str) and harmless_pattern.fullmatch(value) else MASKED_TEXT


def _mask_amount(value: Any) -> Any:
    """Return an amount of at most eight digits before the point, or the bound that a larger one exceeds."""
    if isinstance(value, int | float):
        if abs(value) < MAX_AMOUNT:
            return round(value, AMOUNT_DIGITS)
        return ABOVE if value > 0 else BELOW if value < 0 else MASKED_TEXT  # NaN is neither
    if not isinstance(value, str):
        return MASKED_TEXT
    if LARGE_AMOUNT_PATTERN.fullmatch(value):
        return BELOW if value.startswith("-") else ABOVE
    return value if AMOUNT_PATTERN.fullmatch(value) else MASKED_TEXT
