"""What is kept of a case that was encoded: the JSON of one version in one view, and the parts of its timeline."""

from dataclasses import dataclass

from support_service.api.case_document.parts import with_clocks
from support_service.cases.clocks.shown_clocks import MeasuredClocks
from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import UpstreamService
from support_service.timeline import merge

EncodedEntries = list[tuple[str, bytes]]
"""Timeline entries as JSON, each with its timestamp."""

DOCUMENT_BYTES = 1024  # memory of a document besides its JSON
DECODED_FACTOR = 5  # memory of decoded JSON, as a multiple of its bytes
ENTRY_BYTES = 256  # memory of a timeline entry besides its JSON


@dataclass(frozen=True, slots=True)
class CaseChanges:
    """The entries of a case's recorded changes, and whether it has older ones."""

    entries: EncodedEntries
    more: bool


@dataclass(frozen=True, slots=True)
class OwnEntries:
    """What a case itself adds to its timeline, and the objects that its context refers to."""

    opened_at: str
    wanted: dict[UpstreamService, SourceReferences]
    context: EncodedEntries
    messages_and_files: EncodedEntries
    changes: CaseChanges | None = None  # None until a timeline is read
    ticket_id: str = ""  # in each entry, if the case is read with its duplicates; else empty

    @property
    def groups(self) -> tuple[EncodedEntries, EncodedEntries, EncodedEntries]:
        """The entries in the order in which those of the same time stand in the timeline."""
        return self.context, self.changes.entries if self.changes else [], self.messages_and_files

    @property
    def more_changes(self) -> bool:
        """Whether the case has older changes than these."""
        return self.changes is not None and self.changes.more

    @property
    def size(self) -> int:
        """Approximate memory in bytes."""
        return sum(ENTRY_BYTES + len(entry) for group in self.groups for _, entry in group)


@dataclass(frozen=True, slots=True)
class KeptTimeline:
    """The merged entries of a case as JSON, and the entries of the services that they were made of."""

    parts: dict[UpstreamService, list[merge.Entry]]
    entries: bytes

    def is_made_of(self, parts: dict[UpstreamService, list[merge.Entry]]) -> bool:
        """Return True if these are the same lists, which are never changed: the cached answers have not changed."""
        return parts.keys() == self.parts.keys() and all(part is self.parts[name] for name, part in parts.items())

    @property
    def size(self) -> int:
        """Approximate memory in bytes."""
        return (1 + DECODED_FACTOR) * len(self.entries)


@dataclass(slots=True)
class CaseDocument:
    """One version of a case in one view: `body` is its JSON without a timeline and without the clocks."""

    version: int
    body: bytes
    own: OwnEntries | None = None  # added by the first read of the timeline; before that, it lacks the changes
    timeline: KeptTimeline | None = None  # of the last read of the timeline
    clocks: MeasuredClocks | None = None

    @property
    def changes_with_time(self) -> bool:
        """Whether the JSON changes although the case does not: a clock is running."""
        return self.clocks is not None and self.clocks.change_with_time

    def encoded(self) -> bytes:
        """Return the JSON of the case without a timeline, as it is now."""
        return with_clocks(self.body, self.clocks)

    @property
    def all_own(self) -> OwnEntries | None:
        """The entries of the case itself, if its changes are among them."""
        return self.own if self.own and self.own.changes else None

    @property
    def size(self) -> int:
        """Approximate memory in bytes."""
        return DOCUMENT_BYTES + len(self.body) + sum(part.size for part in (self.own, self.timeline) if part)
