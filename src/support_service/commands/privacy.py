"""The commands about customers' data: erase a customer, and export cases without what says who the customer is."""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Mapping
from typing import Any

import pydantic_core
import uvloop

from support_service.callers import CALLER
from support_service.cases import store
from support_service.cases.masking import Mask
from support_service.cases.model import MAX_LIMIT, CaseQuery
from support_service.commands.base import with_migrations
from support_service.commands.operator import operator
from support_service.commands.progress import progress
from support_service.erasure import Erasure
from support_service.errors import Invalid
from support_service.ids import LENGTH
from support_service.settings import Settings
from support_service.upkeep import opened

UNREACHED = 1  # the exit status where something is still to be erased


def add_to(commands: Any) -> None:
    """Add `erase` and `export` to the commands."""
    what = "erase what the service keeps of a customer, and print a receipt; status 1 where something is left to do"
    kinds = commands.add_parser("erase", help=what, description=what).add_subparsers(required=True, metavar="WHOM")
    what = "cases, messages, files, events and caches; the cases stay as counts and times"
    customer = kinds.add_parser("customer", help=what, description=what)
    customer.add_argument("id", metavar="ID", help="as `customerId` has it")
    customer.add_argument("--dry-run", action="store_true", help="erase nothing, only name the cases")
    customer.add_argument("--yes", action="store_true", help="don't ask whether you mean it")
    customer.set_defaults(run=_erase)
    what = "print every case as a line of JSON, without what says who the customer is or what they wrote"
    export = commands.add_parser("export", help=what, description=what)
    export.add_argument("--unmasked", action="store_true", help="with everything")
    export.set_defaults(run=_export)


def _erase(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    customer = arguments.id
    if not 1 <= len(customer) <= LENGTH:
        raise Invalid("wrong_customer", f"{customer[:64]!r} is no customer's id: it has 1 to {LENGTH} characters")
    sys.exit(uvloop.run(_erase_customer(with_migrations(environ), customer, arguments)))


async def _erase_customer(settings: Settings, customer: str, arguments: argparse.Namespace) -> int:
    CALLER.set(operator())
    async with opened(settings) as upkeep:
        erasure = Erasure(settings, upkeep.database, upkeep.remover, upkeep.instruments)
        found = await erasure.cases_of(customer)
        if arguments.dry_run:
            print(json.dumps({"dryRun": True, "cases": found}))
            return 0
        if not arguments.yes and not _meant(f"Erase {customer!r} from {len(found)} cases, for good? [y/N] "):
            print("Nothing was erased.", file=sys.stderr)
            return UNREACHED
        with progress("erase", None) as bar:
            receipt = await erasure.run(customer, lambda _: bar.advance(1))
    print(json.dumps({"cases": receipt.cases, **receipt.erased, "unreached": receipt.unreached}, indent=2))
    return UNREACHED if receipt.unreached else 0


def _meant(question: str) -> bool:
    if not sys.stdin.isatty():
        raise Invalid("not_confirmed", "An erasure can't be undone: say --yes where nobody can be asked")
    return input(question).strip().lower() in ("y", "yes")


def _export(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    uvloop.run(_export_cases(with_migrations(environ), masked=not arguments.unmasked))


async def _export_cases(settings: Settings, *, masked: bool) -> None:
    mask = Mask(os.fsencode(settings.server.masking_key or secrets.token_hex()))
    async with opened(settings) as upkeep:
        after, more = None, True
        while more:
            page = await store.find(upkeep.database, CaseQuery(limit=MAX_LIMIT), after)
            more = page.more
            for seq, ticket in page.tickets:
                after = seq
                case = await store.get(upkeep.database, ticket.id)
                if case is not None:  # else it was deleted a moment ago
                    line = mask.case(case) if masked else case
                    print(pydantic_core.to_json(line, by_alias=True, inf_nan_mode="null").decode())
