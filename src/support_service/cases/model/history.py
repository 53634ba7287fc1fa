"""The history of a case: which recorded changes its timeline shows, and what each view has of them. Pure.

Only the actions and fields that are named here are shown. Texts and the customer's data are in no row: subject,
description, channel, customer and context of a case. Another action needs a row only; the database selects by the same
table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pydantic_core

from support_service.cases.model.vocabulary import Json
from support_service.core.domain.principals import CaseView

ENTRY_TYPE = "case-event"  # `type` of the timeline entries
MAX_HISTORY_ENTRIES = 1000  # the newest ones; an answer has no more
MAX_HISTORY_BYTES = 256 * 1024  # of recorded changes, plus the oldest entry: texts that no view has are among them

FieldNames = tuple[str, ...]


class RecordedChange(NamedTuple):
    """An entry of the audit log, without what a timeline does not need."""

    at: str  # ISO 8601 in UTC with microseconds, as in timeline entries
    actor: str
    action: str
    changes: str | None  # JSON, {field: [before, after]}; None once erased


class History(NamedTuple):
    """The recorded changes of a case, oldest first, and whether it has older ones."""

    changes: list[RecordedChange]
    more: bool = False


@dataclass(frozen=True, slots=True)
class ShownAction:
    """The fields that each view has of an action; a view without fields has nothing of it.

    `is_event`: the action says what happened, so it is shown without fields too, such as after an erasure. Other
    actions are shown only if a field that is shown has changed.
    """

    full: FieldNames
    masked: FieldNames = ()
    public: FieldNames = ()
    is_event: bool = False


_STATUS: FieldNames = ("status",)
_CASE: FieldNames = (*_STATUS, "snoozedUntil", "priority", "assignedAgentId", "team", "tags")
_FILE: FieldNames = ("attachmentId", "filename", "visibility")
_FILE_WITHOUT_NAME: FieldNames = ("attachmentId", "visibility")
_FILE_OF_MESSAGE: FieldNames = ("attachmentVisibility",)
_LINK: FieldNames = ("linkId", "kind", "linkedCaseId")
_SLA: FieldNames = ("target", "dueAt")
_SPLIT: FieldNames = ("splitInto", "messageIds")
_OPENING: FieldNames = (*_CASE, "splitFrom")

SHOWN_ACTIONS: Mapping[str, ShownAction] = {
    "case.opened": ShownAction(_OPENING, _OPENING, (*_STATUS, "splitFrom"), is_event=True),
    "case.imported": ShownAction(_CASE, _CASE, is_event=True),
    "case.changed": ShownAction(_CASE, _CASE, _STATUS),
    "case.closed": ShownAction(_CASE, _CASE, _STATUS, is_event=True),
    "case.reopened": ShownAction(_CASE, _CASE, _STATUS, is_event=True),
    "case.split": ShownAction(_SPLIT, _SPLIT, ("splitInto",), is_event=True),  # the messages may be internal notes
    "attachment.added": ShownAction(_FILE, _FILE_WITHOUT_NAME, is_event=True),
    "attachment.removed": ShownAction(_FILE, _FILE_WITHOUT_NAME, is_event=True),
    "link.added": ShownAction(_LINK, _LINK, is_event=True),
    "link.removed": ShownAction(_LINK, _LINK, is_event=True),
    "sla.breached": ShownAction(_SLA, _SLA, is_event=True),
    "message.added": ShownAction(_FILE_OF_MESSAGE, _FILE_OF_MESSAGE),  # the message has an entry of its own
}
_NOT_SHOWN = ShownAction(())

ENTRY_SCHEMA: Json = {
    "title": "CaseEvent",
    "description": "A change of the case: the fields that the caller may see, each with its values before and after.",
    "type": "object",
    "properties": {
        "type": {"const": ENTRY_TYPE, "type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
        "origin": {"const": "case", "type": "string"},
        "action": {"type": "string", "enum": list(SHOWN_ACTIONS)},
        "actor": {"type": "string", "description": "who made the change; for staff only"},
        "changes": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {}, "minItems": 2, "maxItems": 2},
        },
    },
    "required": ["type", "timestamp", "origin", "action", "changes"],
}
"""JSON Schema of the entries."""


def shown_changes(change: RecordedChange, view: CaseView) -> dict[str, list[Any]] | None:
    """Return the fields that a view has of a change, each as [before, after]; None if it has nothing of it."""
    action = SHOWN_ACTIONS.get(change.action, _NOT_SHOWN)
    fields: FieldNames = getattr(action, view)
    if not fields:
        return None
    recorded: Mapping[str, Any] = pydantic_core.from_json(change.changes) if change.changes else {}
    shown = {name: recorded[name] for name in fields if name in recorded}
    return shown if shown or action.is_event else None


def parse_history(stored: str) -> History:
    """Return a history from the JSON that the database writes: `found`, and the newest `entries`, oldest first.

    `found` counts one entry more than may be shown, if there is one, and those beyond the limit of bytes.
    """
    read = pydantic_core.from_json(stored)
    entries = [RecordedChange(**entry) for entry in read["entries"][-MAX_HISTORY_ENTRIES:]]
    return History(entries, more=read["found"] > len(entries))
