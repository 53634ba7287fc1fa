"""What must hold at the end of a run: each planted error is found."""

import copy

import pytest

from tests.support.histories.ending import Ending, Event, FinalCase


def correct():
    """Return what is found after a case was opened, answered and closed, and another one opened with a file.

    A third one was opened after the last fault.
    """
    closed, other, last = "case-1", "case-2", "case-3"
    events = [
        Event("e-1", closed, 1, "case.opened"),
        Event("e-2", other, 1, "case.opened"),
        Event("e-3", closed, 2, "conversation.added", "first"),
        Event("e-4", closed, 3, "conversation.added", "second"),
        Event("e-5", other, 2, "attachment.added"),
        Event("e-6", closed, 4, "status.changed"),
        Event("e-7", closed, 4, "case.closed"),
    ]
    return Ending(
        cases={closed: FinalCase(4, "closed", ["first", "second"]), other: FinalCase(2, "open", [], {"file-1": "sha"})},
        listed={"open": [other], "closed": [closed]},
        counted={"open": 1, "closed": 1},
        stream=[*events, Event("e-8", last, 1, "case.opened")],
        last_opened=last,
        webhooks=[(event.id, event.case_id) for event in reversed(events)],
        audited={
            closed: ["case.opened", "message.added", "message.added", "case.closed"],
            other: ["case.opened", "attachment.added"],
        },
        audit_flaw=None,
        downloaded={"file-1": "sha"},
    )


def swap(items, first, second):
    """Swap two items of a list."""
    items[first], items[second] = items[second], items[first]


ERRORS = {
    "event is missing": lambda found: found.stream.pop(2),
    "event comes twice": lambda found: found.stream.append(found.stream[3]),
    "events are out of order": lambda found: swap(found.stream, 2, 3),
    "event has the text of no message": lambda found: found.stream.__setitem__(
        2, Event("e-3", "case-1", 2, "conversation.added", "third")
    ),
    "event of the closing is missing": lambda found: found.stream.pop(5),
    "webhook is missing": lambda found: found.webhooks.pop(),
    "webhook has an event of nobody": lambda found: found.webhooks.__setitem__(0, ("e-9", "case-1")),
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
    """A webhook may come again, and a follower that was told to read again may get an event again, or miss one."""
    found = correct()
    found.webhooks.append(found.webhooks[0])
    assert not [*found.errors()]
    found.stream[3:3] = [None, found.stream[2]]
    found.stream.pop(4)
    assert not [*found.errors()]


AFTER_A_RESTART = {
    "event is missing": lambda found: found.stream.pop(5),
    "event comes twice": lambda found: found.stream.append(found.stream[-2]),
    "events are out of order": lambda found: swap(found.stream, 4, 6),
    "event has another kind": lambda found: found.stream.__setitem__(4, Event("e-3", "case-1", 2, "attachment.added")),
    "event has the text of another message": lambda found: found.stream.__setitem__(
        4, Event("e-3", "case-1", 2, "conversation.added", "second")
    ),
    "last change is missing": lambda found: found.stream.__delitem__(slice(7, -1)),
    "nothing comes any more": lambda found: found.stream.__delitem__(slice(4, None)),
    "event before the restart is missing": lambda found: found.stream.pop(0),
}


@pytest.mark.parametrize("plant", AFTER_A_RESTART.values(), ids=AFTER_A_RESTART)
def test_error_is_found_although_the_follower_was_told_to_read_again(plant):
    """What comes between two restarts is compared, too."""
    found = correct()
    found.stream[3:3] = [None, found.stream[2]]
    assert not [*found.errors()]
    plant(found)
    assert [*found.errors()]


@pytest.mark.parametrize("plant", ERRORS.values(), ids=ERRORS)
def test_planted_error_is_found(plant):
    found = copy.deepcopy(correct())
    plant(found)
    assert [*found.errors()]
