"""Encoded cases: each version of a case is encoded once per view, and kept while memory allows.

Every read asks the database, which says whether the kept version is still current, so that each replica answers with
what is committed. Only a case that has changed is read and encoded again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import Any, TypeVar

import pydantic_core
from cachetools import LRUCache

from support_service.api.routing.route import View
from support_service.attachments.model import attachment_url
from support_service.cases.masking import CaseMasker
from support_service.cases.model.case import NOT_REQUESTED, Case
from support_service.cases.service import CaseService
from support_service.cases.store.case_reading import (
    MAX_INLINE_BYTES,
    NO_VERSION,
    StoredCase,
    join_parts,
    to_case,
)
from support_service.core.clock import format_time
from support_service.core.domain import references
from support_service.core.domain.principals import Principal
from support_service.core.domain.references import SourceReferences
from support_service.core.domain.upstream_services import UpstreamService
from support_service.telemetry.instruments import Instruments
from support_service.timeline import merge
from support_service.timeline.aggregator import TimelineAggregator

EncodedEntries = list[tuple[str, bytes]]
"""Timeline entries as JSON, each with its timestamp."""

DOCUMENT_BYTES = 1024  # memory of a document besides its JSON
DECODED_FACTOR = 5  # memory of decoded JSON, as a multiple of its bytes
ENTRY_BYTES = 256  # memory of a timeline entry besides its JSON
NO_SOURCES = pydantic_core.to_json(NOT_REQUESTED)
NO_TIMELINE = b',"timeline":[],"timelineSources":%b}' % NO_SOURCES
LAST = {"timeline", "timeline_sources"}  # members of a case that come last, written apart
HIT, MISS = {"event": "hit"}, {"event": "miss"}
Encoded = TypeVar("Encoded")


@dataclass(frozen=True, slots=True)
class CaseHistory:
    """What a case itself adds to its timeline, and the objects that its context refers to."""

    opened_at: str
    wanted: dict[UpstreamService, SourceReferences]
    context: EncodedEntries
    messages_and_files: EncodedEntries

    @property
    def size(self) -> int:
        """Approximate memory in bytes."""
        return sum(ENTRY_BYTES + len(entry) for _, entry in (*self.context, *self.messages_and_files))


@dataclass(frozen=True, slots=True)
class KeptTimeline:
    """The merged entries of a case as JSON, and the entries of the services that they were made of."""

    parts: list[list[merge.Entry]]
    entries: bytes

    def is_made_of(self, parts: list[list[merge.Entry]]) -> bool:
        """Return True if these are the same lists, which are never changed: the cached answers have not changed."""
        return len(parts) == len(self.parts) and all(map(is_, parts, self.parts))

    @property
    def size(self) -> int:
        """Approximate memory in bytes."""
        return (1 + DECODED_FACTOR) * len(self.entries)


@dataclass(slots=True)
class CaseDocument:
    """One version of a case in one view: `body` is its JSON without a timeline."""

    version: int
    body: bytes
    history: CaseHistory | None = None  # added by the first read of the timeline
    timeline: KeptTimeline | None = None  # of the last read of the timeline

    @property
    def size(self) -> int:
        """Approximate memory in bytes."""
        return DOCUMENT_BYTES + len(self.body) + sum(part.size for part in (self.history, self.timeline) if part)


class CaseDocuments:
    """Reads cases as JSON. `max_bytes` is the memory for documents that are kept; with 0 none is."""

    def __init__(
        self,
        cases: CaseService,
        timeline: TimelineAggregator,
        masker: CaseMasker,
        instruments: Instruments,
        *,
        public_url: str,
        max_bytes: int,
    ) -> None:
        self._cases = cases
        self._timeline = timeline
        self._masker = masker
        self._instruments = instruments
        self._public_url = public_url
        self._max_bytes = max_bytes
        self._kept: LRUCache[tuple[str, View], CaseDocument] = LRUCache(max_bytes, _size)
        self._encoding = asyncio.Lock()  # of long cases: one at a time, so that they don't slow down all others

    @property
    def kept_bytes(self) -> int:
        """The approximate memory of the documents that are kept."""
        return int(self._kept.currsize)

    async def read(self, principal: Principal, view: View, case_id: str) -> tuple[StoredCase, CaseDocument]:
        """Return a case as it is committed now, and its document in a view. Raises NotFound."""
        kept = self._kept.get((case_id, view))
        stored = await self._cases.read_case(principal, case_id, kept.version if kept else NO_VERSION)
        if kept and kept.version == stored.version:
            self._instruments.case_cache_events.add(1, HIT)
            return stored, kept
        if stored.fields is None:
            return await self._read_long_case(principal, view, case_id)
        return stored, self._keep(view, case_id, self._encode(view, stored))

    async def add_timeline(
        self,
        principal: Principal,
        view: View,
        case_id: str,
        stored: StoredCase,
        document: CaseDocument,
        *,
        refresh: bool = False,
    ) -> bytes:
        """Return the JSON of a case that was read, with its timeline.

        Entries of the services come from the cache or are fetched; `refresh` bypasses the cache.
        """
        history = document.history or await self._add_history(view, case_id, document)
        collected = await self._timeline.collect(
            principal, case_id, history.wanted, epoch=stored.timeline_epoch, refresh=refresh
        )
        kept = document.timeline
        if kept is None or not kept.is_made_of(collected.parts):
            entries = self._encode_entries(view, merge.service_entries(history.opened_at, collected.entries))
            merged = merge.merge(history.context, entries, history.messages_and_files)
            kept = KeptTimeline(collected.parts, b",".join(merged))
            if not refresh:  # else the next read gets these entries from the cache, as other lists
                self._extend(view, case_id, document, timeline=kept)
        return _with_timeline(document.body, kept.entries, pydantic_core.to_json(collected.sources))

    async def _read_long_case(self, principal: Principal, view: View, case_id: str) -> tuple[StoredCase, CaseDocument]:
        """Read and encode a long case off the event loop, unless another request has done so meanwhile."""
        async with self._encoding:
            if kept := self._kept.get((case_id, view)):
                stored = await self._cases.read_case(principal, case_id, kept.version)
                if kept.version == stored.version:
                    self._instruments.case_cache_events.add(1, HIT)
                    return stored, kept
            stored = await self._cases.read_long_case(principal, case_id)
            document = await asyncio.to_thread(self._encode, view, stored)
        return stored, self._keep(view, case_id, document)

    async def read_page(
        self, principal: Principal, view: View, case_id: str, after: str | None, limit: int
    ) -> tuple[StoredCase, bytes]:
        """Return a case, and its JSON with at most `limit` messages: the first ones, or those after a message.

        Raises NotFound, and ValidationFailed for the id of a message that is not in the case.
        """
        stored = await self._cases.read_case_page(principal, case_id, after, limit)
        document = await self._run(stored.size, partial(self._encode, view, stored))
        return stored, document.body

    async def with_own_timeline(self, view: View, stored: StoredCase) -> bytes:
        """Return the JSON of a case as a write has left it; its timeline has only the entries of the case itself.

        No service is called: `timelineSources` says so.
        """

        def encode() -> bytes:
            document = self._encode(view, stored)
            history = document.history or self._history(view, pydantic_core.from_json(document.body))
            return _with_own_timeline(document.body, history)

        return await self._run(stored.size, encode)

    def encode_new(self, view: View, case: Case) -> bytes:
        """Return the JSON of a case that was just opened; its timeline has only the entries of the case itself."""
        body = pydantic_core.to_json(case, by_alias=True, inf_nan_mode="null", exclude=LAST)[:-1] + NO_TIMELINE
        members = {
            "createdAt": format_time(case.created_at),
            "context": case.context,
            "messages": [
                {
                    **message.model_dump(by_alias=True),
                    "createdAt": format_time(message.created_at),
                    "sentAt": message.sent_at and format_time(message.sent_at),
                }
                for message in case.messages
            ],
            "attachments": [],  # a new case has none
        }
        return _with_own_timeline(body, self._history(view, members))

    async def _run(self, size: int, encode: Callable[[], Encoded]) -> Encoded:
        """Encode a case, or a part of it, of `size` bytes. A long one is encoded in a thread, one at a time."""
        if size <= MAX_INLINE_BYTES:
            return encode()
        return await self._run_in_thread(encode)

    async def _run_in_thread(self, encode: Callable[[], Encoded]) -> Encoded:
        async with self._encoding:
            return await asyncio.to_thread(encode)

    async def encode_apart(self, view: View, prepare: Callable[[], StoredCase]) -> bytes:
        """Return the JSON of the case that `prepare` returns; both run in a thread, and nothing is kept."""
        return await self._run_in_thread(lambda: self._encode(view, prepare()).body)

    def _keep(self, view: View, case_id: str, document: CaseDocument) -> CaseDocument:
        self._instruments.case_cache_events.add(1, MISS)
        if document.size <= self._max_bytes:
            self._kept[case_id, view] = document
        return document

    async def _add_history(self, view: View, case_id: str, document: CaseDocument) -> CaseHistory:
        """Add the history to a document, which thereby needs more memory."""

        def encode() -> CaseHistory:
            # Another request may have added it meanwhile.
            return document.history or self._history(view, pydantic_core.from_json(document.body))

        history = await self._run(len(document.body), encode)
        if document.history is None:
            self._extend(view, case_id, document, history=history)
        return history

    def _extend(
        self,
        view: View,
        case_id: str,
        document: CaseDocument,
        *,
        history: CaseHistory | None = None,
        timeline: KeptTimeline | None = None,
    ) -> None:
        """Add a part to a document that is kept; it may need so much more memory that it is no longer kept."""
        if self._kept.get((case_id, view)) is document:
            del self._kept[case_id, view]
            document.history = history or document.history
            document.timeline = timeline
            if document.size > self._max_bytes:
                document.timeline = None
            if document.size <= self._max_bytes:
                self._kept[case_id, view] = document

    def _encode(self, view: View, stored: StoredCase) -> CaseDocument:
        head = join_parts(stored, self._with_urls(stored.attachments or "[]")).encode()
        if view != "masked":
            return CaseDocument(stored.version, head + NO_TIMELINE)
        # The history of a masked case can't be made of its JSON, which has no references any more.
        history = self._history(view, pydantic_core.from_json(head + b"}"))
        body = pydantic_core.to_json(
            self._masker.case(to_case(stored)), by_alias=True, inf_nan_mode="null", exclude=LAST
        )
        return CaseDocument(stored.version, body[:-1] + NO_TIMELINE, history)

    def _with_urls(self, attachments: str) -> str:
        """Return attachments, a JSON list, with the URL of each."""
        rows: list[dict[str, Any]] = pydantic_core.from_json(attachments)
        for row in rows:
            row["uri"] = attachment_url(self._public_url, row["ticketId"], row["id"], row["filename"])
        return pydantic_core.to_json(rows).decode()

    def _history(self, view: View, case: dict[str, Any]) -> CaseHistory:
        opened_at, context = case["createdAt"], case["context"]
        history = merge.message_entries(case["messages"]) + merge.attachment_entries(case["attachments"])
        return CaseHistory(
            opened_at,
            references.references_by_service(context),
            self._encode_entries(view, merge.context_entries(opened_at, context)),
            self._encode_entries(view, history),
        )

    def _encode_entries(self, view: View, dated: list[merge.Dated]) -> EncodedEntries:
        entries = [entry for _, entry in dated]
        if view == "masked":
            entries = self._masker.entries(entries)
        return [
            (at, pydantic_core.to_json(entry, inf_nan_mode="null"))
            for (at, _), entry in zip(dated, entries, strict=True)
        ]


def _size(document: CaseDocument) -> int:
    return document.size


def _with_own_timeline(body: bytes, history: CaseHistory) -> bytes:
    entries = b",".join(merge.merge(history.context, history.messages_and_files))
    return _with_timeline(body, entries, NO_SOURCES)


def _with_timeline(body: bytes, entries: bytes, sources: bytes) -> bytes:
    """Return the JSON of a case, which has no timeline in `body`, with a timeline and the freshness of its parts."""
    head = memoryview(body)[: -len(NO_TIMELINE)]
    return b"".join((head, b',"timeline":[', entries, b'],"timelineSources":', sources, b"}"))
