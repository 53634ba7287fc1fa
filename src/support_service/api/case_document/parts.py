"""The case document: a case as JSON in named parts, which are joined once, when the answer is written.

The database and models write the parts that the version decides. Clocks, viewers and the timeline change without it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import is_
from typing import Any, NamedTuple

import pydantic_core

from support_service.api.case_document.own_entries import OwnEntries
from support_service.cases.clocks.case_clocks import MeasuredClocks
from support_service.cases.model.case import NO_SOURCES_REQUESTED
from support_service.core.clock import utc_now
from support_service.core.domain.references import SourceStatus
from support_service.core.domain.upstream_services import UpstreamService
from support_service.stream.presence import PresentAgent
from support_service.timeline import merge

CASE_OVERHEAD_BYTES = 1024  # memory of an encoded case besides its JSON
DECODED_SIZE_FACTOR = 5  # memory of decoded JSON, as a multiple of its bytes


def object_without_closing_brace(fields: bytes) -> bytes:
    """Return the JSON object of a case's own fields without its closing brace, because other members follow."""
    return fields.rstrip().removesuffix(b"}")


def messages_part(messages: bytes, *, more: bool = False) -> bytes:
    """Return the part of a list of messages; `more` says whether the case has messages after them."""
    return b"".join((b',"messages":', messages, b',"moreMessages":', b"true" if more else b"false"))


def attachments_part(attachments: bytes) -> bytes:
    return b',"attachments":' + attachments


def timeline_part(entries: bytes, *, more: bool) -> bytes:
    """Return the part of timeline entries; `more` says whether the case has changes older than these."""
    return b"".join((b',"timeline":[', entries, b'],"moreCaseEvents":', b"true" if more else b"false"))


def names_part(names: bytes) -> bytes:
    """Return the part of the names of people, a JSON object; empty without names."""
    return b',"names":' + names if names else b""


NO_CLOCKS = b',"sla":null'
NO_TIMELINE = timeline_part(b"", more=False)
NO_SOURCES = b',"timelineSources":' + pydantic_core.to_json(NO_SOURCES_REQUESTED)


def name_part(customer_name: str | None) -> bytes:
    """Return the part of the customer's name, which is empty if there is none."""
    return b',"customerName":' + pydantic_core.to_json(customer_name) if customer_name else b""


class CaseDocument(NamedTuple):
    """One version of a case in one view. The first part is an open object, and each other part begins with a comma."""

    version: int
    case: bytes
    messages: bytes
    attachments: bytes
    links: bytes = b""  # empty if they are among the fields of `case`, as the database writes them
    clocks: bytes = NO_CLOCKS
    timeline: bytes = NO_TIMELINE
    sources: bytes = NO_SOURCES
    measured: MeasuredClocks | None = None  # in place of `clocks`: written as they are at the time of the answer
    people: tuple[str, ...] = ()  # the ids in it whose names the caller may know
    customer_name: bytes = b""  # the part of it, which changes without the version

    @property
    def is_changed_by_time(self) -> bool:
        """Whether the JSON changes although the case does not: a clock is running."""
        return self.measured is not None and self.measured.are_running

    @property
    def size(self) -> int:
        """The length of the JSON, without viewers and without measured clocks."""
        parts = self.case, self.messages, self.attachments, self.links, self.timeline, self.sources
        return sum(map(len, parts)) + (0 if self.measured else len(self.clocks)) + len(b"}")

    def to_objects(self) -> dict[str, Any]:
        """Return the case, its messages and its attachments as Python objects."""
        members: dict[str, Any] = pydantic_core.from_json(b"".join((self.case, self.messages, self.attachments, b"}")))
        return members

    def with_timeline(self, timeline: bytes, sources: Mapping[UpstreamService, SourceStatus]) -> "CaseDocument":
        """Return the document with the part of a timeline, and how fresh each service's part of that is."""
        fresh = b',"timelineSources":' + pydantic_core.to_json(sources)
        stored = self.case, self.messages, self.attachments, self.links, self.clocks
        return CaseDocument(
            self.version, *stored, timeline, fresh, self.measured, self.people, self.customer_name
        )  # `_replace` takes 3 us more

    def to_json(self, viewers: Sequence[PresentAgent] = (), names: bytes = b"") -> bytes:
        """Return the JSON of the case as it is now, with who views it, and the part of the names of people."""
        clocks, measured, shown = self.clocks, b"", b""
        if self.measured is not None:
            now = pydantic_core.to_json(self.measured.shown_at(utc_now()), by_alias=True)
            clocks, measured = b"", b',"sla":' + now
        if viewers:
            shown = b',"viewers":' + pydantic_core.to_json([each._asdict() for each in viewers])
        stored = self.case, self.messages, self.attachments, self.links
        return b"".join((*stored, clocks, self.timeline, self.sources, measured, shown, names, b"}"))


@dataclass(frozen=True, slots=True)
class KeptTimeline:
    """The part of a document with its merged timeline, and the entries of the services that it was made of."""

    collected: dict[UpstreamService, list[merge.Entry]]
    part: bytes

    def is_made_of(self, collected: dict[UpstreamService, list[merge.Entry]]) -> bool:
        """Return True if these are the same lists, which are never changed: the cached answers have not changed."""
        return collected.keys() == self.collected.keys() and all(map(is_, collected.values(), self.collected.values()))

    @property
    def size(self) -> int:
        """Approximate memory in bytes."""
        return (1 + DECODED_SIZE_FACTOR) * len(self.part)


@dataclass(slots=True)
class EncodedCase:
    """The document of a case without a timeline, and what reads of its timeline have added."""

    document: CaseDocument
    own: OwnEntries | None = None  # without the changes of the case, until a timeline is read
    timeline: KeptTimeline | None = None  # of the last read of the timeline

    @property
    def own_with_changes(self) -> OwnEntries | None:
        """The entries of the case itself, if its changes are among them."""
        return self.own if self.own and self.own.changes is not None else None

    @property
    def size(self) -> int:
        """Approximate memory in bytes."""
        return CASE_OVERHEAD_BYTES + self.document.size + sum(part.size for part in (self.own, self.timeline) if part)
