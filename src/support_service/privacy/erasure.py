"""Erasure of a customer's personal data from cases, files, saved views, events and caches.

Cases stay for counts and times, without anything that identifies the customer. If an erasure is interrupted, the next
one for the same customer continues it: a tombstone replaces the customer's id until everything is erased.
"""

import logging
import time
from asyncio import sleep
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from support_service.attachments.garbage import GarbageCollector
from support_service.cases import erasure as cases
from support_service.cases.case_files import ATTACHMENT_DELETED, audit_removal
from support_service.cases.model.files import StoredAttachment
from support_service.cases.sql import attachment_rows, case_rows
from support_service.core.clock import time_after, utc_now
from support_service.core.errors import NotFound, Unavailable
from support_service.core.search_words import SoughtTexts
from support_service.desk import customers
from support_service.desk.bulk import erase_former_values
from support_service.desk.views import erase_views
from support_service.events import erasure as events
from support_service.events.broker.base import BrokerError, RedisBrokerTimings
from support_service.events.broker.redis import RedisBroker
from support_service.events.dead_letters import DeadLetterService
from support_service.platform import idempotency_keys
from support_service.platform.audit import log as audit
from support_service.platform.database import Database
from support_service.platform.settings import Settings
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.stores import discard_measurement
from support_service.platform.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work
from support_service.timeline.cache import CacheUnavailable, RedisCacheTimings
from support_service.timeline.redis_cache import RedisCache
from support_service.timeline.snapshots import cache_key

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ErasureTimings:
    """Times of an erasure in seconds."""

    redis_timeout: float = 2.0  # no reader waits for it
    relay_timeout: float = 2.0  # for events to be published; a running relay needs a tenth of a second
    files_timeout: float = 5.0  # for files that the service has begun to delete
    collecting: float | None = None  # for timelines that are being collected; None: their deadline


@dataclass(slots=True)
class ErasureResult:
    """The result of an erasure: case ids and counts. `unreached` names what could not be erased and must be retried."""

    cases: list[str] = field(default_factory=list)
    erased: dict[str, int] = field(default_factory=dict)
    unreached: list[str] = field(default_factory=list)
    other_identities: list[str] = field(default_factory=list)  # ids of the same person, which were not erased

    def add(self, counts: dict[str, int]) -> None:
        """Add the counts of one step."""
        for name, number in counts.items():
            self.erased[name] = self.erased.get(name, 0) + number


