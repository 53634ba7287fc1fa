"""Reads of case documents: each version of a case is encoded once per view, and kept while memory allows.

Every read asks the database, which says whether the kept version is still current, so that each replica answers with
what is committed. Only a case that has changed is read and encoded again.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import TypeVar

from cachetools import LRUCache

from support_service.api.case_document.encoder import CaseEncoder, merge_conversations, with_own_timeline
from support_service.api.case_document.own_entries import OwnEntries
from support_service.api.case_document.parts import (
    CaseDocument,
    EncodedCase,
    KeptTimeline,
    name_part,
    names_part,
    timeline_part,
)
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.known_agents import KnownAgents
from support_service.cases.masking import Masker
from support_service.cases.service import CaseService
from support_service.cases.sql.case_reading import MAX_INLINE_BYTES, NO_VERSION, StoredCase
from support_service.core.domain.principals import CaseView, Principal
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec
from support_service.stream.presence import PresentAgent
from support_service.timeline import merge
from support_service.timeline.aggregator import TimelineAggregator

Encoded = TypeVar("Encoded")

CASE_CACHE_EVENTS = InstrumentSpec(
    "support.case.cache_events",
    "counter",
    "{event}",
    "Reads of a case; hit: it had not changed since this process encoded it, miss: it was encoded",
    {"event": ("hit", "miss")},
)


class EncodedCases(LRUCache[tuple[str, CaseView], EncodedCase]):
    """Encoded cases by id and view. A case that needs more than `max_bytes` by itself is not kept."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes, attrgetter("size"))

    def keep(self, case_id: str, view: CaseView, encoded: EncodedCase) -> None:
        """Keep a case in place of its former version, if memory allows."""
        if encoded.size <= self.maxsize:
            self[case_id, view] = encoded

    def add_timeline_parts(
        self,
        case_id: str,
        view: CaseView,
        encoded: EncodedCase,
        *,
        own: OwnEntries | None = None,
        timeline: KeptTimeline | None = None,
    ) -> None:
        """Add what a timeline needs to a case that is kept; it may then need so much memory that it is not kept."""
        if self.get((case_id, view)) is encoded:
            del self[case_id, view]
            encoded.own = own or encoded.own
            encoded.timeline = timeline
            if encoded.size > self.maxsize:
                encoded.timeline = None
            self.keep(case_id, view, encoded)


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
        agents: KnownAgents,
        public_url: str,
        max_bytes: int,
    ) -> None:
        self._cases = cases
        self._timeline = timeline
        self._hits = instruments.start_series(CASE_CACHE_EVENTS, {"event": "hit"})
        self._misses = instruments.start_series(CASE_CACHE_EVENTS, {"event": "miss"})
        self._policies = policies
        self._agents = agents
        self.encoder = CaseEncoder(masker, public_url)
        self._kept = EncodedCases(max_bytes)
        self._encoding = asyncio.Lock()  # of long cases: one at a time, so that they don't slow down all others

    @property
    def kept_bytes(self) -> int:
        """The approximate memory of the cases that are kept."""
        return int(self._kept.currsize)

    def names_in(self, document: CaseDocument, viewers: Sequence[PresentAgent] = ()) -> bytes:
        """Return the parts with the names of the people in a document, of its viewers, and of the customer."""
        ids = (*document.people, *(each.name for each in viewers)) if viewers else document.people
        return names_part(self._agents.names_json(ids)) + document.customer_name if ids else document.customer_name

    async def read(
        self, principal: Principal, view: CaseView, case_id: str, *, with_history: bool = False
    ) -> tuple[StoredCase, EncodedCase]:
        """Return a case as it is committed now, and its document in a view.

        `with_history` prepares `with_timeline`: the same statement reads the history, unless the entries are kept.
        """
        stored, kept = await self._read_unless_kept(principal, view, case_id, with_history=with_history)
        if kept:
            return stored, kept
        if stored.fields is not None:
            encoded = self.encoder.encode(view, stored, await self._policies.measured_clocks(stored.clocks))
        else:  # a long case
            async with self._encoding:  # another request may have encoded it meanwhile
                stored, kept = await self._read_unless_kept(
                    principal, view, case_id, with_history=with_history, any_size=True
                )
                if kept:
                    return stored, kept
                clocks = await self._policies.measured_clocks(stored.clocks)
                encoded = await asyncio.to_thread(self.encoder.encode, view, stored, clocks)
        self._misses.record(1)
        self._kept.keep(case_id, view, encoded)
        return stored, encoded

    async def with_timeline(
        self,
        principal: Principal,
        view: CaseView,
        case_id: str,
        stored: StoredCase,
        encoded: EncodedCase,
        *,
        refresh: bool = False,
    ) -> CaseDocument:
        """Return the document of a case that was read with its history, with its timeline.

        Entries of the services come from the cache or are fetched; `refresh` bypasses the cache.
        """
        own = encoded.own_with_changes or await self._add_own_entries(view, case_id, stored, encoded)
        collected = await self._timeline.collect(
            principal, case_id, own.references, epoch=stored.timeline_epoch, refresh=refresh
        )
        timeline = encoded.timeline
        if timeline is None or not timeline.is_made_of(collected.entries_by_service):
            given = self.encoder.entries.encode_entries(
                view, merge.service_entries(own.opened_at, collected.entries_by_service)
            )
            context, *others = own.entry_groups
            entries = b",".join(merge.merge_by_time(context, given, *others))
            timeline = KeptTimeline(collected.entries_by_service, timeline_part(entries, more=own.more_changes))
            if not refresh:  # what a refresh returns is kept by the next read
                self._kept.add_timeline_parts(case_id, view, encoded, timeline=timeline)
        return encoded.document.with_timeline(timeline.part, collected.sources)

    async def read_page(
        self, principal: Principal, view: CaseView, case_id: str, after: str | None, limit: int
    ) -> tuple[StoredCase, EncodedCase]:
        """Return a case with at most `limit` messages, the first ones or those after a message, and its document."""
        stored = await self._cases.read_case_page(principal, case_id, after, limit)
        encode = partial(self.encoder.encode, view, stored, await self._policies.measured_clocks(stored.clocks))
        return stored, await self._encode_by_size(stored.size, encode)

    async def encode_written(self, view: CaseView, stored: StoredCase) -> CaseDocument:
        """Return a case as a write has left it, read with its history.

        Its timeline has only the entries of the case itself: no service is called, and `timelineSources` says so.
        """
        clocks = await self._policies.measured_clocks(stored.clocks)

        def encode() -> CaseDocument:
            encoded = self.encoder.encode(view, stored, clocks)
            return with_own_timeline(encoded.document, self.encoder.own_entries(view, stored, encoded))

        return await self._encode_by_size(stored.size, encode)

    async def merge_duplicates(
        self,
        principal: Principal,
        view: CaseView,
        cases: Sequence[StoredCase],
        *,
        with_timeline: bool,
        refresh: bool = False,
    ) -> CaseDocument:
        """Return the first of several cases with the messages and files of all; it depends on all, so it is not kept.

        A timeline has the entries of all cases, which were read with their histories; `refresh` bypasses the cache.
        """
        clocks = await self._policies.measured_clocks(cases[0].clocks)
        document = await self._encode_in_thread(
            lambda: self.encoder.encode(view, merge_conversations(cases), clocks).document
        )
        if not with_timeline:
            return document
        return await self._add_merged_timeline(principal, view, cases, document, refresh=refresh)

    async def _add_merged_timeline(
        self,
        principal: Principal,
        view: CaseView,
        cases: Sequence[StoredCase],
        document: CaseDocument,
        *,
        refresh: bool,
    ) -> CaseDocument:
        own = await self._encode_in_thread(lambda: [self.encoder.linked_own_entries(view, each) for each in cases])
        collect = partial(self._timeline.collect, principal, limits=self._timeline.new_limits(), refresh=refresh)
        to_ask = merge.references_not_asked_before([each.references for each in own])
        collected = await asyncio.gather(
            *(
                collect(each.ticket_id, each.references, only=services, epoch=case.timeline_epoch)
                for each, services, case in zip(own, to_ask, cases, strict=True)
            )
        )

        def encode() -> CaseDocument:
            given = [
                self.encoder.entries.encode_entries(
                    view, merge.service_entries(each.opened_at, found.entries_by_service), each.ticket_id
                )
                for each, found in zip(own, collected, strict=True)
            ]
            contexts, *others = zip(*(each.entry_groups for each in own), strict=True)
            entries = b",".join(merge.merge_by_time(*chain(contexts, given, *others)))
            timeline = timeline_part(entries, more=any(each.more_changes for each in own))
            return document.with_timeline(timeline, merge.merge_source_statuses(found.sources for found in collected))

        return await self._encode_in_thread(encode)

    async def _read_unless_kept(
        self, principal: Principal, view: CaseView, case_id: str, *, with_history: bool, any_size: bool = False
    ) -> tuple[StoredCase, EncodedCase | None]:
        """Return a case, and what is kept of it if that has not changed; of the case, what the kept one lacks."""
        kept = self._kept.get((case_id, view))
        known_version = kept.document.version if kept else NO_VERSION
        known_history = (known_version if kept and kept.own_with_changes else NO_VERSION) if with_history else None
        stored = await self._cases.read_case(principal, case_id, known_version, known_history, any_size=any_size)
        if kept is None or stored.version != known_version:
            return stored, None
        self._hits.record(1)
        name = b"" if view == "masked" else name_part(stored.customer_name)
        if name != kept.document.customer_name:
            kept.document = kept.document._replace(customer_name=name)
        return stored, kept

    async def _add_own_entries(
        self, view: CaseView, case_id: str, stored: StoredCase, encoded: EncodedCase
    ) -> OwnEntries:
        """Add the entries of the case itself to an encoded case, which thereby needs more memory."""

        def encode() -> OwnEntries:
            # Another request may have added them meanwhile.
            return encoded.own_with_changes or self.encoder.own_entries(view, stored, encoded)

        own = await self._encode_by_size(encoded.document.size + len(stored.history or ""), encode)
        if encoded.own_with_changes is None:
            self._kept.add_timeline_parts(case_id, view, encoded, own=own)
        return own

    async def _encode_by_size(self, size: int, encode: Callable[[], Encoded]) -> Encoded:
        """Encode a case, or a part of it, of `size` bytes. A long one is encoded in a thread, one at a time."""
        return encode() if size <= MAX_INLINE_BYTES else await self._encode_in_thread(encode)

    async def _encode_in_thread(self, encode: Callable[[], Encoded]) -> Encoded:
        async with self._encoding:
            return await asyncio.to_thread(encode)
