"""Implementation of the attachment commands offload, sweep, scrub and retention. Each returns its exit status."""

import asyncio
import json
import sys
from datetime import timedelta

from support_service.attachments.maintenance.garbage import GarbageCollector
from support_service.attachments.maintenance.offload import OffloadResult
from support_service.attachments.maintenance.reconcile import REPORTED, Finding
from support_service.attachments.maintenance.scrub import ScrubResult
from support_service.attachments.model import Attachment, FileTotals
from support_service.commands.runtime.cli_principal import cli_principal
from support_service.commands.runtime.maintenance import open_maintenance
from support_service.commands.runtime.progress import Progress, show_progress
from support_service.core.background import run_every, run_in_background
from support_service.core.clock import utc_now
from support_service.core.errors import SupportError
from support_service.core.principals import CURRENT_PRINCIPAL
from support_service.core.units import format_bytes
from support_service.settings import Settings, WrongSetting

REMOVAL_INTERVAL = 10.0  # seconds between removals
MAX_AWAITED_GRACE = timedelta(
    seconds=30
)  # longest grace period that a command waits for; after a longer one the service removes the files
PROBLEM_FOUND_STATUS = 1  # exit status if a problem was found


async def offload(
    settings: Settings,
    *,
    older_than: timedelta,
    reverse: bool = False,
    dry_run: bool = False,
    limit: int | None = None,
    rate: float | None = None,
) -> int:
    """Move files to S3, or back, and remove their former copies.

    Files must have at least the age `older_than`. `limit` is in files, `rate` in bytes per second. A SupportError that
    ends the move is raised after the summary is printed. Raises WrongSetting if there is no S3.
    """
    if settings.s3.bucket is None:
        raise WrongSetting("There is nowhere to move files to: set SUPPORT_S3_BUCKET")
    counted: dict[str, list[int]] = {"moved": []}
    async with open_maintenance(settings) as upkeep:
        mover, before = upkeep.mover(reverse=reverse), utc_now() - older_than
        waiting = await mover.waiting(before, limit)
        to = "local disk" if reverse else "S3"
        if dry_run:
            _summary(f"Would move {_amount(waiting)} to {to}", dryRun=True, files=waiting.files, bytes=waiting.bytes)
            return 0
        failure: SupportError | None = None
        removal = _CopyRemoval(upkeep.remover, settings.s3.grace)
        with show_progress(f"to {to}", waiting.bytes) as bar:

            def report(moved: OffloadResult) -> None:
                counted.setdefault(moved.outcome, []).append(moved.attachment.size_bytes)
                _report_move(bar, moved)

            async with run_in_background(run_every(REMOVAL_INTERVAL, removal.turn, "Removing what is left over")):
                try:
                    await mover.run(before, limit=limit, rate=rate, report=report)
                except SupportError as reason:
                    failure = reason
            freed = await removal.end(wait=bool(counted["moved"]))
        stayed = {outcome: len(sizes) for outcome, sizes in counted.items() if outcome != "moved"}
        moved = FileTotals(len(counted["moved"]), sum(counted["moved"]))
        late = moved.files and settings.s3.grace > MAX_AWAITED_GRACE
        rest = {"restAfterSeconds": settings.s3.grace.total_seconds()} if late else {}
        _summary(
            f"Moved {_amount(moved)} to {to}; removed {_amount(freed)}"
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
    return PROBLEM_FOUND_STATUS if stayed.keys() - {"gone"} else 0


async def sweep(settings: Settings, *, dry_run: bool = False) -> int:
    """Compare rows, files and the ledger, and repair differences that are safe to repair."""
    async with open_maintenance(settings) as upkeep:
        with show_progress("sweep", None) as bar:

            def report(finding: Finding) -> None:
                done = "reported" if finding.kind in REPORTED else "would be repaired" if dry_run else "repaired"
                bar.say(
                    f"{finding.kind} ({done}): {finding.storage} {finding.name}"
                    + (f", {finding.number} of them" if finding.number > 1 else ""),
                    kind=finding.kind,
                    outcome=done,
                    storage=finding.storage,
                    name=finding.name,
                    number=finding.number,
                )

            found = await upkeep.sweep.run(dry_run=dry_run, report=report)
        text = ", ".join(f"{number} {kind}" for kind, number in found.items() if number)
        _summary(f"Found {text}" if text else "Rows, files and ledger are in step", **found)
    return PROBLEM_FOUND_STATUS if any(found[kind] for kind in REPORTED) else 0


async def scrub(settings: Settings, *, sample: float) -> int:
    """Hash a random share of the stored files again and compare each with its recorded SHA-256."""
    async with open_maintenance(settings) as upkeep:
        with show_progress("scrub", None) as bar:

            def report(scrubbed: ScrubResult) -> None:
                bar.advance(scrubbed.attachment.size_bytes)
                if scrubbed.outcome == "mismatch":
                    bar.say(
                        f"Mismatch: {_description(scrubbed.attachment)}: {scrubbed.reason}",
                        outcome="mismatch",
                        reason=scrubbed.reason,
                        **_fields(scrubbed.attachment),
                    )

            counted = await upkeep.scrubber.run(sample, report)
        _summary(f"{counted['ok']} files are what they were, {counted['mismatch']} are not", **counted)
    return PROBLEM_FOUND_STATUS if counted["mismatch"] else 0


async def delete_expired(
    settings: Settings, *, older_than: timedelta, statuses: list[str], limit: int | None, dry_run: bool
) -> int:
    """Delete the files of cases that were closed or resolved long ago."""
    CURRENT_PRINCIPAL.set(cli_principal())
    async with open_maintenance(settings) as upkeep:
        with show_progress("retention", None) as bar:

            def report(attachment: Attachment) -> None:
                bar.advance(attachment.size_bytes)
                if dry_run:
                    text = f"Would delete {_description(attachment)}"
                    bar.say(text, outcome="would be deleted", **_fields(attachment))
                else:
                    bar.note(outcome="deleted", **_fields(attachment))

            deleted = await upkeep.retention.run(
                utc_now() - older_than, statuses, limit=limit, dry_run=dry_run, report=report
            )
        if not dry_run:
            await upkeep.remover.run()
        _summary(
            f"{'Would delete' if dry_run else 'Deleted'} {_amount(deleted)}",
            dryRun=dry_run,
            files=deleted.files,
            bytes=deleted.bytes,
        )
    return 0


def _report_move(bar: Progress, moved: OffloadResult) -> None:
    bar.advance(moved.attachment.size_bytes)
    if moved.outcome == "moved":
        bar.note(outcome="moved", **_fields(moved.attachment))
    else:
        bar.say(
            f"Stays ({moved.outcome}): {_description(moved.attachment)}: {moved.reason}",
            outcome=moved.outcome,
            reason=moved.reason,
            **_fields(moved.attachment),
        )


class _CopyRemoval:
    """Removes former copies while a run moves files, and counts them."""

    def __init__(self, remover: GarbageCollector, grace: timedelta) -> None:
        self._remover = remover
        self._grace = grace
        self._turning: asyncio.Task[None] | None = None
        self.freed = FileTotals(0, 0)

    async def turn(self) -> None:
        """Remove the copies that are due.

        A cancelled call continues in the background, because other removers skip its claimed files for a while.
        """
        self._turning = asyncio.create_task(self._turn())
        await asyncio.shield(self._turning)

    async def _turn(self) -> None:
        removed = await self._remover.run()
        self.freed = FileTotals(self.freed.files + removed.files, self.freed.bytes + removed.bytes)

    async def end(self, *, wait: bool) -> FileTotals:
        """Remove the remaining copies and return the total removed.

        With `wait`, first wait for the grace period if it is short; it protects downloads that have just begun.
        """
        if self._turning is not None:
            await asyncio.wait([self._turning])
        if wait and self._grace <= MAX_AWAITED_GRACE:
            await asyncio.sleep(self._grace.total_seconds())
        await self.turn()
        return self.freed


def _summary(text: str, **fields: object) -> None:
    print(text if sys.stdout.isatty() else json.dumps({"summary": True, **fields}))


def _amount(some: FileTotals) -> str:
    return f"{some.files} files ({format_bytes(some.bytes)})"


def _description(attachment: Attachment) -> str:
    return f"{attachment.id} ({attachment.filename}) of case {attachment.ticket_id}"


def _fields(attachment: Attachment) -> dict[str, str | int]:
    return {
        "id": attachment.id,
        "case": attachment.ticket_id,
        "filename": attachment.filename,
        "bytes": attachment.size_bytes,
    }
