"""The `support-service offload` command: move files from the local disk to S3, or back."""

import argparse
import asyncio
import sys
from collections.abc import Mapping
from datetime import timedelta

from support_service.attachments.garbage import GarbageCollector
from support_service.attachments.maintenance.file_mover import OffloadResult
from support_service.attachments.model import FileTotals
from support_service.commands.runtime.attachment_output import describe, format_totals, log_fields, print_summary
from support_service.commands.runtime.database import load_migrated_settings
from support_service.commands.runtime.event_loop import run
from support_service.commands.runtime.maintenance import open_maintenance
from support_service.commands.runtime.progress import Progress, show_progress
from support_service.core.clock import utc_now
from support_service.core.errors import SupportError
from support_service.platform.background import run_every, run_in_background
from support_service.platform.settings import Settings, WrongSetting

GARBAGE_COLLECTION_INTERVAL = 10.0  # seconds
# Longest grace period that the command waits for. After a longer one, the service deletes the former copies.
MAX_AWAITED_GRACE = timedelta(seconds=30)


def offload(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Move files from the local disk to S3, or back."""
    settings = load_migrated_settings(environ)
    older_than = arguments.older_than
    if older_than is None:
        older_than = timedelta(0) if arguments.reverse else settings.s3.offload_after or timedelta(days=30)
    work = move_files(
        settings,
        older_than=older_than,
        reverse=arguments.reverse,
        dry_run=arguments.dry_run,
        limit=arguments.limit,
        rate=arguments.rate,
    )
    sys.exit(run(work))


async def move_files(
    settings: Settings,
    *,
    older_than: timedelta,
    reverse: bool = False,
    dry_run: bool = False,
    limit: int | None = None,
    rate: float | None = None,
) -> int:
    """Move files to S3, or back, and delete their former copies. Return the exit status: 1 if a file failed.

    Files must have at least the age `older_than`. `limit` is in files, `rate` in bytes per second. A SupportError that
    ends the move is raised after the summary is printed. Raises WrongSetting if there is no S3.
    """
    if settings.s3.bucket is None:
        raise WrongSetting("There is no storage to move files to: set SUPPORT_S3_BUCKET")
    counted: dict[str, list[int]] = {"moved": []}
    async with open_maintenance(settings) as maintenance:
        offloader, before = maintenance.offloader(reverse=reverse), utc_now() - older_than
        pending = await offloader.pending(before, limit)
        to = "local disk" if reverse else "S3"
        if dry_run:
            print_summary(
                f"Would move {format_totals(pending)} to {to}", dryRun=True, files=pending.files, bytes=pending.bytes
            )
            return 0
        failure: SupportError | None = None
        removal = FormerCopies(maintenance.garbage_collector, settings.s3.grace)
        with show_progress(f"to {to}", pending.bytes) as bar:

            def report(result: OffloadResult) -> None:
                counted.setdefault(result.outcome, []).append(result.attachment.size_bytes)
                _report_result(bar, result)

            async with run_in_background(run_every(GARBAGE_COLLECTION_INTERVAL, removal.run, "Deleting moved files")):
                try:
                    await offloader.run(before, limit=limit, rate=rate, report=report)
                except SupportError as reason:
                    failure = reason
            freed = await removal.finish(wait=bool(counted["moved"]))
        stayed = {outcome: len(sizes) for outcome, sizes in counted.items() if outcome != "moved"}
        moved = FileTotals(len(counted["moved"]), sum(counted["moved"]))
        late = moved.files and settings.s3.grace > MAX_AWAITED_GRACE
        rest = {"restAfterSeconds": settings.s3.grace.total_seconds()} if late else {}
        print_summary(
            f"Moved {format_totals(moved)} to {to}; removed {format_totals(freed)}"
            + "".join(f"; {number} {outcome}" for outcome, number in stayed.items())
            + (f"; the service removes the rest after {rest['restAfterSeconds']:g} s" if rest else ""),
            moved=moved.files,
            movedBytes=moved.bytes,
            removed=freed.files,
            freedBytes=freed.bytes,
            **stayed,
            **rest,
        )
        if failure is not None:
            raise failure
    return 1 if stayed.keys() - {"gone"} else 0


def _report_result(bar: Progress, result: OffloadResult) -> None:
    bar.advance(result.attachment.size_bytes)
    if result.outcome == "moved":
        bar.log_json(outcome="moved", **log_fields(result.attachment))
    else:
        bar.print(
            f"Stays ({result.outcome}): {describe(result.attachment)}: {result.reason}",
            outcome=result.outcome,
            reason=result.reason,
            **log_fields(result.attachment),
        )


class FormerCopies:
    """Deletes the former copies of moved files during a run, and counts them."""

    def __init__(self, garbage_collector: GarbageCollector, grace: timedelta) -> None:
        self._garbage_collector = garbage_collector
        self._grace = grace
        self._collecting: asyncio.Task[None] | None = None
        self.deleted = FileTotals(0, 0)

    async def run(self) -> None:
        """Delete the copies that are due.

        A cancelled call continues in the background, because other processes skip its claimed files for a while.
        """
        self._collecting = asyncio.create_task(self._collect())
        await asyncio.shield(self._collecting)

    async def _collect(self) -> None:
        deleted = await self._garbage_collector.run()
        self.deleted = FileTotals(self.deleted.files + deleted.files, self.deleted.bytes + deleted.bytes)

    async def finish(self, *, wait: bool) -> FileTotals:
        """Remove the remaining copies and return the total deleted.

        With `wait`, first wait for the grace period if it is short; it protects downloads that have just begun.
        """
        if self._collecting is not None:
            await asyncio.wait([self._collecting])
        if wait and self._grace <= MAX_AWAITED_GRACE:
            await asyncio.sleep(self._grace.total_seconds())
        await self.run()
        return self.deleted
