"""Retention: delete the files of cases that were closed long ago, and record each deletion."""

from collections.abc import Callable, Sequence
from datetime import datetime

import sqlalchemy as sa

from support_service.attachments.garbage import WallClock
from support_service.cases.case_files import ATTACHMENT_DELETED, CaseFiles
from support_service.cases.model.files import FileTotals, StoredAttachment
from support_service.cases.sql import case_rows
from support_service.cases.sql.attachment_rows import ATTACHMENT_COLUMNS, to_attachment
from support_service.cases.sql.projections import LATEST_CHANGE, has_original, latest_change
from support_service.core.clock import utc_now
from support_service.platform.database import Database, RowReader
from support_service.platform.database.tables import attachments, tickets
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work

RETENTION_BATCH = 100
_AGE_ORDER = (attachments.c.created_at, attachments.c.id)


class RetentionJob:
    """Deletes the files of cases in given statuses if neither the case nor the file changed since a given time."""

    def __init__(
        self, database: Database, instruments: Instruments, clock: WallClock = utc_now, *, public_url: str = ""
    ) -> None:
        self._database = database
        self._instruments = instruments
        self._clock = clock
        self._files = CaseFiles(public_url=public_url)

    async def run(
        self,
        origin: WriteOrigin,
        before: datetime,
        statuses: Sequence[str] = ("closed",),
        *,
        limit: int | None = None,
        dry_run: bool = False,
        report: Callable[[StoredAttachment], None] = lambda _: None,
    ) -> FileTotals:
        """Delete at most `limit` files that did not change since `before`, of cases in `statuses`, and report each.

        With `dry_run`, only report. Return the number of files and bytes. The GarbageCollector deletes the bytes later.
        """
        files = size = 0
        after: StoredAttachment | None = None
        while limit is None or files < limit:
            batch = RETENTION_BATCH if limit is None else min(RETENTION_BATCH, limit - files)
            if dry_run:
                expired = await list_expired(self._database, before, statuses, after, batch)
                deleted = expired
            else:
                async with unit_of_work(self._database, origin) as work:
                    expired = await list_expired(work.tx, before, statuses, after, batch, lock=True)
                    ids = [attachment.id for attachment in expired]
                    public = {each.ticket_id for each in expired if each.visibility == "public"}
                    for case_id in sorted({attachment.ticket_id for attachment in expired}):
                        await case_rows.increment_version(work.tx, case_id, internal=case_id not in public)
                    at = self._clock()  # with the cases locked
                    deleted = await self._files.remove(work, ids, "retention", at)
                self._instruments.add(ATTACHMENT_DELETED, len(deleted), {"reason": "retention"})
            if not expired:
                break
            after = expired[-1]
            for attachment in deleted:
                report(attachment)
            files += len(deleted)
            size += sum(attachment.size_bytes for attachment in deleted)
        return FileTotals(files, size)


async def list_expired(
    reader: RowReader,
    before: datetime,
    statuses: Sequence[str],
    after: StoredAttachment | None,
    limit: int,
    *,
    lock: bool = False,
) -> list[StoredAttachment]:
    """Return attachments of cases in `statuses` where neither the case nor the file changed since `before`.

    The files of a duplicate are read with its original, so that the same holds for the original as well.

    Return at most `limit` attachments, oldest first, starting behind `after`: only old files are read. With `lock`, the
    files and their cases are locked until the transaction ends. Rows locked by others are skipped, so that several
    processes can run at once.
    """

    def is_active(original: sa.FromClause) -> sa.ColumnElement[bool]:
        return sa.or_(original.c.status.not_in(statuses), latest_change(original) > before)

    found = (
        sa.select(*ATTACHMENT_COLUMNS)
        .join(tickets, tickets.c.id == attachments.c.ticket_id)
        .where(tickets.c.status.in_(statuses), before >= LATEST_CHANGE, attachments.c.created_at <= before)
        .where(sa.not_(has_original(is_active)))
        .order_by(*_AGE_ORDER)
        .limit(limit)
    )
    if after is not None:
        found = found.where(sa.tuple_(*_AGE_ORDER) > (after.created_at, after.id))
    rows = await reader.fetch_all(found.with_for_update(skip_locked=True) if lock else found)
    return [to_attachment(row) for row in rows]
