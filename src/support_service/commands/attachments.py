"""The `support-service offload`, `sweep` and `scrub` commands, which work on the files of cases."""

import argparse
from datetime import timedelta
from typing import TYPE_CHECKING

from support_service.cases.model.files import FileTotals, StoredAttachment
from support_service.commands import grammar
from support_service.commands.output import Progress, print_summary, show_progress
from support_service.commands.runtime import open_maintenance, with_settings
from support_service.core.clock import utc_now
from support_service.core.errors import SupportError
from support_service.core.units import format_bytes

if TYPE_CHECKING:
    import asyncio

    from support_service.attachments.garbage import GarbageCollector
    from support_service.attachments.maintenance.file_mover import OffloadResult
    from support_service.attachments.maintenance.reconcile import Finding
    from support_service.attachments.maintenance.scrub import ScrubResult
    from support_service.platform.settings import Settings

GARBAGE_COLLECTION_INTERVAL = 10.0  # seconds


def add_to(commands: grammar.Subcommands) -> None:
    """Add `offload`, `sweep` and `scrub` to the commands."""
    what = "move files from the local disk to S3; each copy is read back and compared first"
    command = commands.add("offload", what, with_settings(offload, migrated=True))
    command.add_argument(
        "--older-than",
        type=grammar.duration,
        metavar="AGE",
        help="minimum age of the files, such as 30d (default: SUPPORT_OFFLOAD_AFTER or 30d)",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="move nothing, only print the number and size of the files"
    )
    command.add_argument("--limit", type=grammar.positive_int, metavar="N", help="move at most this many files")
    command.add_argument("--rate", type=grammar.byte_rate, metavar="RATE", help="maximum rate, such as 50MB/s")

    what = "compare rows, files and the ledger"
    repairs = f"{what}, and make safe repairs; exit status 1 if a file is missing or damaged"
    command = commands.add("sweep", what, with_settings(sweep, migrated=True), description=repairs)
    command.add_argument(
        "--dry-run",
        action="store_true",
        help="repair nothing, only print the differences, and the files without a row that are too young",
    )

    what = "hash stored files again and compare with their recorded SHA-256; exit status 1 if a file differs"
    command = commands.add("scrub", what, with_settings(scrub, migrated=True))
    command.add_argument(
        "--sample",
        type=grammar.percentage,
        default=1.0,
        metavar="SHARE",
        help="check only a random share of the files, such as 1%% (default: 100%%)",
    )


async def offload(settings: "Settings", arguments: argparse.Namespace) -> int:
    """Move files to S3, and delete their former copies. Return the exit status: 1 if a file failed.

    A file that failed in an earlier run, and waits for its next try, counts as well.
    A SupportError that ends the move is raised after the summary is printed. Raises UserError if there is no S3.
    """
    from support_service.core.errors import UserError
    from support_service.platform.background import Job, run_in_background

    if settings.s3.bucket is None:
        raise UserError("There is no storage to move files to: set SUPPORT_S3_BUCKET")
    older_than = arguments.older_than
    if older_than is None:
        older_than = settings.s3.offload_after or timedelta(days=30)
    counted: dict[str, list[int]] = {"moved": []}
    async with open_maintenance(settings) as maintenance:
        offloader, before = maintenance.offloader(), utc_now() - older_than
        pending = await offloader.pending_totals(before, arguments.limit)
        waiting = await offloader.waiting_totals(before)
        left = {"waiting": waiting.files} if waiting.files else {}
        left_text = f"; {waiting.files} failed before and wait for their next try" if waiting.files else ""
        if arguments.dry_run:
            text = f"Would move {format_totals(pending)} to S3{left_text}"
            print_summary(text, dryRun=True, files=pending.files, bytes=pending.bytes, **left)
            return 0
        failure: SupportError | None = None
        removal = FormerCopyRemoval(maintenance.garbage_collector)
        with show_progress("to S3", pending.bytes) as bar:

            def report(result: "OffloadResult") -> None:
                counted.setdefault(result.outcome, []).append(result.attachment.size_bytes)
                _report_moved_file(bar, result)

            deleting = Job("Deleting moved files", GARBAGE_COLLECTION_INTERVAL, removal.delete_due)
            async with run_in_background(deleting):
                try:
                    await offloader.run(before, limit=arguments.limit, rate=arguments.rate, report=report)
                except SupportError as reason:
                    failure = reason
            freed = await removal.finish(wait=bool(counted["moved"]))
        moved = FileTotals(len(counted["moved"]), sum(counted["moved"]))
        stayed = {outcome: len(sizes) for outcome, sizes in counted.items() if outcome != "moved"}
        text = f"Moved {format_totals(moved)} to S3; removed {format_totals(freed)}"
        text += "".join(f"; {number} {outcome}" for outcome, number in stayed.items()) + left_text
        totals = {"moved": moved.files, "movedBytes": moved.bytes, "removed": freed.files, "freedBytes": freed.bytes}
        print_summary(text, **totals, **stayed, **left)
        if failure is not None:
            raise failure
    return 1 if left or stayed.keys() - {"gone"} else 0


