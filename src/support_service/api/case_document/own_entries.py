"""Timeline entries of the recorded changes of a case."""

from collections.abc import Iterable

import pydantic_core

from support_service.cases.masking import Masker
from support_service.cases.model.case import Case
from support_service.cases.model.history import ENTRY_TYPE, History, RecordedChange, shown_changes
from support_service.cases.recorder import opening_changes
from support_service.core.clock import format_time
from support_service.core.domain.principals import Principal, View
from support_service.platform.audit.log import actor_of
from support_service.timeline import merge


def change_entries(recorded: Iterable[RecordedChange], view: View, masker: Masker) -> list[merge.Dated]:
    """Return the entries that a view has of changes, masked if the view is; only the full view names who acted."""
    dated: list[merge.Dated] = []
    for change in recorded:
        changes = shown_changes(change, view)
        if changes is None:
            continue
        entry: merge.Entry = {"type": ENTRY_TYPE, "timestamp": change.at, "action": change.action}
        if view == "full":
            entry["actor"] = change.actor
        entry["changes"] = masker.changes(changes) if view == "masked" else changes
        dated.append((change.at, merge.make_entry("case", entry)))
    return dated


def new_history(principal: Principal, case: Case) -> History:
    """Return the history of a case that the principal has just opened, as the audit log records it."""
    opening = pydantic_core.to_json(opening_changes(case)).decode()
    return History([RecordedChange(format_time(case.created_at), actor_of(principal), "case.opened", opening)])
