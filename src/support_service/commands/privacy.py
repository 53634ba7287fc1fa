"""The `support-service erase` and `export` commands: erase a customer's data, and export masked cases."""

import argparse
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from support_service.commands import grammar
from support_service.commands.output import print_wait, show_progress
from support_service.commands.runtime import (
    cli_principal,
    load_migrated_settings,
    open_maintenance,
    run_coroutine,
    with_settings,
)
from support_service.core.errors import problem
from support_service.core.ids import ID_LENGTH

if TYPE_CHECKING:
    from support_service.platform.settings import Settings

INCOMPLETE_STATUS = 1  # exit status if data is left to erase


def add_to(commands: grammar.Subcommands) -> None:
    """Add these commands."""
    what = "erase the personal data of a customer and print a receipt; exit status 1 if data remains"
    subjects = commands.group("erase", what, "SUBJECT")
    what = "erase a customer's record, cases, files, events and caches; only counts and times of the cases remain"
    customer = subjects.add("customer", what, erase_customer)
    customer.add_argument("id", metavar="ID", help="the customer's `customerId`")
    what = "erase all ids of the person; without it, the receipt names the others"
    customer.add_argument("--all-identities", action="store_true", help=what)
    customer.add_argument("--dry-run", action="store_true", help="erase nothing, only list the cases")
    customer.add_argument("--yes", action="store_true", help="don't ask for confirmation")
    what = "print every case as a line of JSON, with personal data and texts masked"
    export = commands.add("export", what, with_settings(export_cases, migrated=True))
    export.add_argument("--unmasked", action="store_true", help="don't mask anything")


def erase_customer(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Erase the service's data about a customer and print a receipt. Exit with status 1 if data is left to erase.

    Raises SupportError for an id of a wrong length, and if `--yes` is missing and stdin is not a terminal.
    """
    customer = arguments.id
    if not 1 <= len(customer) <= ID_LENGTH:
        raise problem("wrong_customer", f"invalid customer id {customer[:64]!r}: expected 1 to {ID_LENGTH} characters")
    sys.exit(run_coroutine(_erase_and_print_receipt(load_migrated_settings(environ), customer, arguments)))


async def _erase_and_print_receipt(settings: "Settings", customer: str, arguments: argparse.Namespace) -> int:
    from support_service.platform.unit_of_work import WriteOrigin
    from support_service.privacy.erasure import CustomerErasure

    async with open_maintenance(settings) as maintenance:
        erasure = CustomerErasure(
            settings,
            maintenance.database,
            maintenance.garbage_collector,
            maintenance.instruments,
            report_wait=print_wait,
        )
        everyone = arguments.all_identities
        selected, others = await erasure.select(customer, all_identities=everyone)
        found = [case for cases in selected.values() for case in cases]
        other_identities = {"otherIdentities": others} if others else {}
        if arguments.dry_run:
            print(json.dumps({"dryRun": True, "cases": found, **other_identities}))
            return 0
        names = ", ".join(map(repr, selected))
        if not arguments.yes and not await _confirm(f"Permanently erase {names} from {len(found)} cases? [y/N] "):
            print("Nothing was erased.", file=sys.stderr)
            return INCOMPLETE_STATUS
        with show_progress("erase", None) as bar:
            origin = WriteOrigin(cli_principal())
            receipt = await erasure.run(origin, customer, lambda _: bar.advance(1), all_identities=everyone)
    unreached = {"unreached": receipt.unreached}
    print(json.dumps({"cases": receipt.cases, **receipt.erased, **other_identities, **unreached}, indent=2))
    return INCOMPLETE_STATUS if receipt.unreached else 0


async def _confirm(question: str) -> bool:
    import asyncio

    if not sys.stdin.isatty():
        raise problem("not_confirmed", "An erasure can't be undone: confirm it with --yes if stdin is not a terminal")
    print(question, end="", flush=True)
    loop, answered = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, answered.set)  # `input` would block the loop, so Ctrl-C could not cancel this
    try:
        await answered.wait()
    finally:
        loop.remove_reader(sys.stdin)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


async def export_cases(settings: "Settings", arguments: argparse.Namespace) -> None:
    """Print every case as a line of JSON, masked unless `--unmasked` is given."""
    import pydantic_core

    from support_service.cases.listing import case_list
    from support_service.cases.masking import Masker
    from support_service.cases.model.requests import MAX_PAGE_SIZE, CaseQuery
    from support_service.cases.sql import case_rows
    from support_service.core.domain.principals import SYSTEM

    mask = Masker(settings.server.masking_key, settings.cases.known_channels)
    async with open_maintenance(settings) as maintenance:
        reader = maintenance.database
        after, more = None, True
        while more:
            page = await case_list.find_cases(reader, CaseQuery(limit=MAX_PAGE_SIZE), after, SYSTEM)
            more = page.has_more
            for place, summary in page.cases:
                after = place
                case = await case_rows.get(reader, summary.id)
                if case is not None:  # pragma: no branch - else it was deleted after the page was read
                    line = mask.mask(case) if not arguments.unmasked else case
                    print(pydantic_core.to_json(line, by_alias=True, inf_nan_mode="null").decode())
