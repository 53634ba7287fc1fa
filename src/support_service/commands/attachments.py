"""The `support-service sweep`, `scrub` and `retention` commands."""

import argparse
import sys
from collections.abc import Mapping
from datetime import timedelta

from support_service.attachments.maintenance.reconcile import REPORTED, Finding
from support_service.attachments.maintenance.scrub import ScrubResult
from support_service.attachments.model import StoredAttachment
from support_service.commands.runtime.attachment_output import describe, format_totals, log_fields, print_summary
from support_service.commands.runtime.cli_principal import cli_principal
from support_service.commands.runtime.database import load_migrated_settings
from support_service.commands.runtime.event_loop import run
from support_service.commands.runtime.maintenance import open_maintenance
from support_service.commands.runtime.progress import show_progress
from support_service.core.clock import utc_now
from support_service.platform.idempotency.unit_of_work import WriteOrigin
from support_service.platform.settings import Settings


def sweep(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Compare rows, files and the ledger, and repair differences that are safe to repair."""
    sys.exit(run(run_sweep(load_migrated_settings(environ), dry_run=arguments.dry_run)))


def scrub(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Hash stored files again and compare each with its recorded SHA-256."""
    sys.exit(run(run_scrub(load_migrated_settings(environ), sample=arguments.sample)))


def retention(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Delete the files of cases that were closed or resolved long ago."""
    work = delete_expired(
        load_migrated_settings(environ),
        older_than=arguments.older_than,
        statuses=arguments.status or ["closed"],
        limit=arguments.limit,
        dry_run=arguments.dry_run,
    )
    sys.exit(run(work))


async def run_sweep(settings: Settings, *, dry_run: bool = False) -> int:
    """Reconcile rows, files and the ledger. Return the exit status: 1 if a file is missing or damaged."""
    async with open_maintenance(settings) as maintenance:
        with show_progress("sweep", None) as bar:

            def report(finding: Finding) -> None:
                done = "reported" if finding.kind in REPORTED else "would be repaired" if dry_run else "repaired"
                bar.print(
                    f"{finding.kind} ({done}): {finding.storage} {finding.name}"
                    + (f", {finding.number} of them" if finding.number > 1 else ""),
                    kind=finding.kind,
                    outcome=done,
                    storage=finding.storage,
                    name=finding.name,
                    number=finding.number,
                )

            found = await maintenance.reconciler.run(dry_run=dry_run, report=report)
        text = ", ".join(f"{number} {kind}" for kind, number in found.items() if number)
        print_summary(f"Found {text}" if text else "Rows, files and ledger agree", **found)
    return 1 if any(found[kind] for kind in REPORTED) else 0


async def run_scrub(settings: Settings, *, sample: float) -> int:
    """Hash a random share of the stored files. Return the exit status: 1 if a hash differs from its record."""
    async with open_maintenance(settings) as maintenance:
        with show_progress("scrub", None) as bar:

            def report(scrubbed: ScrubResult) -> None:
                bar.advance(scrubbed.attachment.size_bytes)
                if scrubbed.outcome == "mismatch":
                    bar.print(
                        f"Mismatch: {describe(scrubbed.attachment)}: {scrubbed.reason}",
                        outcome="mismatch",
                        reason=scrubbed.reason,
                        **log_fields(scrubbed.attachment),
                    )

            counted = await maintenance.scrubber.run(sample, report)
        print_summary(f"{counted['ok']} files match their recorded hash, {counted['mismatch']} do not", **counted)
    return 1 if counted["mismatch"] else 0


async def delete_expired(
    settings: Settings, *, older_than: timedelta, statuses: list[str], limit: int | None, dry_run: bool
) -> int:
    """Delete the files of cases that were closed or resolved long ago. Return the exit status, 0."""
    async with open_maintenance(settings) as maintenance:
        with show_progress("retention", None) as bar:

            def report(attachment: StoredAttachment) -> None:
                bar.advance(attachment.size_bytes)
                if dry_run:
                    text = f"Would delete {describe(attachment)}"
                    bar.print(text, outcome="would be deleted", **log_fields(attachment))
                else:
                    bar.log_json(outcome="deleted", **log_fields(attachment))

            deleted = await maintenance.retention.run(
                WriteOrigin(cli_principal()),
                utc_now() - older_than,
                statuses,
                limit=limit,
                dry_run=dry_run,
                report=report,
            )
        if not dry_run:
            await maintenance.garbage_collector.run()
        print_summary(
            f"{'Would delete' if dry_run else 'Deleted'} {format_totals(deleted)}",
            dryRun=dry_run,
            files=deleted.files,
            bytes=deleted.bytes,
        )
    return 0
