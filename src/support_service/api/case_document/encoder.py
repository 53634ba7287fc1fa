"""The JSON of a case in each view, in parts, and of its timeline entries. It reads nothing and keeps nothing."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import pydantic_core

from support_service.api.case_document.own_entries import EntryEncoder, OwnEntries
from support_service.api.case_document.parts import (
    NO_CLOCKS,
    CaseDocument,
    EncodedCase,
    attachments_part,
    messages_part,
    name_part,
    object_without_closing_brace,
    timeline_part,
)
from support_service.cases.clocks.case_clocks import MeasuredClocks
from support_service.cases.masking import Masker
from support_service.cases.model.case import NO_SOURCES_REQUESTED, Case
from support_service.cases.model.files import attachment_url
from support_service.cases.model.history import History, RecordedChange, parse_history
from support_service.cases.recorder import opening_changes
from support_service.cases.sql.case_reading import StoredCase
from support_service.core.clock import format_time
from support_service.core.domain.principals import CaseView, Principal
from support_service.platform.audit.log import actor_of
from support_service.timeline import merge

# Members of a case that are no fields of its own, and are written apart.
MEMBERS_OF_OTHER_PARTS = {
    *("messages", "more_messages", "attachments", "links", "sla", "customer_name"),
    *("timeline", "more_case_events", "timeline_sources"),
}
# In a text of JSON the quotation marks are escaped: it matches the members of messages, and of their metadata.
AUTHOR_IDS = re.compile(r'"authorId" ?: ?("(?:[^"\\]|\\.)*")')
_to_json = partial(pydantic_core.to_json, by_alias=True, inf_nan_mode="null")


class CaseEncoder:
    """Encodes cases; `public_url` is the beginning of the URLs of attachments."""

    def __init__(self, masker: Masker, public_url: str) -> None:
        self._masker = masker
        self._public_url = public_url
        self.entries = EntryEncoder(masker)

    def encode(self, view: CaseView, stored: StoredCase, clocks: MeasuredClocks | None) -> EncodedCase:
        """Return the document of a case, without a timeline."""
        if view != "masked":
            original = stored.merged_into
            merged = b',"mergedInto":' + _to_json(original) if original else b""
            document = CaseDocument(
                stored.version,
                object_without_closing_brace((stored.fields or "{}").encode()) + merged,
                messages_part((stored.messages or "[]").encode(), more=stored.more_messages),
                attachments_part(pydantic_core.to_json(self._attachments_with_urls(stored.attachments))),
                measured=clocks,
                people=_people_in(stored.assigned_agent_id, stored.messages or "") if view == "full" else (),
                customer_name=name_part(stored.customer_name),
            )
            return EncodedCase(document)
        # The entries of a masked case can't be made of its JSON, which has no references any more.
        case = self._decoded_case(stored)
        document = _document_of_model(stored.version, self._masker.mask(Case.model_validate(case)), measured=clocks)
        return EncodedCase(document, self.entries.encode_case(view, case, None))

    def encode_new(self, view: CaseView, principal: Principal, case: Case) -> CaseDocument:
        """Return the document of a case that the principal has just opened; its timeline has its own entries only."""
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
        opening = pydantic_core.to_json(opening_changes(case)).decode()  # as the audit log records it
        change = RecordedChange(format_time(case.created_at), actor_of(principal), "case.opened", opening)
        document = _document_of_model(case.version, case, b',"sla":' + _to_json(case.sla))
        if view == "full":
            ids = [case.assigned_agent_id, *(message.author_id for message in case.messages)]
            document = document._replace(people=tuple(each for each in ids if each))
        return with_own_timeline(document, self.entries.encode_case(view, members, History([change])))

    def own_entries(self, view: CaseView, stored: StoredCase, encoded: EncodedCase) -> OwnEntries:
        """Return the timeline entries of the case itself, which was read with its history."""
        history = _parsed_history(stored)
        if encoded.own is None:
            return self.entries.encode_case(view, encoded.document.to_objects(), history)
        return replace(
            encoded.own,
            changes=self.entries.encode_changes(view, history, encoded.own.files),
            more_changes=history.more,
        )

    def linked_own_entries(self, view: CaseView, stored: StoredCase) -> OwnEntries:
        """Return the timeline entries of one of several cases, which name it. It was read with its history."""
        case = self._decoded_case(stored)
        return self.entries.encode_case(view, case, _parsed_history(stored), case["id"])

    def _decoded_case(self, stored: StoredCase) -> dict[str, Any]:
        """Return a case with its messages and attachments as Python objects."""
        attachments = self._attachments_with_urls(stored.attachments)
        return stored.to_objects() | {"attachments": attachments, "mergedInto": stored.merged_into}

    def _attachments_with_urls(self, attachments: str | None) -> list[dict[str, Any]]:
        """Return attachments, a JSON list, with the URL of each."""
        rows: list[dict[str, Any]] = pydantic_core.from_json(attachments or "[]")
        for row in rows:
            row["uri"] = attachment_url(self._public_url, row["ticketId"], row["id"], row["filename"])
        return rows


def _people_in(assigned_agent_id: str | None, messages: str) -> tuple[str, ...]:
    """Return the ids of the agent of a case, and of the authors of its messages, a JSON list."""
    ids = dict.fromkeys([assigned_agent_id] if assigned_agent_id else [])
    # One match at a time: a thread that finds all matches at once would not let the event loop run.
    for written in dict.fromkeys(match[1] for match in AUTHOR_IDS.finditer(messages)):
        ids[pydantic_core.from_json(written)] = None
    return tuple(ids)


def with_own_timeline(document: CaseDocument, own: OwnEntries) -> CaseDocument:
    """Return a document whose timeline has the entries of the case itself only; `timelineSources` says so."""
    timeline = timeline_part(b",".join(merge.merge_by_time(*own.entry_groups)), more=own.more_changes)
    return document.with_timeline(timeline, NO_SOURCES_REQUESTED)


def merge_conversations(cases: Sequence[StoredCase]) -> StoredCase:
    """Return the first of several cases with the messages and files of all, each in the order of `createdAt`."""
    return cases[0]._replace(
        messages=_merge_by_time([each.messages or "[]" for each in cases]),
        attachments=_merge_by_time([each.attachments or "[]" for each in cases]),
    )


def _merge_by_time(json_lists: Sequence[str]) -> str:
    """Return JSON lists as one, by `createdAt`, which the databases write in one format.

    Each row is encoded alone: a thread that encodes all at once would not let the event loop run.
    """
    rows: list[dict[str, Any]] = [row for part in json_lists for row in pydantic_core.from_json(part)]
    rows.sort(key=itemgetter("createdAt"))
    return f"[{','.join(pydantic_core.to_json(row, inf_nan_mode='null').decode() for row in rows)}]"


def _document_of_model(
    version: int, case: Case, clocks: bytes = NO_CLOCKS, measured: MeasuredClocks | None = None
) -> CaseDocument:
    return CaseDocument(
        version,
        object_without_closing_brace(_to_json(case, exclude=MEMBERS_OF_OTHER_PARTS)),
        messages_part(_to_json(case.messages), more=case.more_messages),
        attachments_part(_to_json(case.attachments)),
        b',"links":' + _to_json(case.links),
        clocks,
        measured=measured,
    )


def _parsed_history(stored: StoredCase) -> History:
    assert stored.history is not None  # noqa: S101 - the case was read with its history
    return parse_history(stored.history)
