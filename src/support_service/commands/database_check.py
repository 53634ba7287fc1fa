"""The `support-service database check` command: cases and messages that have no search document."""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict

from pydantic.alias_generators import to_camel

from support_service.cases.search_repair import SearchRepair, SearchTotals
from support_service.cases.store.missing_documents import newest_seq
from support_service.commands.runtime.database import run_on_database
from support_service.commands.runtime.progress import show_progress
from support_service.platform.database import Database
from support_service.platform.settings import Settings

INCOMPLETE_STATUS = 1  # exit status if documents are missing, and were not made


def check(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print how many cases and messages have no search document. With `--repair`, make the missing documents.

    Exit with status 1 if some are missing afterwards.
    """

    async def work(database: Database) -> SearchTotals:
        with show_progress("check", await newest_seq(database), " cases") as bar:
            return await SearchRepair(database).check(repair=arguments.repair, progress=bar.advance)

    totals = run_on_database(Settings.load(environ), work)
    _print(totals)
    if totals.repaired_cases < totals.incomplete_cases:
        sys.exit(INCOMPLETE_STATUS)


def _print(totals: SearchTotals) -> None:
    if not sys.stdout.isatty():
        print(json.dumps({to_camel(name): number for name, number in asdict(totals).items()}))
    elif not totals.incomplete_cases:
        print("The search finds every case and message.")
    else:
        print(
            f"The search misses {totals.messages_without_document} messages and {totals.cases_without_document} cases, "
            f"in {totals.incomplete_cases} cases. Repaired: {totals.repaired_cases}."
        )
        if totals.repaired_cases < totals.incomplete_cases:
            print("To make what is missing: support-service database check --repair")
