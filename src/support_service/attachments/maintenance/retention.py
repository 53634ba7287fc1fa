"""Retention: delete the files of cases that were closed long ago, and record each deletion."""

from collections.abc import Callable, Sequence
from datetime import datetime

from support_service.attachments import store
from support_service.attachments.maintenance import garbage_queries
from support_service.attachments.maintenance.garbage import Clock, now
from support_service.attachments.model import Attachment, Backlog
from support_service.attachments.service import record_removal, tell_removal
from support_service.database import Database
from support_service.telemetry.instruments import Instruments

BATCH = 100


class Retention:
    """Deletes files by age and case status: the case is in one of the statuses, and neither it nor the file changed."""

    def __init__(
        self, database: Database, instruments: Instruments, clock: Clock = now, *, public_url: str = ""
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
    ) -> Backlog:
        """Delete at most `limit` files that did not change since `before`, of cases in `statuses`, and report each.

        With `dry_run`, only report. Return the number of files and bytes. The Remover deletes the bytes later.
        """
        files = size = after = 0
        while limit is None or files < limit:
            batch = BATCH if limit is None else min(BATCH, limit - files)
            if dry_run:
                expired = await garbage_queries.expired(self._database, before, statuses, after, batch)
                deleted = [attachment for _, attachment in expired]
            else:
                at = self._clock()
                async with self._database.transaction() as tx:
                    expired = await garbage_queries.expired(tx, before, statuses, after, batch, lock=True)
                    ids = [attachment.id for _, attachment in expired]
                    for case_id in sorted({attachment.ticket_id for _, attachment in expired}):
                        await store.touch_case(tx, case_id)
                    deleted = await store.remove(tx, ids, "retention", at) if ids else []
                    await tell_removal(tx, deleted, self._public_url, at)
                    await record_removal(tx, deleted, "retention", at)
                    await store.count_out(tx, deleted)
                self._instruments.attachment_deleted.add(len(deleted), {"reason": "retention"})
            if not expired:
                break
            after = expired[-1][0]
            for attachment in deleted:
                report(attachment)
            files += len(deleted)
            size += sum(attachment.size_bytes for attachment in deleted)
        return Backlog(files, size)
