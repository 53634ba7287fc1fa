"""The JSON of a case in each view, and of its timeline entries. It reads nothing and keeps nothing."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pydantic_core

from support_service.api.case_document.cache import CaseChanges, CaseDocument, EncodedEntries, OwnEntries
from support_service.api.case_document.own_entries import change_entries
from support_service.api.case_document.parts import NO_CLOCKS, NO_SOURCES, NO_TIMELINE, with_timeline
from support_service.attachments.model import attachment_url
from support_service.cases.masking import Masker
from support_service.cases.model.case import Case
from support_service.cases.model.history import History, parse_history
from support_service.cases.sql.case_reading import StoredCase, join_parts, to_case
from support_service.core.clock import format_time
from support_service.core.domain import references
from support_service.core.domain.principals import View
from support_service.timeline import merge

LAST = {"sla", "timeline", "more_case_events", "timeline_sources"}  # members of a case that come last, written apart


class CaseEncoder:
    """Encodes cases; `public_url` is the beginning of the URLs of attachments."""

    def __init__(self, masker: Masker, public_url: str) -> None:
        self._masker = masker
        self._public_url = public_url

    def encode(self, view: View, stored: StoredCase) -> CaseDocument:
        """Return the document of a case, without its clocks and timeline."""
        head = join_parts(stored, self._with_urls(stored.attachments or "[]")).encode()
        tail = NO_TIMELINE if stored.has_clocks else NO_CLOCKS + NO_TIMELINE
        if view != "masked":
            return CaseDocument(stored.version, head + tail)
        # The entries of a masked case can't be made of its JSON, which has no references any more.
        own = self._own_entries(view, pydantic_core.from_json(head + b"}"))
        body = pydantic_core.to_json(
            self._masker.mask(to_case(stored)), by_alias=True, inf_nan_mode="null", exclude=LAST
        )
        return CaseDocument(stored.version, body[:-1] + tail, own)

    def encode_new(self, view: View, case: Case, history: History) -> bytes:
        """Return the JSON of a case that was just opened; its timeline has only the entries of the case itself."""
        head = pydantic_core.to_json(case, by_alias=True, inf_nan_mode="null", exclude=LAST - {"sla"})
        body = head[:-1] + NO_TIMELINE
        members = {
            "createdAt": format_time(case.created_at),
            "context": case.context,
            "messages": [
                {
                    **message.model_dump(by_alias=True),
                    "createdAt": format_time(message.created_at),
                    "sentAt": message.sent_at and format_time(message.sent_at),
                }
                for message in case.messages
            ],
            "attachments": [],  # a new case has none
        }
        own = replace(self._own_entries(view, members), changes=self._encode_changes(view, history))
        return with_own_timeline(body, own)

    def all_own_entries(self, view: View, stored: StoredCase, document: CaseDocument) -> OwnEntries:
        """Return the timeline entries of the case itself. The case was read with its history."""
        own = document.own or self._own_entries(view, pydantic_core.from_json(document.body))
        assert stored.history is not None  # noqa: S101 - the case was read with its history
        return replace(own, changes=self._encode_changes(view, parse_history(stored.history)))

    def linked_own_entries(self, view: View, stored: StoredCase) -> OwnEntries:
        """Return the timeline entries of one of several cases, which name it. It was read with its history."""
        case = pydantic_core.from_json(join_parts(stored, self._with_urls(stored.attachments or "[]")) + "}")
        assert stored.history is not None  # noqa: S101 - the case was read with its history
        changes = self._encode_changes(view, parse_history(stored.history), case["id"])
        return replace(self._own_entries(view, case, case["id"]), ticket_id=case["id"], changes=changes)

    def encode_entries(self, view: View, dated: list[merge.Dated], ticket_id: str = "") -> EncodedEntries:
        """Return timeline entries with their times as JSON; with `ticket_id`, each says that it is of this case."""
        entries = [entry for _, entry in dated]
        if view == "masked":
            entries = self._masker.entries(entries)
        return _encode(((at, entry) for (at, _), entry in zip(dated, entries, strict=True)), ticket_id)

    def _with_urls(self, attachments: str) -> str:
        """Return attachments, a JSON list, with the URL of each."""
        rows: list[dict[str, Any]] = pydantic_core.from_json(attachments)
        for row in rows:
            row["uri"] = attachment_url(self._public_url, row["ticketId"], row["id"], row["filename"])
        return pydantic_core.to_json(rows).decode()

    def _own_entries(self, view: View, case: dict[str, Any], ticket_id: str = "") -> OwnEntries:
        opened_at, context = case["createdAt"], case["context"]
        dated = merge.message_entries(case["messages"]) + merge.attachment_entries(case["attachments"])
        return OwnEntries(
            opened_at,
            references.references_by_service(context),
            self.encode_entries(view, merge.context_entries(opened_at, context), ticket_id),
            self.encode_entries(view, dated, ticket_id),
        )

    def _encode_changes(self, view: View, history: History, ticket_id: str = "") -> CaseChanges:
        return CaseChanges(_encode(change_entries(history.changes, view, self._masker), ticket_id), history.more)


def _encode(dated: Iterable[merge.Dated], ticket_id: str) -> EncodedEntries:
    named = {"ticketId": ticket_id} if ticket_id else {}
    return [(at, pydantic_core.to_json(entry | named, inf_nan_mode="null")) for at, entry in dated]


def with_own_timeline(body: bytes, own: OwnEntries) -> bytes:
    """Return the JSON of a case whose timeline has only its own entries; `timelineSources` says so."""
    return with_timeline(body, b",".join(merge.merge(*own.groups)), NO_SOURCES, more=own.more_changes)
