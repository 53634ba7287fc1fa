"""The timeline entries of a case itself: its context, its recorded changes, its messages and files."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import pydantic_core

from support_service.cases.masking import Masker
from support_service.cases.model.history import ENTRY_TYPE, History, RecordedChange, shown_changes
from support_service.core.domain import references
from support_service.core.domain.principals import CaseView
from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import UpstreamService
from support_service.timeline import merge

EncodedEntries = list[tuple[str, bytes]]
"""Timeline entries as JSON, each with its timestamp."""

ENTRY_BYTES = 256  # memory of a timeline entry besides its JSON


@dataclass(frozen=True, slots=True)
class OwnEntries:
    """What a case itself adds to its timeline, and the objects that its context refers to."""

    opened_at: str
    references: dict[UpstreamService, SourceReferences]
    context: EncodedEntries
    messages_and_files: EncodedEntries
    changes: EncodedEntries | None = None  # None until the history is read, for a timeline
    more_changes: bool = False  # the case has older changes than these
    files: frozenset[str] = frozenset()  # ids of the files of the case
    ticket_id: str = ""  # in each entry, if the case is read with its duplicates; else empty

    @property
    def entry_groups(self) -> tuple[EncodedEntries, EncodedEntries, EncodedEntries]:
        """The entries, in the order that entries of the same time have in the timeline."""
        return self.context, self.changes or [], self.messages_and_files

    @property
    def size(self) -> int:
        """Approximate memory in bytes."""
        return sum(ENTRY_BYTES + len(entry) for group in self.entry_groups for _, entry in group)


class EntryEncoder:
    """Encodes timeline entries as each view has them."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker

    def encode_entries(
        self, view: CaseView, dated: list[merge.DatedEntry], ticket_id: str = "", *, of_messages: bool = False
    ) -> EncodedEntries:
        """Return timeline entries with their times as JSON; with `ticket_id`, each says that it is of this case."""
        entries = [entry for _, entry in dated]
        if view == "masked":
            mask = self._masker.mask_message_entries if of_messages else self._masker.mask_entries
            entries = mask(entries)
        return _encode_entries(((at, entry) for (at, _), entry in zip(dated, entries, strict=True)), ticket_id)

    def encode_case(
        self, view: CaseView, case: dict[str, Any], history: History | None, ticket_id: str = ""
    ) -> OwnEntries:
        """Return the entries of a case, which has the members of the API; without a history, all but its changes."""
        opened_at, context = case["createdAt"], case["context"]
        files = frozenset(each["id"] for each in case["attachments"])
        dated = merge.message_entries(case["messages"]) + merge.attachment_entries(case["attachments"])
        return OwnEntries(
            opened_at,
            references.references_by_service(context),
            self.encode_entries(view, merge.context_entries(opened_at, context), ticket_id),
            self.encode_entries(view, dated, ticket_id, of_messages=True),
            None if history is None else self.encode_changes(view, history, files, ticket_id),
            history is not None and history.more,
            files,
            ticket_id,
        )

    def encode_changes(
        self, view: CaseView, history: History, files: Collection[str], ticket_id: str = ""
    ) -> EncodedEntries:
        return _encode_entries(change_entries(history.changes, view, self._masker, files), ticket_id)


def change_entries(
    recorded: Iterable[RecordedChange], view: CaseView, masker: Masker, files: Collection[str] = ()
) -> list[merge.DatedEntry]:
    """Return the entries that a view has of changes, masked if the view is; only the full view names who acted.

    A file has its name only if the case has the file, or had it to the end. A split may have moved another file to a
    case that the reader may not see.
    """
    shown = [(change, changes) for change in recorded if (changes := shown_changes(change, view)) is not None]
    named = [changes for change, changes in shown if change.action == "attachment.removed" and "filename" in changes]
    own = {*files, *(changes["attachmentId"][0] for changes in named)}
    dated: list[merge.DatedEntry] = []
    for change, changes in shown:
        if "filename" in changes and own.isdisjoint(changes["attachmentId"]):
            del changes["filename"]
        entry: merge.Entry = {"type": ENTRY_TYPE, "timestamp": change.at, "action": change.action}
        if view == "full":
            entry["actor"] = change.actor
        entry["changes"] = masker.mask_changes(changes) if view == "masked" else changes
        dated.append((change.at, merge.make_entry("case", entry)))
    return dated


def _encode_entries(dated: Iterable[merge.DatedEntry], ticket_id: str) -> EncodedEntries:
    named = {"ticketId": ticket_id} if ticket_id else {}
    return [(at, pydantic_core.to_json(entry | named, inf_nan_mode="null")) for at, entry in dated]
