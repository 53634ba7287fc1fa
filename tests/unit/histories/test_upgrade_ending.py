"""What must hold after an upgrade: each planted error is found."""

import pytest

from tests.support.histories.ending import FinalCase
from tests.support.histories.upgrade_ending import UpgradeEnding

CASE = "case-1"


def event(number, kind, **data):
    return {"id": f"e-{number}", "subject": CASE, "type": f"support.case.{kind}.v1", "data": data}


def message(number, text):
    return event(number, "updated", changeType="conversation.added", conversation={"message": text})


def correct():
    """Return what is found after 0.1.0 has closed a case, and the new release has done so again."""
    events = [
        event(1, "opened"),
        message(2, "first"),
        message(3, "second"),
        event(4, "closed"),
        event(5, "updated", changeType="status.changed", currentStatus="open"),
        event(6, "updated", changeType="status.changed", currentStatus="closed"),
        event(7, "closed"),
    ]
    return UpgradeEnding(
        cases={CASE: FinalCase(6, "closed", ["first", "second"], {"file-1": "sha"})},
        listed={"closed": [CASE]},
        counted={"closed": 1},
        audited={
            CASE: ["case.opened", "message.added", "message.added", "case.closed", "case.reopened", "case.closed"]
        },
        audit_flaw=None,
        downloaded={"file-1": "sha"},
        published=list(events),
        webhooks=events[::-1],
        sent=["i-1", "i-2"],
        applied=["i-2", "i-1"],
    )


ERRORS = {
    "event is missing": lambda found: found.published.pop(1),
    "event is doubled": lambda found: found.published.append(found.published[1] | {"id": "e-8"}),
    "events are out of order": lambda found: found.published.insert(2, found.published.pop(3)),
    "messages are out of order": lambda found: found.published.insert(1, found.published.pop(2)),
    "closing is missing": lambda found: found.published.pop(3),
    "webhook is missing": lambda found: found.webhooks.pop(),
    "webhook has another text": lambda found: found.webhooks.__setitem__(4, message(3, "third")),
    "inbound event is lost": lambda found: found.applied.pop(),
    "inbound event is applied twice": lambda found: found.applied.append("i-1"),
    "audit entry is missing": lambda found: found.audited[CASE].pop(),
    "list leaves a case out": lambda found: found.listed["closed"].clear(),
    "file has other bytes": lambda found: found.downloaded.update({"file-1": "other"}),
}


def test_correct_ending_has_no_error():
    """Both releases tell of a closing, each in its way; a repeat of an event has the same id."""
    found = correct()
    found.published.insert(3, found.published[1])
    assert [*found.errors()] == []


@pytest.mark.parametrize("error", ERRORS)
def test_planted_error_is_found(error):
    """The report is not empty."""
    found = correct()
    ERRORS[error](found)
    assert [*found.errors()]
