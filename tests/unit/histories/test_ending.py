"""What must hold at the end of a run: each planted error is found."""

import copy

from tests.support.each import each_row
from tests.support.histories.ending import Ending, Event, FinalCase, ReadAgain

FIRST, SECOND, THIRD = ("first", "public"), ("second", "internal"), ("third", "public")  # messages
PUBLIC_SECOND = ("second", "public")
STREAM, OTHER_STREAM = "the stream", "the stream of replica-1"


def published(event, **data):
    kind = {"case.opened": "opened", "case.closed": "closed"}.get(event.change_type, "updated")
    data |= {"ticket": {"version": event.version, "status": event.status}}
    data |= {"changeType": event.change_type} if kind == "updated" else {}
    data |= {"conversation": dict(zip(("message", "visibility"), event.message, strict=True))} if event.message else {}
    return {"id": event.id, "subject": event.case_id, "type": f"support.case.{kind}.v1", "data": data}


def correct():
    """Return what is found after a case was opened, answered, noted and closed, and another one opened with a file.

    A third one was opened after the last fault.
    """
    closed, other, last = "case-1", "case-2", "case-3"
    events = [
        Event("e-1", closed, 1, "case.opened", "open"),
        Event("e-2", other, 1, "case.opened", "open"),
        Event("e-3", closed, 2, "conversation.added", "open", FIRST),
        Event("e-4", closed, 3, "conversation.added", "open", SECOND),
        Event("e-5", other, 2, "attachment.added", "open"),
        Event("e-6", closed, 4, "status.changed", "closed"),
        Event("e-7", closed, 4, "case.closed", "closed"),
        Event("e-8", last, 1, "case.opened", "open"),
    ]
    return Ending(
        cases={
            closed: FinalCase(4, "closed", ["first", "second"], notes=["second"]),
            other: FinalCase(2, "open", [], {"file-1": "sha"}),
        },
        listed={"open": [other], "closed": [closed]},
        counted={"open": 1, "closed": 1},
        audited={
            closed: ["case.opened", "message.added", "message.added", "case.closed"],
            other: ["case.opened", "attachment.added"],
        },
        statuses={closed: ["open", "open", "open", "closed"], other: ["open", "open"]},
        audit_flaw=None,
        downloaded={"file-1": "sha"},
        streams={STREAM: [*events], OTHER_STREAM: [*events]},
        last_opened=last,
        webhooks=[published(event) for event in reversed(events)],
        published=[published(event) for event in events],
        places={(event.case_id, event.version): place for place, event in enumerate(events)},
    )


def restarted():
    """Return the same, where a follower was told to read again after the third event, and got that one again."""
    found = correct()
    found.most_restarts = 4
    stream = found.streams[STREAM]
    stream[3:3] = [ReadAgain({"case-1": 2, "case-2": 1}), stream[2]]
    return found


def swap(items, first, second):
    items[first], items[second] = items[second], items[first]


def in_stream(error, name=STREAM):
    """Plant an error in what a follower got."""
    return lambda found: error(found.streams[name])


