"""Imported cases keep their original times, and have the order and visibility that they had."""

from datetime import UTC, datetime, timedelta

import pytest

from support_service.core.clock import utc_now
from support_service.core.errors import Conflict, ValidationFailed
from support_service.importing.entries import KeptIds
from support_service.importing.imported_case import build_case, parse_case
from tests.support.each import each_row

NO_IDS = KeptIds()


def built(*messages, kept=NO_IDS, **fields):
    sent = {"externalId": "1", "subject": "A", "channel": "email", "messages": list(messages), **fields}
    return build_case(parse_case(sent, lambda document: document), kept, {"synthetic"})


def message(day=None, author="customer", **fields):
    sent_at = {} if day is None else {"sentAt": f"2024-01-{day:02}T12:00:00Z"}
    return {"authorType": author, "message": "Hello", **sent_at, **fields}


def january(day):
    return datetime(2024, 1, day, 12, tzinfo=UTC)


def test_times_are_the_original_ones():
    """The case begins when it was sent or with its first message, and was last changed by the latest public message."""
    wanted = built(
        message(3), message(5, "agent"), message(9, "agent", visibility="internal"), sentAt="2024-01-02T12:00:00Z"
    )
    assert (wanted.case.created_at, wanted.case.sent_at, wanted.case.updated_at) == (january(2), january(2), january(5))
    assert [each.created_at for each in wanted.history.messages] == [january(3), january(5), january(9)]
    assert built(message(3)).case.created_at == january(3)
    assert built(message(1), sentAt="2024-01-02T12:00:00Z").case.created_at == january(1)
    assert built(message(1), closedAt="2024-01-20T12:00:00Z", status="closed").case.updated_at == january(20)


def test_messages_are_in_the_order_of_their_times():
    """One without a time follows the message before it."""
    sent = [message(day, message=text) for day, text in ((5, "c"), (2, "a"), (None, "b"), (5, "d"))]
    messages = built(*sent, initialMessage=message(1, message="first")).history.messages
    assert [each.message for each in messages] == ["first", "a", "b", "c", "d"]


def test_without_times_the_case_is_new():
    """It has the time of the import. A clock that is ahead by less than five minutes makes nothing later than now."""
    wanted = built(message())
    assert utc_now() - wanted.case.created_at < timedelta(minutes=1)
    assert wanted.history.messages[0].created_at == wanted.case.created_at == wanted.case.updated_at
    ahead = (utc_now() + timedelta(minutes=4)).isoformat()
    wanted = built(message(sentAt=ahead), sentAt=ahead, closedAt=ahead, status="closed")
    assert wanted.case.created_at <= wanted.case.updated_at <= utc_now()
    assert wanted.history.messages[0].created_at <= utc_now()


def test_file_named_only_by_notes_is_internal():
    """Unless the file says otherwise; it has the time of the message that names it. Kept ids are used again."""
    note, answer = message(2, "agent", visibility="internal"), message(3, "agent")
    for messages, fields, visibility in (
        ([note | {"attachment": "a"}], {}, "internal"),
        ([note | {"attachment": "a"}, answer | {"attachment": "a"}], {}, "public"),
        ([note, answer], {}, "public"),
        ([note | {"attachment": "a"}], {"visibility": "public"}, "public"),
    ):
        kept = KeptIds("case-1", {"b": "file-1"})
        wanted = built(*messages, kept=kept, attachments=[{"path": "a", **fields}, "b"])
        assert (wanted.files[0].visibility, wanted.files[0].created_at) == (visibility, january(2))
        assert (wanted.case.id, wanted.files[1].id, len(wanted.files[0].id)) == ("case-1", "file-1", 36)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"attachments": ["a", "a"]}, "attachments"),
        ({"messages": [message(externalId="7"), message(externalId="7")]}, "messages"),
        ({"messages": [message(attachment="b")], "attachments": ["a"]}, "messages"),
    ],
)
def test_contradictions_are_refused(fields, field):
    """A path or an external id that is given twice, and a message that names another file."""
    with pytest.raises(ValidationFailed) as refused:
        built(**fields)
    assert [each.field for each in refused.value.errors] == [field]


@each_row(
    ("fields", "rule"),
    [
        ({"status": "open", "snoozedUntil": "2024-01-05T12:00:00Z"}, "can be imported only with the status `pending`"),
        ({"snoozedUntil": "2024-01-05T12:00:00Z"}, "can be imported only with the status `pending`"),
        ({"status": "pending", "snoozedUntil": "0001-01-01T00:00:00Z"}, "must not be before 1970"),
        ({"status": "pending", "snoozedUntil": "later"}, "must be an RFC 3339 time"),
    ],
)
def test_wrong_snooze_is_refused(fields, rule):
    """By the name of the field. An imported case keeps its snooze, also one that has ended: it becomes open then."""
    snoozed = built(status="pending", snoozedUntil="2024-01-05T13:00:00+01:00").case
    assert (snoozed.status, snoozed.snoozed_until) == ("pending", january(5))
    assert built(status="pending").case.snoozed_until is None
    with pytest.raises(ValidationFailed) as refused:
        built(**fields)
    (error,) = refused.value.errors
    assert error.field == "snoozedUntil"
    assert rule in error.message


def test_conversation_that_the_api_would_refuse_is_refused():
    """Each message counts at least 1 KiB."""
    with pytest.raises(Conflict) as refused:
        built(*[{"authorType": "bot", "message": "a"}] * 4097)
    assert refused.value.code == "case_full"
    assert built(channel="synthetic").case.synthetic  # as at an opening
