"""The `support-service reports export` command: write a row for each case."""

import argparse
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from support_service.commands import grammar
from support_service.commands.output import print_summary, show_progress
from support_service.commands.runtime import with_settings
from support_service.core.clock import utc_now
from support_service.core.errors import problem
from support_service.reports.measures import FIRST_DAY, LAST_DAY

if TYPE_CHECKING:
    from support_service.platform.settings import Settings

EXAMPLES = """\
example:
  support-service reports export --from 2026-05-01 --to 2026-05-31 --format csv may.csv

It writes a row for each case that was opened in May, masked as for analysts.
"""


@grammar.argument_type("day")
def day(text: str) -> date:
    """Return a day."""
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    if not FIRST_DAY <= found <= LAST_DAY:
        raise ValueError("a day from 1970 to 2199, such as 2026-05-31")
    return found


def add_to(commands: grammar.Subcommands) -> None:
    """Add `reports` to the commands."""
    group = commands.group("reports", "write a row for each case", "ACTION", epilog=EXAMPLES)
    what = "write a row for each case that was opened in a time, as GET /support/reports/cases does"
    command = group.add("export", what, with_settings(export, migrated=True), epilog=EXAMPLES)
    command.add_argument("file", metavar="FILE", type=Path, help="the new file")
    command.add_argument("--from", dest="start", type=day, required=True, metavar="DAY", help="first day in UTC")
    command.add_argument("--to", dest="end", type=day, metavar="DAY", help="last day, included (default: today)")
    command.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="(default: csv)")
    command.add_argument("--unmasked", action="store_true", help="with channels that are not configured")


async def export(settings: "Settings", arguments: argparse.Namespace) -> None:
    """Write a row for each case. Raises SupportError for days in a wrong order, or if the file exists."""
    from support_service.cases.masking import Masker
    from support_service.platform.database.shared import open_database
    from support_service.platform.durable_files import NewFile
    from support_service.reports.case_report import CaseRowWriter, read_pages

    last = arguments.end or utc_now().date()
    if arguments.start > last:
        raise problem("wrong_arguments", f"--from {arguments.start} is after --to {last}")
    masker = Masker(settings.server.masking_key, settings.cases.known_channels)
    writer = CaseRowWriter(arguments.format, None if arguments.unmasked else masker)
    number = 0
    with ExitStack() as stack:
        new = stack.enter_context(NewFile(arguments.file))
        new.file.write(writer.head)
        bar = stack.enter_context(show_progress("reports", None, " cases"))
        async with open_database(settings.database, pool_size=1) as database:
            async for page in read_pages(database, arguments.start, last):
                new.file.write(writer.rows(page))
                number += len(page)
                bar.advance(len(page))
        new.finish()
    print_summary(f"{number} cases are in {arguments.file}", file=str(arguments.file), cases=number)
