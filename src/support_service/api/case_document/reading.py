"""Encoded cases: each version of a case is encoded once per view, and kept while memory allows.

Every read asks the database, which says whether the kept version is still current, so that each replica answers with
what is committed. Only a case that has changed is read and encoded again.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import TypeVar

import pydantic_core
from cachetools import LRUCache

from support_service.api.case_document.cache import CaseDocument, KeptTimeline, OwnEntries
from support_service.api.case_document.encoder import CaseEncoder, with_own_timeline
from support_service.api.case_document.parts import with_clocks, with_timeline
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.masking import Masker
from support_service.cases.model.case import Case
from support_service.cases.model.history import History
from support_service.cases.service import CaseService
from support_service.cases.sql.case_reading import MAX_INLINE_BYTES, NO_VERSION, StoredCase, with_conversations
from support_service.core.domain.principals import Principal, View
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec
from support_service.timeline import merge
from support_service.timeline.aggregator import TimelineAggregator

HIT, MISS = {"event": "hit"}, {"event": "miss"}
Encoded = TypeVar("Encoded")

CASE_CACHE_EVENTS = InstrumentSpec(
    "support.case.cache_events",
    "counter",
    "{event}",
    "Reads of a case; hit: it had not changed since this process encoded it, miss: it was encoded",
    {"event": ("hit", "miss")},
)


class CaseDocuments:
    """Reads cases as JSON. `max_bytes` is the memory for documents that are kept; with 0 none is."""

    def __init__(
        self,
        cases: CaseService,
        timeline: TimelineAggregator,
        masker: Masker,
        instruments: Instruments,
        policies: KnownPolicies,
        *,
        public_url: str,
        max_bytes: int,
    ) -> None:
        self._cases = cases
        self._timeline = timeline
        self._instruments = instruments
        self._policies = policies
        self._encoder = CaseEncoder(masker, public_url)
        self._max_bytes = max_bytes
        self._kept: LRUCache[tuple[str, View], CaseDocument] = LRUCache(max_bytes, _size)
        self._encoding = asyncio.Lock()  # of long cases: one at a time, so that they don't slow down all others

    @property
    def kept_bytes(self) -> int:
        """The approximate memory of the documents that are kept."""
        return int(self._kept.currsize)

    async def read(
        self, principal: Principal, view: View, case_id: str, *, with_history: bool = False
    ) -> tuple[StoredCase, CaseDocument]:
        """Return a case as it is committed now, and its document in a view. Raises NotFound.

        `with_history` prepares `add_timeline`: the same statement reads the history, unless the document has it.
        """
        kept, stored = await self._read_changed(principal, view, case_id, with_history=with_history)
        if kept:
            return stored, kept
        if stored.fields is None:
            return await self._read_long_case(principal, view, case_id, with_history=with_history)
        return stored, self._keep(view, case_id, await self._add_clocks(stored, self._encoder.encode(view, stored)))

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
        """Return the JSON of a case that was read with its history, with its timeline.

        Entries of the services come from the cache or are fetched; `refresh` bypasses the cache.
        """
        own = document.all_own or await self._add_own_entries(view, case_id, stored, document)
        collected = await self._timeline.collect(
            principal, case_id, own.wanted, epoch=stored.timeline_epoch, refresh=refresh
        )
        kept = document.timeline
        if kept is None or not kept.is_made_of(collected.parts):
            entries = self._encoder.encode_entries(view, merge.service_entries(own.opened_at, collected.parts))
            context, *others = own.groups
            kept = KeptTimeline(collected.parts, b",".join(merge.merge(context, entries, *others)))
            if not refresh:  # else the next read gets these entries from the cache, as other lists
                self._extend(view, case_id, document, timeline=kept)
        body = with_timeline(
            document.body, kept.entries, pydantic_core.to_json(collected.sources), more=own.more_changes
        )
        return with_clocks(body, document.clocks)

    async def _read_changed(
        self, principal: Principal, view: View, case_id: str, *, with_history: bool
    ) -> tuple[CaseDocument | None, StoredCase]:
        """Return the kept document of a case if it has not changed, and the case, with what the document lacks."""
        kept = self._kept.get((case_id, view))
        known_history = (kept.version if kept and kept.all_own else NO_VERSION) if with_history else None
        stored = await self._cases.read_case(principal, case_id, kept.version if kept else NO_VERSION, known_history)
        if kept and kept.version == stored.version:
            self._instruments.add(CASE_CACHE_EVENTS, 1, HIT)
            return kept, stored
        return None, stored

    async def _read_long_case(
        self, principal: Principal, view: View, case_id: str, *, with_history: bool
    ) -> tuple[StoredCase, CaseDocument]:
        """Read and encode a long case off the event loop, unless another request has done so meanwhile."""
        async with self._encoding:
            if (case_id, view) in self._kept:
                kept, stored = await self._read_changed(principal, view, case_id, with_history=with_history)
                if kept:
                    return stored, kept
            stored = await self._cases.read_long_case(principal, case_id, with_history=with_history)
            document = await self._add_clocks(stored, await asyncio.to_thread(self._encoder.encode, view, stored))
        return stored, self._keep(view, case_id, document)

    async def read_page(
        self, principal: Principal, view: View, case_id: str, after: str | None, limit: int
    ) -> tuple[StoredCase, CaseDocument]:
        """Return a case, and its document with at most `limit` messages: the first ones, or those after a message.

        Raises NotFound, and ValidationFailed for the id of a message that is not in the case.
        """
        stored = await self._cases.read_case_page(principal, case_id, after, limit)
        return stored, await self._add_clocks(
            stored, await self._run(stored.size, partial(self._encoder.encode, view, stored))
        )

    async def with_own_timeline(self, view: View, stored: StoredCase) -> bytes:
        """Return the JSON of a case as a write has left it, read with its history.

        Its timeline has only the entries of the case itself: no service is called, and `timelineSources` says so.
        """

        def encode() -> bytes:
            document = self._encoder.encode(view, stored)
            return with_own_timeline(document.body, self._encoder.all_own_entries(view, stored, document))

        body = await self._run(stored.size, encode)
        return with_clocks(body, await self._policies.measured(stored.clocks))

    def encode_new(self, view: View, case: Case, history: History) -> bytes:
        """Return the JSON of a case that was just opened; its timeline has only the entries of the case itself."""
        return self._encoder.encode_new(view, case, history)

    async def _run(self, size: int, encode: Callable[[], Encoded]) -> Encoded:
        """Encode a case, or a part of it, of `size` bytes. A long one is encoded in a thread, one at a time."""
        if size <= MAX_INLINE_BYTES:
            return encode()
        return await self._run_in_thread(encode)

    async def _run_in_thread(self, encode: Callable[[], Encoded]) -> Encoded:
        async with self._encoding:
            return await asyncio.to_thread(encode)

    async def encode_linked(
        self, principal: Principal, view: View, cases: Sequence[StoredCase], *, with_timeline: bool
    ) -> bytes:
        """Return the JSON of the first case with the messages and files of all; nothing is kept.

        A timeline is that of all cases, which were read with their histories.
        """
        body = await self._run_in_thread(lambda: self._encoder.encode(view, with_conversations(cases)).body)
        if with_timeline:
            body = await self._add_linked_timeline(principal, view, cases, body)
        return with_clocks(body, await self._policies.measured(cases[0].clocks))

    async def _add_linked_timeline(
        self, principal: Principal, view: View, cases: Sequence[StoredCase], body: bytes
    ) -> bytes:
        own = await self._run_in_thread(lambda: [self._encoder.linked_own_entries(view, each) for each in cases])
        collect = partial(self._timeline.collect, principal, limits=self._timeline.new_limits())
        wanted = merge.not_asked_before([each.wanted for each in own])
        collected = await asyncio.gather(
            *(
                collect(each.ticket_id, to_ask, epoch=case.timeline_epoch)
                for each, to_ask, case in zip(own, wanted, cases, strict=True)
            )
        )

        def encode() -> bytes:
            given = [
                self._encoder.encode_entries(view, merge.service_entries(each.opened_at, found.parts), each.ticket_id)
                for each, found in zip(own, collected, strict=True)
            ]
            contexts, *others = zip(*(each.groups for each in own), strict=True)
            entries = merge.merge(*chain(contexts, given, *others))
            sources = pydantic_core.to_json(merge.merge_sources(found.sources for found in collected))
            return with_timeline(body, b",".join(entries), sources, more=any(each.more_changes for each in own))

        return await self._run_in_thread(encode)

    async def _add_clocks(self, stored: StoredCase, document: CaseDocument) -> CaseDocument:
        document.clocks = await self._policies.measured(stored.clocks)
        return document

    def _keep(self, view: View, case_id: str, document: CaseDocument) -> CaseDocument:
        self._instruments.add(CASE_CACHE_EVENTS, 1, MISS)
        if document.size <= self._max_bytes:
            self._kept[case_id, view] = document
        return document

    async def _add_own_entries(
        self, view: View, case_id: str, stored: StoredCase, document: CaseDocument
    ) -> OwnEntries:
        """Add the entries of the case itself to a document, which thereby needs more memory."""

        def encode() -> OwnEntries:
            # Another request may have added them meanwhile.
            return document.all_own or self._encoder.all_own_entries(view, stored, document)

        own = await self._run(len(document.body) + len(stored.history or ""), encode)
        if document.all_own is None:
            self._extend(view, case_id, document, own=own)
        return own

    def _extend(
        self,
        view: View,
        case_id: str,
        document: CaseDocument,
        *,
        own: OwnEntries | None = None,
        timeline: KeptTimeline | None = None,
    ) -> None:
        """Add a part to a document that is kept; it may need so much more memory that it is no longer kept."""
        if self._kept.get((case_id, view)) is document:
            del self._kept[case_id, view]
            document.own = own or document.own
            document.timeline = timeline
            if document.size > self._max_bytes:
                document.timeline = None
            if document.size <= self._max_bytes:
                self._kept[case_id, view] = document


def _size(document: CaseDocument) -> int:
    return document.size