class CustomerErasure:
    """Erases customers, one per run."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        garbage_collector: GarbageCollector,
        instruments: Instruments,
        timings: ErasureTimings = ErasureTimings(),
    ) -> None:
        self._timings = timings
        self._settings = settings
        self._database = database
        self._garbage_collector = garbage_collector
        self._instruments = instruments

    async def select(self, customer_id: str, *, all_identities: bool = False) -> tuple[dict[str, list[str]], list[str]]:
        """Return the case ids of each id to erase, and the ids of the same person that are not erased.

        Raises NotFound for a customer without a case and without a record.
        """
        identities = await customers.read_identities(self._database, customer_id)
        others = [each for each in identities if each != customer_id]
        ids = [customer_id, *(others if all_identities else ())]
        found = {each: await cases.read_case_ids_of_customer(self._database, each) for each in ids}
        if not (identities or any(found.values())):
            raise NotFound("customer_not_found", f"No case and no record is of the customer {customer_id!r}.")
        return found, [] if all_identities else others

    async def run(
        self,
        origin: WriteOrigin,
        customer_id: str,
        report_case: Callable[[str], None] = lambda _: None,
        *,
        all_identities: bool = False,
    ) -> ErasureResult:
        """Erase a customer, or all ids of the person, and report the id of each case that is done. Raises NotFound."""
        result = ErasureResult()
        found, result.other_identities = await self.select(customer_id, all_identities=all_identities)
        async with self._database.transaction() as tx:
            await customers.erase_contents(tx, found.keys())
        for each, case_ids in found.items():
            await self._erase_identity(origin, each, case_ids, result, report_case)
        if not result.unreached:
            # Last, because the next run after an interruption finds the other ids by the links.
            async with unit_of_work(self._database, origin) as work:
                removed = await customers.remove(work.tx, found.keys())
                for record in removed:
                    await audit.record(work, None, "customer.erased", utc_now(), {"customer": (record.audit_id, None)})
            if removed:
                result.add({"records": len(removed)})
        if not await self._database.truncate_write_ahead_log():
            result.unreached.append("the write-ahead log: others are reading the database")
        if not result.unreached:
            async with self._database.transaction() as tx:
                for each in found:
                    await cases.clear_tombstone(tx, cases.tombstone_of(each))
        return result

    async def _erase_identity(
        self,
        origin: WriteOrigin,
        customer_id: str,
        case_ids: list[str],
        result: ErasureResult,
        report_case: Callable[[str], None],
    ) -> None:
        """Erase what there is of one id besides its record."""
        tombstone = cases.tombstone_of(customer_id)
        await self._erase_outside_of_cases(origin, customer_id, result)
        keep_references = bool(result.unreached)  # because the next run finds the dead letters by them
        files: list[StoredAttachment] = []
        for case_id in case_ids:
            async with unit_of_work(self._database, origin) as work:
                case = await case_rows.read_state(work.tx, case_id)
                removed, staged = await self._erase_case(
                    work, case_id, tombstone, result, keep_references=keep_references
                )
            if case is not None and not case.synthetic:
                self._instruments.add(ATTACHMENT_DELETED, len(removed), {"reason": "erasure"})
            files += removed + staged
            report_case(case_id)
            if case_id == case_ids[-1]:  # a split may have moved messages into a new case before their erasure
                known = set(case_ids)
                found = await cases.read_case_ids_of_customer(self._database, customer_id)
                case_ids += [each for each in found if each not in known]
        result.cases += case_ids
        await self._database.purge_search_index()
        collected = await self._garbage_collector.run()
        if left := await self._wait_for_files(files, 0 if collected.failed else self._timings.files_timeout):
            result.unreached.append(f"the bytes of {left} files: the service removes them as soon as it can")
        for what, erase in (
            ("the stream of events", self._erase_published_events),
            ("the timeline cache", self._erase_cached_timelines),
        ):
            try:
                result.add(await erase(case_ids))
            except (BrokerError, CacheUnavailable) as fault:
                result.unreached.append(f"{what}: {fault}")

    async def _wait_for_files(self, files: Sequence[StoredAttachment], max_wait: float) -> int:
        """Wait until the service has deleted the bytes of files that it has claimed; return how many files are left.

        Waits at most `max_wait` seconds.
        """
        end = time.monotonic() + max_wait
        while (  # noqa: ASYNC110 - another process sends no notification
            files := [each for each in files if await self._has_bytes(each)]
        ) and time.monotonic() < end:
            await sleep(events.POLL_INTERVAL)
        return len(files)

    async def _has_bytes(self, file: StoredAttachment) -> bool:
        return await attachment_rows.is_referenced(self._database, file.storage, file.storage_key)

    async def _erase_outside_of_cases(self, origin: WriteOrigin, customer_id: str, result: ErasureResult) -> None:
        """Erase what names the customer outside of cases: this comes first, while the cases have their references."""
        references = await cases.read_references_of_customer(self._database, customer_id)
        known = self._settings.cases.known_channels
        labels = await cases.read_own_labels_of_customer(self._database, customer_id, known)
        values = {value for _, value in references}
        ids = SoughtTexts({customer_id, *values})
        filters = references | labels | {("customerId", customer_id)}
        views = await erase_views(self._database, origin, ids, filters)
        result.add({"views": len(views)})
        # Also responses with an earlier state of a view.
        members = {*references, *(("q", value) for value in values), *(("id", view) for view in views)}
        async with self._database.transaction() as tx:
            await idempotency_keys.erase_responses_naming(tx, customer_id, members)
        try:
            result.add(await self._delete_inbound_events(origin, ids))
        except (BrokerError, Unavailable) as fault:
            result.unreached.append(f"the dead letters: {fault}")

    async def _erase_case(
        self, work: UnitOfWork, case_id: str, tombstone: str, result: ErasureResult, *, keep_references: bool
    ) -> tuple[list[StoredAttachment], list[StoredAttachment]]:
        """Erase a case in the database, within `work`.

        Return the removed files of the case, and the removed staged files. Their bytes remain to be deleted.
        """
        tx = work.tx
        case = await case_rows.increment_version(tx, case_id)
        at = time_after(case.at) if case else utc_now()  # a synthetic case may be deleted meanwhile
        files = [attachment.id for attachment in await attachment_rows.list_by_case(tx, case_id)]
        staged = await attachment_rows.discard_staged_of_case(tx, case_id, at)
        removed = await attachment_rows.remove(tx, files, "erasure", at) if files else []
        await attachment_rows.erase_deletions(tx, case_id)
        channels = self._settings.cases.known_channels
        messages = await cases.erase_case(tx, case_id, tombstone, channels, keep_references=keep_references)
        result.add({"messages": messages, "files": len(removed) + len(staged)})
        result.add(await events.rewrite_stored_events(tx, [case_id], partial(cases.erase_event, channels=channels)))
        await audit_removal(work, removed, "erasure", at)
        await idempotency_keys.erase_case_responses(tx, [case_id])
        await erase_former_values(tx, [case_id])
        result.add({"auditEntries": await audit.erase_cases(work, [case_id], at)})
        await attachment_rows.subtract_from_ledger(tx, removed)
        return removed, staged

    async def _delete_inbound_events(self, origin: WriteOrigin, ids: SoughtTexts) -> dict[str, int]:
        async with open_broker_in_reach(self._settings, self._timings) as broker:
            if broker is None:
                return {}
            stream = self._settings.events.inbound_stream
            letters = DeadLetterService(self._database, broker, stream)
            return {
                "deadLetters": await events.drop_dead_letters(letters, origin, ids),
                "appliedEvents": await events.delete_applied_events(broker, stream, ids),
            }

    async def _erase_published_events(self, case_ids: Collection[str]) -> dict[str, int]:
        async with open_broker_in_reach(self._settings, self._timings) as broker:
            if broker is None:
                return {}
            await events.wait_until_relayed(self._database, self._timings.relay_timeout)
            return {
                "publishedEvents": await events.delete_from_stream(
                    broker, self._settings.events.stream, frozenset(case_ids)
                )
            }

    async def _erase_cached_timelines(self, case_ids: Collection[str]) -> dict[str, int]:
        async with open_cache_in_reach(self._settings, self._timings) as cache:
            if cache is None or not case_ids:
                return {}
            collecting = self._timings.collecting
            # Twice: a timeline that was being collected at the first time is stored before the second one.
            for pause in (0.0, self._settings.timeline.deadline if collecting is None else collecting):
                await sleep(pause)
                for case_id in case_ids:
                    await cache.delete(cache_key(case_id))
        return {}


@asynccontextmanager
async def open_broker_in_reach(settings: Settings, timings: ErasureTimings) -> AsyncIterator[RedisBroker | None]:
    """Yield the broker in Redis; None without Redis, because other processes' events are out of reach."""
    url = settings.events_redis_url
    if url is None:
        yield None
        return
    broker = RedisBroker(url, timings=RedisBrokerTimings(timeout=timings.redis_timeout))
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def open_cache_in_reach(settings: Settings, timings: ErasureTimings) -> AsyncIterator[RedisCache | None]:
    """Yield the cache of timelines in Redis; None without Redis, as caches of other processes are out of reach."""
    url = settings.timeline.redis_url
    if url is None:
        yield None
        return
    late = RedisCacheTimings(late_answer_timeout=timings.redis_timeout)
    cache = RedisCache(url, timings.redis_timeout, discard_measurement, late)
    try:
        yield cache
    finally:
        await cache.close()
