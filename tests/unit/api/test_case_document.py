"""The case document: named parts, which are joined once, when the answer is written."""

import json

import pydantic_core

from support_service.api.case_document.encoder import merge_conversations
from support_service.api.case_document.parts import (
    CaseDocument,
    attachments_part,
    messages_part,
    object_without_closing_brace,
    timeline_part,
)
from support_service.cases.clocks.calendar import AllHours
from support_service.cases.clocks.case_clocks import MeasuredClocks
from support_service.cases.sql.case_reading import StoredCase
from support_service.core.domain.references import SourceStatus
from support_service.stream.presence import PresentAgent

DOCUMENT = CaseDocument(
    3, object_without_closing_brace(b'{"id":"case-1"} '), messages_part(b"[]"), attachments_part(b"[]")
)
VIEWERS = [PresentAgent("lan", "viewing")]
STORED = ["id", "messages", "moreMessages", "attachments"]
COLLECTED = ["timeline", "moreCaseEvents", "timelineSources"]


def test_members_keep_their_order():
    """No clocks stand before the timeline; clocks and viewers, which change without the case, come last."""
    assert list(json.loads(DOCUMENT.to_json())) == [*STORED, "sla", *COLLECTED]
    measured = DOCUMENT._replace(measured=MeasuredClocks({}, AllHours()))
    assert list(json.loads(measured.to_json(VIEWERS))) == [*STORED, *COLLECTED, "sla", "viewers"]


def test_a_timeline_replaces_the_empty_one():
    """The document without it stays, because it is kept for other reads."""
    sources = {"order": SourceStatus(status="fresh", ageSeconds=0.0, reason=None)}
    found = json.loads(DOCUMENT.with_timeline(timeline_part(b'{"type":"note"}', more=True), sources).to_json())
    assert (found["timeline"], found["moreCaseEvents"], found["timelineSources"]) == ([{"type": "note"}], True, sources)
    assert json.loads(DOCUMENT.to_json())["timeline"] == []


def test_size_is_the_length_of_the_json():
    """The limit on callers who owe requests goes by it."""
    assert DOCUMENT.size == len(DOCUMENT.to_json())


def test_messages_of_linked_cases_are_encoded_one_at_a_time(monkeypatch):
    """A thread that encodes twenty long conversations at once does not let the event loop run meanwhile."""
    encoded, encode = [], pydantic_core.to_json

    def to_json(value, **options):
        encoded.append(value)
        return encode(value, **options)

    monkeypatch.setattr(pydantic_core, "to_json", to_json)
    case = dict.fromkeys(StoredCase._fields) | {"attachments": "[]"}
    first, second = (
        StoredCase(**case | {"messages": json.dumps([{"createdAt": at} for at in times])})
        for times in (["1", "4"], ["2", "3"])
    )
    merged = merge_conversations([first, second])
    in_order = [{"createdAt": at} for at in "1234"]
    assert json.loads(merged.messages) == in_order
    assert encoded == in_order
