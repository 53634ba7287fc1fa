"""Retention of cases: delete cases that were closed long ago, with all that the service has of them.

Cases are deleted in batches of one transaction each, so that a run that is interrupted is continued by the next one.
The audit log keeps who changed which case, and when, without the changes. With an archive, each case is in a sealed
file before it is deleted. A case that changes in between stays.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import sqlalchemy as sa

from support_service.attachments.garbage import GarbageCollector
from support_service.cases import case_erasure as cases
from support_service.cases.case_files import ATTACHMENT_DELETED
from support_service.cases.model.vocabulary import DUPLICATE_OF
from support_service.cases.sql import attachment_rows, case_rows, link_rows
from support_service.cases.sql.attachment_rows import GarbageEntry
from support_service.cases.sql.projections import IS_SYNTHETIC, LATEST_CHANGE
from support_service.core.clock import utc_now
from support_service.desk import customers
from support_service.desk.bulk import erase_former_values
from support_service.events import event_erasure as events
from support_service.events.broker.base import BrokerError
from support_service.platform import idempotency_keys
from support_service.platform.audit import log as audit
from support_service.platform.audit.chain import CASE_ERASED
from support_service.platform.database import Database, Row, RowReader, Transaction
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.tables import audit_log, case_links, ticket_tags, tickets
from support_service.platform.redis import REDIS_FAILURES
from support_service.platform.settings import Settings
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work
from support_service.privacy.erasure import (
    LOG_NOT_TRUNCATED,
    NOT_RELAYED,
    ErasureTimings,
    open_broker_in_reach,
    open_cache_in_reach,
    twice_around_collections,
    wait_for_files,
    wait_for_relay,
)
from support_service.timeline.snapshots import cache_key

BATCH_CASES = 100  # per transaction, which on SQLite blocks all other writers
IDS_PER_QUERY = 500
Archive = Callable[[Sequence[str]], Awaitable[tuple[str, dict[str, int]]]]
"""Stores cases in a sealed file. Returns the seal, and the version of each case that the file has."""


@dataclass(frozen=True, slots=True)
class ExpiredCases:
    """Which closed cases are due: unchanged since `before`, of one of the channels and with one of the tags, if given.

    A case with one of the tags `kept` is never due, such as one that a court may ask for. A duplicate is read with its
    original, so that it is due only once that is deleted.
    """

    before: datetime
    channels: Collection[str] = ()
    tags: Collection[str] = ()
    kept: Collection[str] = ()

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        is_duplicate = sa.exists().where(case_links.c.case_id == tickets.c.id, case_links.c.kind == DUPLICATE_OF)
        found = [
            tickets.c.status == "closed",
            self.before >= LATEST_CHANGE,
            sa.not_(IS_SYNTHETIC),
            sa.not_(is_duplicate),
        ]
        if self.channels:
            found.append(tickets.c.channel.in_(self.channels))
        if self.tags:
            found.append(_has_tag(self.tags))
        if self.kept:
            found.append(sa.not_(_has_tag(self.kept)))
        return found

    async def count(self, reader: RowReader) -> int:
        (row,) = await reader.fetch_all(sa.select(sa.func.count().label("number")).where(*self.conditions()))
        return int(row.number)

    async def read_page(self, reader: RowReader, after: Row | None, count: int) -> Sequence[Row]:
        """Return (id, seq, at) of at most `count` cases that are due, the earliest changed first."""
        statement = sa.select(tickets.c.id, tickets.c.seq, LATEST_CHANGE.label("at")).where(*self.conditions())
        if after is not None:
            place = sa.tuple_(sa.literal(after.at, UtcDateTime()), sa.literal(after.seq, sa.BigInteger()))
            statement = statement.where(sa.tuple_(LATEST_CHANGE, tickets.c.seq) > place)
        return await reader.fetch_all(statement.order_by(LATEST_CHANGE, tickets.c.seq).limit(count))

    async def read_locked(self, tx: Transaction, case_ids: Collection[str]) -> Mapping[str, int]:
        """Lock cases, and the cases that are linked with them; return the versions of the due ones by their ids."""
        await link_rows.lock_with_linked_cases(tx, case_ids)
        due = sa.select(tickets.c.id, tickets.c.version).where(tickets.c.id.in_(case_ids), *self.conditions())
        return {row.id: row.version for row in await tx.fetch_all(due)}

    def audited(self) -> dict[str, tuple[None, object]]:
        """Return what the audit log says of the selection."""
        chosen = {"channels": self.channels, "tags": self.tags, "keptTags": self.kept}
        return {"closedBefore": (None, self.before), **{name: (None, sorted(each)) for name, each in chosen.items()}}


def _has_tag(tags: Collection[str]) -> sa.ColumnElement[bool]:
    return sa.exists().where(ticket_tags.c.seq == tickets.c.seq, ticket_tags.c.tag.in_(tags))


@dataclass(slots=True)
class RetentionTotals:
    """How many cases were due, stored in sealed files, and deleted, with how many files of how many bytes.

    `changed` counts the cases that stay because they have changed since they were found or stored.
    """

    due: int = 0
    archived: int = 0
    deleted: int = 0
    changed: int = 0
    files: int = 0
    bytes: int = 0
    customers: int = 0  # whose records were deleted


class CaseRetention:
    """Deletes cases that are due, and stores them in an archive before that, if there is one."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        garbage_collector: GarbageCollector,
        instruments: Instruments,
        *,
        archive: Archive | None = None,
        timings: ErasureTimings = ErasureTimings(),
        report_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._garbage_collector = garbage_collector
        self._instruments = instruments
        self._archive = archive
        self._timings = timings
        self._report_wait = report_wait
        self._files: list[GarbageEntry] = []  # whose bytes remain to be deleted
        self.totals = RetentionTotals()
        self.unreached = set[str]()  # what still has data of deleted cases

    async def run(
        self,
        origin: WriteOrigin,
        expired: ExpiredCases,
        *,
        erase: bool,
        page_size: int,
        limit: int | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Store and delete at most `limit` cases that are due, `page_size` in one sealed file, and report each.

        The cases stay unless `erase` is true. `totals` also counts what was done before an error. Records of customers
        without a case go too, unless only some cases were asked for: others may have another time to be kept.
        """
        after = None
        try:
            while count := page_size if limit is None else min(page_size, limit - self.totals.due):
                page = await expired.read_page(self._database, after, count)
                if not page:
                    break
                after = page[-1]
                self.totals.due += len(page)
                await self._store_and_delete(origin, expired, [row.id for row in page], erase=erase, report=report)
            if erase and not (expired.channels or expired.tags):
                await self._delete_unused_records(expired.before)
        finally:
            if self.totals.archived or self.totals.deleted or self.totals.customers:
                await self._record_run(origin, expired)
            if erase:
                await self._finish()

    async def _store_and_delete(
        self,
        origin: WriteOrigin,
        expired: ExpiredCases,
        case_ids: Sequence[str],
        *,
        erase: bool,
        report: Callable[[str], None],
    ) -> None:
        seal, versions = None, None
        if self._archive is not None:
            seal, versions = await self._archive(case_ids)
            self.totals.archived += len(versions)
            case_ids = list(versions)
        for start in range(0, len(case_ids), BATCH_CASES):
            batch = case_ids[start : start + BATCH_CASES]
            done = await self._delete(origin, expired, batch, seal, versions) if erase else batch
            self.totals.changed += len(batch) - len(done)
            for case_id in done:
                report(case_id)

    async def _delete(
        self,
        origin: WriteOrigin,
        expired: ExpiredCases,
        case_ids: Sequence[str],
        seal: str | None,
        versions: dict[str, int] | None,
    ) -> Sequence[str]:
        """Delete the cases that are still due and have not changed since they were stored; return their ids.

        The versions of stored cases that are linked with them become the next ones.
        """
        async with unit_of_work(self._database, origin) as work:
            tx, found = work.tx, await expired.read_locked(work.tx, case_ids)
            due = [each for each, version in found.items() if versions is None or versions[each] == version]
            if not due:
                return due
            at = utc_now()
            copies = await attachment_rows.read_unfinished_copies(tx, due)
            files = await attachment_rows.delete_of_cases(tx, due, at)
            erase_event = partial(cases.erase_event, channels=self._settings.cases.known_channels)
            await events.rewrite_stored_events(tx, due, erase_event)
            await idempotency_keys.erase_case_responses(tx, due)
            await erase_former_values(tx, due)
            links = await link_rows.find_by_cases(tx, due)
            await link_rows.increment_versions_of_linked_cases(tx, due)
            of_cases = sa.select(tickets.c.customer_id).where(tickets.c.id.in_(due), tickets.c.customer_id.is_not(None))
            owners = {row.customer_id for row in await tx.fetch_all(of_cases.distinct())}
            await case_rows.delete(tx, due)
            records = await customers.remove_unused(tx, owners, expired.before)
            await cases.erase_occurrences(tx, due, self._settings.cases.known_channels)
            archive = {"archive": (None, seal)} if seal else {}
            await audit.erase_cases(work, due, at, {"reason": (None, "retention"), **archive})
        for linked in {each for link in links for each in (link.case_id, link.other_case_id)}:
            if versions and linked in versions:
                versions[linked] += 1
        self._instruments.add(ATTACHMENT_DELETED, len(files), {"reason": "retention"})
        self._files += [*map(attachment_rows.garbage_entry_of, files), *copies]
        self.totals.deleted += len(due)
        self.totals.customers += records
        self.totals.files += len(files)
        self.totals.bytes += sum(each.size_bytes for each in files)
        return due

    async def _delete_unused_records(self, before: datetime) -> None:
        """Delete the records of customers who have no case, also if their last case was deleted otherwise."""
        after = ""
        while ids := await customers.read_unused(self._database, before, after, IDS_PER_QUERY):
            after = ids[-1]
            async with self._database.transaction() as tx:
                self.totals.customers += await customers.remove_unused(tx, ids, before)

    async def _record_run(self, origin: WriteOrigin, expired: ExpiredCases) -> None:
        done = {"archivedCases": self.totals.archived, "deletedCases": self.totals.deleted, "files": self.totals.files}
        done["customers"] = self.totals.customers
        changes = {**expired.audited(), **{name: (None, number) for name, number in done.items()}}
        async with unit_of_work(self._database, origin) as work:
            await audit.record(work, None, "retention.run", utc_now(), changes)

    async def _finish(self) -> None:
        """Delete what is not in rows of the cases, also what an interrupted run has left."""
        await self._database.purge_search_index()
        if not await self._database.truncate_write_ahead_log():
            self.unreached.add(LOG_NOT_TRUNCATED)
        timeout = self._timings.files_timeout
        left = await wait_for_files(self._database, self._garbage_collector, self._files, timeout, self._report_wait)
        if any(left):
            self.unreached.add(f"{max(left)} files are not deleted yet: the service deletes them")
        for what, delete in (
            ("the timeline cache", self._delete_cached_timelines),
            ("the stream of events", self._delete_published_events),
        ):
            try:
                await delete()
            except (BrokerError, *REDIS_FAILURES) as failure:
                self.unreached.add(f"{what} was not reached: {failure}")

    async def _delete_cached_timelines(self) -> None:
        async with open_cache_in_reach(self._settings, self._timings) as cache:
            if cache is None:
                return
            prefix = cache_key("")
            async for _ in twice_around_collections(self._settings, self._timings):
                cached = {key.removeprefix(prefix) for key in await cache.find_keys(prefix)}
                await cache.delete_all([prefix + each for each in await self._find_deleted(cached)])

    async def _delete_published_events(self) -> None:
        async with open_broker_in_reach(self._settings, self._timings) as broker:
            if broker is None:
                return
            is_relayed = await wait_for_relay(self._database, broker, self._settings, self._timings, self._report_wait)
            stream = self._settings.events.stream
            gone = await self._find_deleted(await events.read_subjects_of_stream(broker, stream))
            if gone:
                await events.delete_from_stream(broker, stream, gone)
            if not is_relayed:
                raise BrokerError(NOT_RELAYED)

    async def _find_deleted(self, case_ids: Collection[str]) -> set[str]:
        """Return those cases that the audit log knows as erased, and that do not exist any more, also of other runs."""
        gone = set[str]()
        for ids in _batches(sorted(case_ids)):
            erased = sa.select(audit_log.c.case_id).where(
                audit_log.c.case_id.in_(ids),
                audit_log.c.action == CASE_ERASED,
                ~sa.exists().where(tickets.c.id == audit_log.c.case_id),
            )
            gone |= {row.case_id for row in await self._database.fetch_all(erased)}
        return gone


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + IDS_PER_QUERY] for start in range(0, len(ids), IDS_PER_QUERY))
