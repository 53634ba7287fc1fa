"""The table of actions: which recorded changes a timeline shows, and what each view has of them."""

from typing import get_args

import pydantic_core

from support_service.cases.masking import MASKED_TEXT, Masker
from support_service.cases.model.history import SHOWN_ACTIONS, RecordedChange, shown_changes
from support_service.core.domain.principals import CaseView
from support_service.platform.audit.log import Action
from tests.support.each import each_row

AT = "2026-01-01T00:00:00.000000Z"
HARMLESS = {
    *("status", "snoozedUntil", "priority", "assignedAgentId", "team", "tags", "target", "dueAt"),
    *("attachmentId", "visibility", "attachmentVisibility", "linkId", "kind", "linkedCaseId"),
    *("splitFrom", "splitInto", "messageIds"),
}
OPENED = {"status": [None, "open"], "priority": [None, "high"], "customerId": [None, "c"], "channel": [None, "Ann"]}
ADDED = {"attachmentId": [None, "f"], "filename": [None, "ann.txt"], "sha256": [None, "0"], "by": [None, "Ann"]}
STATUS_ACTIONS = ("case.changed", "case.closed")
HIDDEN = {"messageId": [None, "m"], "attachmentVisibility": ["public", "internal"]}


def see(view, action, changes):
    recorded = None if changes is None else pydantic_core.to_json(changes).decode()
    return shown_changes(RecordedChange(AT, "lan", action, recorded), view)


def test_every_row_is_an_audited_action():
    assert SHOWN_ACTIONS.keys() <= set(get_args(Action))


@each_row("action", SHOWN_ACTIONS)
def test_no_row_shows_personal_fields(action):
    """The names of files are for staff, and customers see the status and their other case only."""
    row = SHOWN_ACTIONS[action]
    assert {*row.full} <= HARMLESS | {"filename"}
    assert {*row.masked} <= HARMLESS
    assert {*row.public} <= {"status", "splitFrom", "splitInto"}


@each_row(
    ("action", "changes", "staff", "analysts", "customers"),
    [
        (
            *("case.opened", OPENED),
            *[{"status": [None, "open"], "priority": [None, "high"]}] * 2,
            {"status": [None, "open"]},
        ),
        (*("case.changed", {"subject": ["A", "Ann"], "team": ["a", None]}), *[{"team": ["a", None]}] * 2, None),
        ("case.changed", {"subject": ["A", "Ann"], "description": [None, "Ann"]}, None, None, None),
        *((action, {"status": ["open", "closed"]}, *[{"status": ["open", "closed"]}] * 3) for action in STATUS_ACTIONS),
        (
            *("attachment.added", ADDED),
            {"attachmentId": [None, "f"], "filename": [None, "ann.txt"]},
            {"attachmentId": [None, "f"]},
            None,
        ),
        ("link.added", {"kind": [None, "related"]}, *[{"kind": [None, "related"]}] * 2, None),
        (
            *("case.split", {"splitInto": [None, "c"], "messageIds": [None, ["m"]]}),
            *[{"splitInto": [None, "c"], "messageIds": [None, ["m"]]}] * 2,
            {"splitInto": [None, "c"]},
        ),
        ("message.added", HIDDEN, *[{"attachmentVisibility": ["public", "internal"]}] * 2, None),
        ("message.added", {"messageId": [None, "m"]}, *[None] * 3),
        ("case.erased", {"erasedPositions": [None, [1]]}, *[None] * 3),
        ("case.opened", None, {}, {}, {}),  # erased
        ("attachment.removed", None, {}, {}, None),
        *((action, None, *[None] * 3) for action in ("case.changed", "message.added")),
    ],
)
def test_each_view_has_its_fields(action, changes, staff, analysts, customers):
    """An entry without fields is shown if its action says what happened."""
    seen = {view: see(view, action, changes) for view in get_args(CaseView)}
    assert seen == {"full": staff, "masked": analysts, "public": customers}


def test_changed_fields_are_masked_as_those_of_a_case():
    changes = {"tags": [["late", "0901234567"], []], "team": [None, "returns"], "description": [None, "Where?"]}
    assert Masker("key", ()).mask_changes(changes | {}) == {
        "tags": [["late", MASKED_TEXT], []],
        "team": [None, "returns"],
        "description": [None, MASKED_TEXT],
    }
    assert changes["tags"][0] == ["late", "0901234567"]