ERRORS = {
    "event is missing": in_stream(lambda stream: stream.pop(2)),
    "event comes twice": in_stream(lambda stream: stream.append(stream[3])),
    "events are out of order": in_stream(lambda stream: swap(stream, 2, 3)),
    "event has the text of no message": in_stream(
        lambda stream: stream.__setitem__(2, Event("e-3", "case-1", 2, "conversation.added", "open", THIRD))
    ),
    "event has an id of its own": in_stream(
        lambda stream: stream.__setitem__(4, Event("e-9", "case-2", 2, "attachment.added", "open"))
    ),
    "event of the status is missing": in_stream(lambda stream: stream.pop(5)),
    "event of the closing is missing": in_stream(lambda stream: stream.pop(6)),
    "another follower lacks an event": in_stream(lambda stream: stream.pop(2), OTHER_STREAM),
    "another follower lacks the last case": in_stream(lambda stream: stream.pop(), OTHER_STREAM),
    "webhook is missing": lambda found: found.webhooks.pop(),
    "webhook has an event of nobody": lambda found: found.webhooks.append(
        published(Event("e-9", "case-1", 3, "conversation.added", "open", SECOND))
    ),
    "webhook has another version": lambda found: found.webhooks.__setitem__(
        3, published(Event("e-5", "case-2", 3, "attachment.added", "open"))
    ),
    "webhook has another type": lambda found: found.webhooks.__setitem__(
        3, published(Event("e-5", "case-2", 2, "attachment.removed", "open"))
    ),
    "webhook has another text": lambda found: found.webhooks.__setitem__(
        4, published(Event("e-4", "case-1", 3, "conversation.added", "open", THIRD))
    ),
    "webhooks have each other's texts": lambda found: found.webhooks.__setitem__(
        slice(4, 6),
        [
            published(Event("e-4", "case-1", 3, "conversation.added", "open", FIRST)),
            published(Event("e-3", "case-1", 2, "conversation.added", "open", SECOND)),
        ],
    ),
    "published event is missing": lambda found: found.published.pop(4),
    "published events are out of order": lambda found: swap(found.published, 2, 3),
    "published event is doubled": lambda found: found.published.append(
        published(Event("e-9", "case-1", 3, "conversation.added", "open", SECOND))
    ),
    "published event has another version": lambda found: found.published.__setitem__(
        4, published(Event("e-5", "case-2", 3, "attachment.added", "open"))
    ),
    "published event has another type": lambda found: found.published.__setitem__(
        4, published(Event("e-5", "case-2", 2, "attachment.removed", "open"))
    ),
    "published event has another text": lambda found: found.published.__setitem__(
        3, published(Event("e-4", "case-1", 3, "conversation.added", "open", THIRD))
    ),
    "published event has another id": lambda found: found.published.__setitem__(
        4, published(Event("e-9", "case-2", 2, "attachment.added", "open"))
    ),
    "event has an old status": in_stream(
        lambda stream: stream.__setitem__(5, Event("e-6", "case-1", 4, "status.changed", "open"))
    ),
    "event of the closing has an old status": in_stream(
        lambda stream: stream.__setitem__(6, Event("e-7", "case-1", 4, "case.closed", "open"))
    ),
    "event has a status that is to come": in_stream(
        lambda stream: stream.__setitem__(3, Event("e-4", "case-1", 3, "conversation.added", "closed", SECOND))
    ),
    "webhook has an old status": lambda found: found.webhooks.__setitem__(
        2, published(Event("e-6", "case-1", 4, "status.changed", "open"))
    ),
    "published event has an old status": lambda found: found.published.__setitem__(
        5, published(Event("e-6", "case-1", 4, "status.changed", "open"))
    ),
    "event tells of a note as of a public message": in_stream(
        lambda stream: stream.__setitem__(3, Event("e-4", "case-1", 3, "conversation.added", "open", PUBLIC_SECOND))
    ),
    "webhook tells of a note as of a public message": lambda found: found.webhooks.__setitem__(
        4, published(Event("e-4", "case-1", 3, "conversation.added", "open", PUBLIC_SECOND))
    ),
    "note was stored as a public message": lambda found: found.cases.update(
        {"case-1": FinalCase(4, "closed", ["first", "second"])}
    ),
    "case has another status than the audit log": lambda found: found.statuses.update({"case-2": ["open", "pending"]}),
    "audit entry is missing": lambda found: found.audited["case-1"].pop(2),
    "audit entry is doubled": lambda found: found.audited["case-2"].append("attachment.added"),
    "audit chain does not hold": lambda found: setattr(found, "audit_flaw", "entry 3"),
    "list leaves a case out": lambda found: found.listed["open"].clear(),
    "list has a case twice": lambda found: found.listed["open"].append("case-2"),
    "list has a case of another status": lambda found: found.listed["open"].append("case-1"),
    "count is wrong": lambda found: found.counted.update(open=2),
    "file has other bytes": lambda found: found.downloaded.update({"file-1": "other"}),
    "bytes of a file are lost": lambda found: found.downloaded.clear(),
}


