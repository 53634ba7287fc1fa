"""Retention: delete the files of cases that were closed long ago, and record each deletion."""

from collections.abc import Callable, Sequence
from datetime import datetime

from support_service.attachments import store
from support_service.attachments.maintenance import garbage_queries
from support_service.attachments.maintenance.garbage import Clock
from support_service.attachments.model import Attachment, FileTotals
from support_service.attachments.service import audit_removal, publish_removal
from support_service.core.clock import utc_now
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.database import Database
from support_service.idempotency.unit_of_work import WriteContext, unit_of_work
from support_service.telemetry.instruments import Instruments

RETENTION_BATCH = 100


class RetentionJob:
    """Deletes files by age and case status: the case is in one of the statuses, and neither it nor the file changed."""

    def __init__(
        self, database: Database, instruments: Instruments, clock: Clock = utc_now, *, public_url: str = ""
    ) -> None:
        self._database = database
        self._instruments = instruments
        self._clock = clock
        self._public_url = public_url

    async def run(
        self,
        before: datetime,
        statuses: Sequence[str] = ("closed",),
        *,
        limit: int | None = None,
        dry_run: bool = False,
        report: Callable[[Attachment], None] = lambda _: None,
    ) -> FileTotals:
        """Delete at most `limit` files that did not change since `before`, of cases in `statuses`, and report each.

        With `dry_run`, only report. Return the number of files and bytes. The GarbageCollector deletes the bytes later.
        """
        files = size = after = 0
        while limit is None or files < limit:
            batch = RETENTION_BATCH if limit is None else min(RETENTION_BATCH, limit - files)
            if dry_run:
                expired = await garbage_queries.expired(self._database, before, statuses, after, batch)
                deleted = [attachment for _, attachment in expired]
            else:
                at = self._clock()
                async with unit_of_work(self._database, WriteContext(CURRENT_PRINCIPAL.get())) as work:
                    tx = work.tx
                    expired = await garbage_queries.expired(tx, before, statuses, after, batch, lock=True)
                    ids = [attachment.id for _, attachment in expired]
                    for case_id in sorted({attachment.ticket_id for _, attachment in expired}):
                        await store.lock_case(tx, case_id)
                    deleted = await store.remove(tx, ids, "retention", at) if ids else []
                    await publish_removal(tx, deleted, self._public_url, at)
                    await audit_removal(work, deleted, "retention", at)
                    await store.subtract_from_ledger(tx, deleted)
                self._instruments.attachment_deleted.add(len(deleted), {"reason": "retention"})
            if not expired:
                break
            after = expired[-1][0]
            for attachment in deleted:
                report(attachment)
            files += len(deleted)
            size += sum(attachment.size_bytes for attachment in deleted)
        return FileTotals(files, size)
