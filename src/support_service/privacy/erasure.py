"""Erasure of a customer's personal data from cases, files, saved views, events and caches.

Cases stay for counts and times, without anything that identifies the customer. A case keeps the customer's id until
everything else is erased. So the next erasure of the customer continues one that was interrupted. What others write to
a case meanwhile gives the case another version, and the case is erased again.
"""

import time
from asyncio import sleep
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from support_service.attachments.garbage import GarbageCollector, find_garbage
from support_service.cases import case_erasure as cases
from support_service.cases.case_files import ATTACHMENT_DELETED, audit_removal
from support_service.cases.sql import attachment_rows, case_rows
from support_service.cases.sql.attachment_rows import GarbageEntry
from support_service.cases.sql.case_rows import CaseState
from support_service.core.clock import time_after, utc_now
from support_service.core.errors import Unavailable, problem
from support_service.core.search_words import SoughtTexts
from support_service.desk import customers
from support_service.desk.bulk import erase_former_values
from support_service.desk.views import erase_views
from support_service.events import event_erasure as events
from support_service.events.broker.base import BrokerError, RedisBrokerTimings
from support_service.events.broker.redis import RedisBroker
from support_service.events.dead_letters import DeadLetterService
from support_service.platform import idempotency_keys
from support_service.platform.audit import log as audit
from support_service.platform.database import Database, RowReader
from support_service.platform.settings import Settings
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.stores import discard_measurement
from support_service.platform.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work
from support_service.timeline.cache import CacheUnavailable, RedisCacheTimings
from support_service.timeline.redis_cache import RedisCache
from support_service.timeline.snapshots import cache_key

MAX_PASSES = 10  # each but the first one erases what others have written during the one before
STORING = 1.0  # seconds after its deadline in which a timeline is stored, and its lease ends
FILES_INTERVAL = 0.2  # seconds between two looks at files that the service deletes
LOG_NOT_TRUNCATED = "the write-ahead log: others are reading the database"
ANSWERS_NOT_ERASED = "the stored answers to requests in progress ({}): the service deletes them within 24 hours"
NOT_RELAYED = "the relay has not published what it had read; see that the service and Redis run, and repeat the command"


@dataclass(frozen=True, slots=True)
class ErasureTimings:
    """Times of an erasure in seconds."""

    redis_timeout: float = 2.0  # no reader waits for it
    relay_timeout: float = 30.0  # for events to be published; a running relay needs a tenth of a second
    # For files that the service has begun to delete or to copy. The claim on a copy ends two minutes after its run.
    files_timeout: float = 150.0
    collecting: float | None = None  # for timelines that are being collected; None: their deadline and STORING
    answers_timeout: float = 40.0  # for requests in progress; the claim of a dead one ends after 30 s


@dataclass(slots=True)
class ErasureResult:
    """The result of an erasure: case ids and counts. `unreached` names what could not be erased and must be retried."""

    cases: list[str] = field(default_factory=list)
    erased: dict[str, int] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)  # of each case, which may be erased again
    unreached: list[str] = field(default_factory=list)
    other_identities: list[str] = field(default_factory=list)  # ids of the same person, which were not erased

    def add(self, counts: dict[str, int]) -> None:
        for name, number in counts.items():
            self.erased[name] = self.erased.get(name, 0) + number