def test_nothing_is_wrong_with_a_correct_ending():
    """A webhook and a published event may come again, and without Redis no events are published."""
    found = correct()
    found.webhooks.append(found.webhooks[0])
    found.published[5:5] = found.published[2:5]
    assert not [*found.errors()]
    found.published = None
    assert not [*found.errors()]


def test_follower_that_was_told_to_read_again_may_miss_what_it_read():
    """It may also get that again, or nothing between two restarts."""
    found = restarted()
    assert not [*found.errors()]
    stream = found.streams[STREAM]
    stream.remove(stream[2])
    assert not [*found.errors()]
    stream[2] = ReadAgain({"case-1": 3, "case-2": 1})
    stream[3:5] = []
    assert not [*found.errors()]
    stream[3:3] = [ReadAgain({"case-1": 3, "case-2": 1})]
    assert not [*found.errors()]
    closing = stream[5:7]
    stream[5:7] = [closing[0], ReadAgain({"case-1": 4, "case-2": 2}), closing[1]]
    assert not [*found.errors()]


AFTER_A_RESTART = {
    "event is missing": lambda stream: stream.pop(5),
    "event comes twice": lambda stream: stream.append(stream[-2]),
    "events are out of order": lambda stream: swap(stream, 4, 5),
    "event has another kind": lambda stream: stream.__setitem__(
        4, Event("e-3", "case-1", 2, "attachment.added", "open")
    ),
    "event has the text of another message": lambda stream: stream.__setitem__(
        4, Event("e-3", "case-1", 2, "conversation.added", "open", SECOND)
    ),
    "last change is missing": lambda stream: stream.__delitem__(slice(7, -1)),
    "nothing comes any more": lambda stream: stream.__delitem__(slice(4, None)),
    "event before the restart is missing": lambda stream: stream.pop(0),
    "only event of its case before the restart is missing": lambda stream: stream.pop(1),
    "only event of its case after the restart is missing": lambda stream: stream.pop(6),
    "all events of a case are missing": lambda stream: stream.__setitem__(
        slice(None), [item for item in stream if isinstance(item, ReadAgain) or item.case_id != "case-2"]
    ),
    "three changes around the restart are missing": lambda stream: stream.__setitem__(
        slice(2, 7), [item for item in stream[2:7] if isinstance(item, ReadAgain)]
    ),
    "change that was not read is missing": lambda stream: stream.__setitem__(
        slice(3, 6), [ReadAgain({"case-1": 2, "case-2": 1})]
    ),
    "case that was opened after the restart is missing": lambda stream: stream.__setitem__(
        slice(1, None), [ReadAgain({"case-1": 1}), *(item for item in stream[4:] if item.case_id != "case-2")]
    ),
}


@each_row("plant", AFTER_A_RESTART.values(), AFTER_A_RESTART)
def test_error_is_found_although_the_follower_was_told_to_read_again(plant):
    """Only what its reads have shown may be missing."""
    found = restarted()
    plant(found.streams[STREAM])
    assert [*found.errors()]


def test_follower_that_is_told_to_read_again_without_a_fault_is_found():
    """A stream that says nothing else would pass otherwise. Each follower counts alone."""
    found = restarted()
    found.streams[OTHER_STREAM].insert(0, ReadAgain({}))
    found.most_restarts = 1
    assert not [*found.errors()]
    found.streams[STREAM].insert(0, ReadAgain({}))
    assert [*found.errors()] == ["the stream was told to read again 2 times, and faults explain 1"]


@each_row("plant", ERRORS.values(), ERRORS)
def test_planted_error_is_found(plant):
    found = copy.deepcopy(correct())
    plant(found)
    assert [*found.errors()]
