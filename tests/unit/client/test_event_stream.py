"""The format of Server-Sent Events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support_service.client import UnexpectedAnswer
from support_service.client.changes import MAX_LINE_BYTES, EventParser, ServerSentEvent

STREAM = (
    ": a comment\n\n"
    'id: 1-0\nevent: support.case.opened.v1\ndata: {"a":\ndata: "tiếng Việt"}\n\n'
    "retry: 1500\n\n"
    "event: resync\r\ndata\r\n\r\n"
    "id\n\n"
    "unknown: field\n\n"
    "id: 2-0\ndata:no space\n\n"
    "data: cut off"
).encode()
EVENTS = [
    ServerSentEvent("support.case.opened.v1", '{"a":\n"tiếng Việt"}', "1-0"),
    ServerSentEvent(retry=1.5),
    ServerSentEvent("resync"),
    ServerSentEvent(id=""),
    ServerSentEvent(data="no space", id="2-0"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_events_are_read_from_any_chunks(cuts):
    parser = EventParser()
    chunks = [STREAM[start:end] for start, end in zip([0, *cuts], [*cuts, len(STREAM)], strict=True)]
    assert [event for chunk in chunks for event in parser.feed(chunk)] == EVENTS


def test_endless_line_is_an_error():
    with pytest.raises(UnexpectedAnswer):
        list(EventParser().feed(b"data: " + b"x" * MAX_LINE_BYTES))