class CustomerErasure:
    """Erases customers, one per run. `report_wait` gets what the erasure waits for."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        garbage_collector: GarbageCollector,
        instruments: Instruments,
        timings: ErasureTimings = ErasureTimings(),
        *,
        report_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._timings = timings
        self._report_wait = report_wait
        self._settings = settings
        self._database = database
        self._garbage_collector = garbage_collector
        self._instruments = instruments

    async def select(self, customer_id: str, *, all_identities: bool = False) -> tuple[dict[str, list[str]], list[str]]:
        """Return the case ids of each id to erase, and the ids of the same person that are not erased."""
        identities = await customers.read_identities(self._database, customer_id)
        others = [each for each in identities if each != customer_id]
        ids = [customer_id, *(others if all_identities else ())]
        found = {each: await cases.read_case_ids_of_customer(self._database, each) for each in ids}
        if not (identities or any(found.values())):
            raise problem("customer_not_found", f"No case and no record is of the customer {customer_id!r}.")
        return found, [] if all_identities else others

    async def run(
        self,
        origin: WriteOrigin,
        customer_id: str,
        report_case: Callable[[str], None] = lambda _: None,
        *,
        all_identities: bool = False,
    ) -> ErasureResult:
        """Erase a customer, or all ids of the person, and report the id of each case that is done."""
        result = ErasureResult()
        found, result.other_identities = await self.select(customer_id, all_identities=all_identities)
        ids = found.keys()
        async with self._database.transaction() as tx:
            await customers.erase_contents(tx, ids)
        for _ in range(MAX_PASSES):
            versions: dict[str, int] = {}
            for each, case_ids in found.items():
                versions |= await self._erase_identity(origin, each, case_ids, result, report_case)
            result.cases += [each for each in versions if each not in result.cases]
            if not await self._database.truncate_write_ahead_log():
                result.unreached.append(LOG_NOT_TRUNCATED)
            if result.unreached:
                return result
            await self._release_cases(versions)
            found = {each: await cases.read_case_ids_of_customer(self._database, each) for each in ids}
            if not any(found.values()):
                await self._erase_records(origin, ids, result)
                return result
        changed = ", ".join(each for case_ids in found.values() for each in case_ids)
        result.unreached.append(f"cases that others change or open again and again: {changed}")
        return result

    async def _erase_identity(
        self,
        origin: WriteOrigin,
        customer_id: str,
        case_ids: Sequence[str],
        result: ErasureResult,
        report_case: Callable[[str], None],
    ) -> dict[str, int]:
        """Erase the data of one id except its record. Return the new versions of its cases."""
        await self._erase_outside_of_cases(origin, customer_id, result)
        files: list[GarbageEntry] = []
        versions: dict[str, int] = {}
        for case_id in case_ids:
            async with unit_of_work(self._database, origin) as work:
                case = await case_rows.increment_version(work.tx, case_id)
                removed, garbage = await self._erase_case(work, case_id, case, result)
            versions[case_id] = case.version if case else 0  # a synthetic case may be deleted meanwhile
            if case is not None and not case.synthetic:
                self._instruments.add(ATTACHMENT_DELETED, removed, {"reason": "erasure"})
            files += garbage
            report_case(case_id)
        await self._database.purge_search_index()
        timeout = self._timings.files_timeout
        left, _ = await wait_for_files(self._database, self._garbage_collector, files, timeout, self._report_wait)
        if left:
            result.unreached.append(f"the bytes of {left} files: the service deletes them as soon as it can")
        for what, erase in (
            ("the stream of events", self._erase_published_events),
            ("the timeline cache", self._erase_cached_timelines),
        ):
            try:
                result.add(await erase(case_ids))
            except (BrokerError, CacheUnavailable) as fault:
                result.unreached.append(f"{what}: {fault}")
        if not result.unreached:  # what was written while this waited
            await self._erase_outside_of_cases(origin, customer_id, result)
        return versions

    async def _release_cases(self, versions: Mapping[str, int]) -> None:
        """Remove the customer from the cases that have not changed since they were erased."""
        for case_id, version in versions.items():
            async with self._database.transaction() as tx:
                if await cases.release_case(tx, case_id, version):
                    await idempotency_keys.erase_case_responses(tx, [case_id])  # that have the customer's id

    async def _erase_records(self, origin: WriteOrigin, ids: Collection[str], result: ErasureResult) -> None:
        """Erase the records of a customer's ids, and the responses that have them.

        Last, because the next run after an interruption finds the other ids by the links.
        """
        async with unit_of_work(self._database, origin) as work:
            removed = await customers.remove(work.tx, ids)
            for record in removed:
                await audit.record(work, None, "customer.erased", utc_now(), {"customer": (record.audit_id, None)})
        if removed:
            result.add({"records": len(removed)})
        if running := await self._wait_for_requests():
            result.unreached.append(ANSWERS_NOT_ERASED.format(running))
        async with self._database.transaction() as tx:
            for each in ids:
                await idempotency_keys.erase_responses_naming(tx, each, ())
        if not await self._database.truncate_write_ahead_log():
            result.unreached.append(LOG_NOT_TRUNCATED)

    async def _wait_for_requests(self) -> int:
        """Wait until the responses to requests about no case are stored that are in progress. Return how many are not.

        Such a response may have the record of the customer.
        """
        running = await idempotency_keys.read_keys_in_progress(self._database, utc_now())
        if running:
            self._report_wait(f"waiting up to {self._timings.answers_timeout:g} s for requests in progress")
        end = time.monotonic() + self._timings.answers_timeout
        while running and time.monotonic() < end:
            await sleep(events.POLL_INTERVAL)
            still = await idempotency_keys.read_keys_in_progress(self._database, utc_now())
            running = [each for each in running if each in still]
        return len(running)

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
        self, work: UnitOfWork, case_id: str, case: CaseState | None, result: ErasureResult
    ) -> tuple[int, list[GarbageEntry]]:
        """Erase a case in the database, within `work`.

        Return the number of removed files, and the bytes that remain to be deleted. These are also of staged files, and
        copies of files that are being moved.
        """
        tx = work.tx
        at = time_after(case.at) if case else utc_now()
        copies = await attachment_rows.read_unfinished_copies(tx, [case_id])
        files = [attachment.id for attachment in await attachment_rows.list_by_case(tx, case_id)]
        staged = await attachment_rows.discard_staged_of_case(tx, case_id, at)
        removed = await attachment_rows.remove(tx, files, "erasure", at) if files else []
        await attachment_rows.erase_deletions(tx, case_id)
        channels = self._settings.cases.known_channels
        result.messages[case_id] = await cases.erase_case(tx, case_id, channels)
        result.erased["messages"] = sum(result.messages.values())
        result.add({"files": len(removed) + len(staged)})
        result.add(await events.rewrite_stored_events(tx, [case_id], partial(cases.erase_event, channels=channels)))
        await audit_removal(work, removed, "erasure", at)
        await idempotency_keys.erase_case_responses(tx, [case_id])
        await erase_former_values(tx, [case_id])
        result.add({"auditEntries": await audit.erase_cases(work, [case_id], at)})
        await attachment_rows.subtract_from_ledger(tx, removed)
        return len(removed), [*map(attachment_rows.garbage_entry_of, (*removed, *staged)), *copies]

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
            is_relayed = await wait_for_relay(self._database, broker, self._settings, self._timings, self._report_wait)
            removed = await events.delete_from_stream(broker, self._settings.events.stream, frozenset(case_ids))
            if not is_relayed:
                raise BrokerError(NOT_RELAYED)
            return {"publishedEvents": removed}

    async def _erase_cached_timelines(self, case_ids: Collection[str]) -> dict[str, int]:
        async with open_cache_in_reach(self._settings, self._timings) as cache:
            if cache is None or not case_ids:
                return {}
            async for _ in twice_around_collections(self._settings, self._timings):
                for case_id in case_ids:
                    await cache.delete(cache_key(case_id))
        return {}


async def wait_for_files(
    reader: RowReader,
    collector: GarbageCollector,
    files: Sequence[GarbageEntry],
    max_wait: float,
    report: Callable[[str], None],
) -> tuple[int, int]:
    """Delete the bytes of files, and wait for files that the service is deleting or copying.

    Wait at most `max_wait` seconds, and report the wait. Return at once if a storage is not reached.

    Return how many of the files are left, and how many files of any case could not be deleted.
    """
    end, is_reported = time.monotonic() + max_wait, False
    while True:
        failed = (await collector.run()).failed
        files = await find_garbage(reader, files)
        if not files or failed or time.monotonic() >= end:
            return len(files), failed
        if not is_reported:
            report(f"waiting up to {max_wait:g} s for {len(files)} files that the service deletes or moves")
            is_reported = True
        await sleep(FILES_INTERVAL)


async def wait_for_relay(
    reader: RowReader, broker: RedisBroker, settings: Settings, timings: ErasureTimings, report: Callable[[str], None]
) -> bool:
    """Wait as `events.wait_until_relayed` does, if the broker is reached. Raises BrokerError."""
    await broker.entries(settings.events.stream, 1, "")  # the relay does not reach it either
    return await events.wait_until_relayed(reader, timings.relay_timeout, report)


async def twice_around_collections(settings: Settings, timings: ErasureTimings) -> AsyncIterator[None]:
    """Yield before and after the longest collection: a timeline that is being collected is stored in between."""
    yield
    await sleep(settings.timeline.deadline + STORING if timings.collecting is None else timings.collecting)
    yield


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
