"""Masking of cases for analysts: countable values stay; the customer's identity and texts are hidden. Pure.

Members of timeline entries are masked unless listed. Fields of a case are masked only if listed below.
"""

import hmac
import os
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

from support_service.cases.model.case import Attachment, Case, CaseSummary, Message
from support_service.cases.model.requests import CaseFilters
from support_service.cases.model.vocabulary import Json
from support_service.core.domain.content_types import KNOWN_CONTENT_TYPES
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.telemetry.labels import known_or_other

MASKED = "[masked]"
PSEUDONYM_LENGTH = 16  # hex digits: two customers share a pseudonym with a probability of 1 in 2^64
IDENTIFYING = frozenset({"id", "customerId", *(f"{kind}Id" for kind in SERVICE_BY_KIND)})
# At most four digits: five may be a personal number.
WORD_PATTERN = re.compile(r"(?!(?:\D*\d){5})[A-Za-z0-9_.:+-]{1,40}")
TIMESTAMP_PATTERN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)")
AMOUNT_PATTERN = re.compile(r"-?\d{1,12}(\.\d{1,4})?")
# Members that hold no personal data, as long as the value matches the pattern: a single word, a time, or an amount.
VISIBLE_MEMBERS = dict.fromkeys(("timestamp", "receivedAt"), TIMESTAMP_PATTERN) | dict.fromkeys(
    ("type", "origin", "source", "status", "eventType", "authorType", "sentiment", "visibility"), WORD_PATTERN
)
# Member names that stay visible, beside those of the sources. Any other name is masked, because it may be free text.
KNOWN_MEMBER_NAMES = (
    VISIBLE_MEMBERS.keys() | IDENTIFYING | {"message", "attachmentUri", "attachmentIds", "metadata", "filename", "uri"}
)


AnyCase = TypeVar("AnyCase", bound=CaseSummary)


class CaseMasker:
    """Masks cases with a secret key; the same key gives a customer the same pseudonym in every export.

    `key`: makes pseudonyms stable across replicas and restarts; a random key if None.
    `amounts`: members of timeline entries with amounts of money, by entry type; their values stay visible.
    `personal`: members of timeline entries whose names stay visible and whose values are masked.
    `channels`: channels that stay visible.
    """

    def __init__(
        self,
        key: str | None,
        amounts: Mapping[str, Collection[str]],
        personal: Collection[str],
        channels: Collection[str],
    ) -> None:
        self._channels = channels
        self._key = os.fsencode(key or secrets.token_hex())
        self._types_with_amounts = amounts.keys()
        self._visible_with_amounts = VISIBLE_MEMBERS | {
            name: AMOUNT_PATTERN for names in amounts.values() for name in names
        }
        self._known_names = KNOWN_MEMBER_NAMES | self._visible_with_amounts.keys() | {*personal}

    def summary(self, case: AnyCase) -> AnyCase:
        """Return a copy of the case (without conversation) with masked texts and pseudonymous ids."""
        return case.model_copy(update=self._masked_fields(case))

    def case(self, case: Case) -> Case:
        """Return a copy of the case with its conversation, attachments and timeline masked too."""
        return case.model_copy(
            update=self._masked_fields(case)
            | {
                "messages": [self._message(message) for message in case.messages],
                "attachments": [self.attachment(attachment) for attachment in case.attachments],
                "timeline": self.entries(case.timeline),
            }
        )

    def asks_for_masked(self, query: CaseFilters) -> bool:
        """Return whether a query has a filter by what is masked, so that its answer would undo the masking."""
        personal = (query.q, query.customer_id, query.order_id, query.payment_id, query.shipment_id)
        if any(personal) or not all(map(is_visible_tag, query.tag)):
            return True
        return query.channel is not None and query.channel not in self._channels

    def attachment(self, attachment: Attachment) -> Attachment:
        """Return a copy of the attachment that shows its content type and size, but no name, URI or checksum."""
        kind = known_or_other(attachment.content_type, KNOWN_CONTENT_TYPES)
        return attachment.model_copy(update={"filename": MASKED, "uri": "", "sha256": "", "content_type": kind})

    def changes(self, changes: Mapping[str, list[Any]]) -> Json:
        """Return a copy of changed fields, each as [before, after], with masked tags.

        `model/history.py` says which fields analysts see at all.
        """
        return {
            name: [value and _masked_tags(value) for value in values] if name == "tags" else values
            for name, values in changes.items()
        }

    def pseudonym(self, identifier: str) -> str:
        """Return the pseudonym of an id: `PSEUDONYM_LENGTH` hex digits that can't be reversed without the key."""
        return hmac.digest(self._key, identifier.encode(), "sha256").hex()[:PSEUDONYM_LENGTH]

    def _masked_fields(self, case: CaseSummary) -> dict[str, Any]:
        return {
            "subject": MASKED,
            "match": None,
            "channel": known_or_other(case.channel, self._channels),
            "description": case.description and MASKED,
            "customer_id": case.customer_id and self.pseudonym(case.customer_id),
            "context": self.entries(case.context),
            "tags": _masked_tags(case.tags),
            "external_id": case.external_id and MASKED,  # may hold an address, as a mail's Message-ID
        }

    def _message(self, message: Message) -> Message:
        return message.model_copy(
            update={
                "message": MASKED,
                "attachment_uri": message.attachment_uri and MASKED,
                "sentiment": message.sentiment and _keep_if_matching(message.sentiment, WORD_PATTERN),
                "metadata": None,
                "external_id": message.external_id and MASKED,
            }
        )

    def entries(self, entries: Iterable[Mapping[str, Any]]) -> list[Json]:
        """Return copies of timeline or context entries with masked values."""
        return [self._entry(entry) for entry in entries]

    def _entry(self, entry: Mapping[str, Any]) -> Json:
        kind = entry.get("type")  # in a context any JSON
        has_amounts = isinstance(kind, str) and kind in self._types_with_amounts
        harmless = self._visible_with_amounts if has_amounts else VISIBLE_MEMBERS
        return {
            name if name in self._known_names else MASKED: self._value(name, value, harmless.get(name))
            for name, value in entry.items()
        }

    def _value(self, name: str, value: Any, pattern: re.Pattern[str] | None) -> Any:
        if name in IDENTIFYING and isinstance(value, str | int):
            return self.pseudonym(str(value))
        return _keep_if_matching(value, pattern)


def is_visible_tag(tag: str) -> bool:
    """Return whether a tag is shown where cases are masked: it is one word, without a number of a person."""
    return WORD_PATTERN.fullmatch(tag) is not None


def _masked_tags(tags: Iterable[str]) -> list[str]:
    return [tag if is_visible_tag(tag) else MASKED for tag in tags]


def _keep_if_matching(value: Any, pattern: re.Pattern[str] | None) -> Any:
    if value is None or (pattern is AMOUNT_PATTERN and isinstance(value, int | float)):
        return value
    return value if pattern and isinstance(value, str) and pattern.fullmatch(value) else MASKED