def _report_moved_file(bar: Progress, result: "OffloadResult") -> None:
    bar.advance(result.attachment.size_bytes)
    if result.outcome == "moved":
        bar.print(outcome="moved", **log_fields(result.attachment))
    else:
        bar.print(
            f"Stays ({result.outcome}): {describe_attachment(result.attachment)}: {result.reason}",
            outcome=result.outcome,
            reason=result.reason,
            **log_fields(result.attachment),
        )


class FormerCopyRemoval:
    """Deletes the former copies of moved files during a run, and counts them."""

    def __init__(self, garbage_collector: "GarbageCollector") -> None:
        self._garbage_collector = garbage_collector
        self._collecting: asyncio.Task[None] | None = None
        self.deleted = FileTotals(0, 0)

    async def delete_due(self) -> None:
        """Delete the copies that are due.

        A cancelled call continues in the background, because other processes skip its claimed files for a while.
        """
        import asyncio

        self._collecting = asyncio.create_task(self._delete_due())
        await asyncio.shield(self._collecting)

    async def _delete_due(self) -> None:
        deleted = (await self._garbage_collector.run()).deleted
        self.deleted = FileTotals(self.deleted.files + deleted.files, self.deleted.bytes + deleted.bytes)

    async def finish(self, *, wait: bool) -> FileTotals:
        """Remove the remaining copies and return the total deleted.

        With `wait`, first wait for the grace period, which protects downloads that have just begun.
        """
        import asyncio

        from support_service.attachments.maintenance.offload import DELETE_GRACE

        if self._collecting is not None:
            await asyncio.wait([self._collecting])
        if wait:
            await asyncio.sleep(DELETE_GRACE.total_seconds())
        await self.delete_due()
        return self.deleted


async def sweep(settings: "Settings", arguments: argparse.Namespace) -> int:
    """Reconcile rows, files and the ledger. Return the exit status: 1 if a file is missing or damaged."""
    from support_service.attachments.maintenance.reconcile import REPORTED_KINDS, YOUNG

    async with open_maintenance(settings) as maintenance:
        with show_progress("sweep", None) as bar:

            def report(finding: "Finding") -> None:
                done = (
                    "reported"
                    if finding.kind in REPORTED_KINDS
                    else "kept"
                    if finding.kind == YOUNG
                    else "would be repaired"
                    if arguments.dry_run
                    else "repaired"
                )
                bar.print(
                    f"{finding.kind} ({done}): {finding.storage} {finding.name}"
                    + (f", {finding.number} of them" if finding.number > 1 else ""),
                    kind=finding.kind,
                    outcome=done,
                    storage=finding.storage,
                    name=finding.name,
                    number=finding.number,
                )

            found = await maintenance.reconciler.run(dry_run=arguments.dry_run, report=report)
        text = ", ".join(f"{number} {kind}" for kind, number in found.items() if number)
        print_summary(f"Found {text}" if text else "Rows, files and ledger agree", **found)
    return 1 if any(found[kind] for kind in REPORTED_KINDS) else 0


async def scrub(settings: "Settings", arguments: argparse.Namespace) -> int:
    """Hash a random share of the stored files. Return the exit status: 1 if a hash differs from its record."""
    async with open_maintenance(settings) as maintenance:
        with show_progress("scrub", None) as bar:

            def report(scrubbed: "ScrubResult") -> None:
                bar.advance(scrubbed.attachment.size_bytes)
                if scrubbed.outcome == "mismatch":
                    bar.print(
                        f"Mismatch: {describe_attachment(scrubbed.attachment)}: {scrubbed.reason}",
                        outcome="mismatch",
                        reason=scrubbed.reason,
                        **log_fields(scrubbed.attachment),
                    )

            counted = await maintenance.scrubber.run(arguments.sample, report)
        print_summary(f"{counted['ok']} files match their recorded hash, {counted['mismatch']} do not", **counted)
    return 1 if counted["mismatch"] else 0


def format_totals(totals: FileTotals) -> str:
    """Return a number of files and their size as text."""
    return f"{totals.files} files ({format_bytes(totals.bytes)})"


def describe_attachment(attachment: StoredAttachment) -> str:
    """Return the names of a file and of its case as text."""
    return f"{attachment.id} ({attachment.filename}) of case {attachment.ticket_id}"


def log_fields(attachment: StoredAttachment) -> dict[str, str | int]:
    """Return a file as the members of a line of JSON."""
    return {
        "id": attachment.id,
        "case": attachment.ticket_id,
        "filename": attachment.filename,
        "bytes": attachment.size_bytes,
    }
