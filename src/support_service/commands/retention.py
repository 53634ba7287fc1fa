"""The `support-service retention` command: delete the files of old cases, or store and delete whole cases."""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from support_service.commands import grammar
from support_service.commands.attachments import describe_attachment, format_totals, log_fields
from support_service.commands.output import print_summary, print_wait, show_progress
from support_service.commands.runtime import cli_principal, open_maintenance, with_settings
from support_service.core.clock import utc_now
from support_service.core.errors import SupportError, problem
from support_service.core.units import MAX_INTEGER

if TYPE_CHECKING:
    from support_service.cases.model.files import StoredAttachment
    from support_service.platform.settings import Settings
    from support_service.privacy.retention import CaseRetention

CASES_PER_FILE = 1000  # of an archive; an interrupted run stores at most this many cases again
INCOMPLETE_STATUS = 1  # exit status if cases that are due could not be stored, or data of a deleted one is left
FILES_ONLY, CASES_ONLY = ("status",), ("channel", "tag", "keep_tag", "export", "erase")
EXAMPLES = """\
examples:
  support-service retention --older-than 365d
  support-service retention --closed-for 730d --keep-tag legal-hold
  support-service retention --closed-for 730d --keep-tag legal-hold --export /srv/archive --erase

The first command deletes files and keeps the cases. The second one only lists whole cases. The third one stores each
case with its files in a sealed file below /srv/archive, and deletes it then. `support-service import` reads the files.
"""


def add_to(commands: grammar.Subcommands) -> None:
    """Add `retention` to the commands."""
    what = "delete the files of cases that were closed or resolved long ago, or whole cases"
    command = commands.add("retention", what, with_settings(retention, migrated=True), epilog=EXAMPLES)
    age = command.add_mutually_exclusive_group(required=True)
    age.add_argument(
        "--older-than",
        type=grammar.duration,
        metavar="AGE",
        help="delete files: minimum time since the last change of the case and of the file, such as 365d",
    )
    age.add_argument(
        "--closed-for",
        type=grammar.duration,
        metavar="AGE",
        help="whole closed cases: minimum time since the last change, such as 730d. Without --erase and --export they "
        "are only listed",
    )
    command.add_argument(
        "--status",
        action="append",
        choices=("closed", "resolved"),
        help="with --older-than: status of the cases; repeatable (default: closed)",
    )
    command.add_argument("--channel", action="append", metavar="NAME", help="only cases of this channel; repeatable")
    command.add_argument("--tag", action="append", metavar="TAG", help="only cases with one of these tags; repeatable")
    command.add_argument(
        "--keep-tag", action="append", metavar="TAG", help="no case with this tag, such as a legal hold; repeatable"
    )
    command.add_argument(
        "--export", type=Path, metavar="DIRECTORY", help="store the cases with their files in sealed files below it"
    )
    command.add_argument("--erase", action="store_true", help="delete the cases; with --export after they are stored")
    command.add_argument("--limit", type=grammar.positive_int, metavar="N", help="at most this many files or cases")
    command.add_argument("--dry-run", action="store_true", help="delete and store nothing, only list files or cases")


async def retention(settings: "Settings", arguments: argparse.Namespace) -> int | None:
    """Delete files, or store and delete cases. Raises SupportError for options that do not fit together."""
    of_files = arguments.older_than is not None
    for name in CASES_ONLY if of_files else FILES_ONLY:
        if getattr(arguments, name):
            option, other = name.replace("_", "-"), "--closed-for" if of_files else "--older-than"
            raise problem("wrong_arguments", f"--{option} is for {other} only")
    return await (_delete_files if of_files else _store_and_delete_cases)(settings, arguments)


async def _delete_files(settings: "Settings", arguments: argparse.Namespace) -> None:
    from support_service.platform.unit_of_work import WriteOrigin

    dry_run: bool = arguments.dry_run
    async with open_maintenance(settings) as maintenance:
        with show_progress("retention", None) as bar:

            def report(attachment: "StoredAttachment") -> None:
                bar.advance(attachment.size_bytes)
                if dry_run:
                    text = f"Would delete {describe_attachment(attachment)}"
                    bar.print(text, outcome="would be deleted", **log_fields(attachment))
                else:
                    bar.print(outcome="deleted", **log_fields(attachment))

            deleted = await maintenance.retention.run(
                WriteOrigin(cli_principal()),
                utc_now() - arguments.older_than,
                arguments.status or ["closed"],
                limit=arguments.limit,
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


async def _store_and_delete_cases(settings: "Settings", arguments: argparse.Namespace) -> int:
    """Return the exit status: 1 if cases that are due stay, or if data of deleted cases is left somewhere."""
    from support_service.importing.archive import CaseArchive
    from support_service.platform.unit_of_work import WriteOrigin
    from support_service.privacy.retention import CaseRetention, ExpiredCases

    dry_run = arguments.dry_run or not (arguments.erase or arguments.export)
    erase = arguments.erase and not dry_run
    outcome = "would be deleted" if dry_run else "deleted" if erase else "stored"
    expired = ExpiredCases(
        utc_now() - arguments.closed_for, arguments.channel or (), arguments.tag or (), arguments.keep_tag or ()
    )
    refused = 0
    async with open_maintenance(settings) as maintenance:
        database, collector = maintenance.database, maintenance.garbage_collector
        with ExitStack() as stack:

            def refuse(case_id: str, failure: SupportError) -> None:
                nonlocal refused
                refused += 1
                bar.print(f"Stays: {case_id}: {failure}", outcome="refused", case=case_id, reason=str(failure))

            def report(case_id: str) -> None:
                bar.advance(1)
                bar.print(outcome=outcome, case=case_id)

            archive = None
            if arguments.export and not dry_run:
                archive = CaseArchive(arguments.export, database, maintenance.storages, refuse)
                stack.enter_context(archive.opened())
            run = CaseRetention(
                settings,
                database,
                collector,
                maintenance.instruments,
                archive=None if archive is None else archive.store,
                report_wait=print_wait,
            )
            total = min(await expired.count(database), arguments.limit or MAX_INTEGER)
            stack.callback(lambda: _print_cases(run, dry_run=dry_run, refused=refused))  # also of a run that fails
            bar = stack.enter_context(show_progress("retention", total, " cases"))
            await run.run(
                WriteOrigin(cli_principal()),
                expired,
                erase=erase,
                page_size=CASES_PER_FILE,
                limit=arguments.limit,
                report=report,
            )
    return INCOMPLETE_STATUS if refused or run.unreached else 0


def _print_cases(run: "CaseRetention", *, dry_run: bool, refused: int) -> None:
    from support_service.cases.model.files import FileTotals

    totals, unreached = run.totals, sorted(run.unreached)
    files = FileTotals(totals.files, totals.bytes)
    print_summary(
        f"{totals.due} cases are due: {totals.archived} stored, {totals.deleted} deleted, {format_totals(files)}"
        + (f"; {refused} can't be stored" if refused else "")
        + (f"; {totals.changed} have changed meanwhile" if totals.changed else "")
        + "".join(f"; {each}" for each in unreached),
        dryRun=dry_run,
        due=totals.due,
        stored=totals.archived,
        deleted=totals.deleted,
        files=totals.files,
        bytes=totals.bytes,
        refused=refused,
        changed=totals.changed,
        unreached=unreached,
    )
