"""The `support-service audit verify` command: check the hash chain of the audit log."""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from support_service.commands import grammar
from support_service.commands.output import show_progress
from support_service.commands.runtime import load_settings, run_on_database
from support_service.core.errors import ValidationFailed

if TYPE_CHECKING:
    from support_service.platform.audit.verify import ChainVerification
    from support_service.platform.database import Database

CHAIN_BROKEN_STATUS = 1  # exit status if the chain is broken
SHA256_HEX = re.compile("[0-9a-fA-F]{64}")
EXAMPLES = """\
examples:
  support-service audit verify
  support-service audit verify --from-head 0f343b09…

The first command prints the head of the chain. Store it where accounts that can write to the database can't change it.
The second command also checks that the chain contains a stored head: a chain that was truncated or rewritten does not.
"""


def add_to(commands: grammar.Subcommands) -> None:
    """Add `audit` to the commands."""
    audit = commands.group("audit", "detect changes of the audit log", "ACTION")
    what = "verify the whole hash chain; exit status 0 if it is intact, 1 if it is broken"
    command = audit.add("verify", what, verify, epilog=EXAMPLES)
    command.add_argument(
        "--from-head", metavar="HASH", help="a head that this command printed before; the chain must contain it"
    )


def verify(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Verify the whole chain. Exit with status 1 if it is broken.

    Raises ValidationFailed if `--from-head` does not have 64 hexadecimal digits.
    """
    from support_service.platform.audit import entry_rows
    from support_service.platform.audit.verify import verify_chain

    expected_head = arguments.from_head
    if expected_head is not None and not SHA256_HEX.fullmatch(expected_head):
        raise ValidationFailed(
            "wrong_head", f"invalid --from-head {expected_head[:80]!r}: expected 64 hexadecimal digits"
        )

    async def verify_with_progress(database: "Database") -> "ChainVerification":
        head, _ = await entry_rows.read_head_and_oldest_unsealed(database)
        with show_progress("audit", head.position, " entries") as bar:
            return await verify_chain(database, bytes.fromhex(expected_head) if expected_head else None, bar.advance)

    verdict = run_on_database(load_settings(environ), verify_with_progress)
    _print_verdict(verdict)
    if verdict.flaw is not None:
        sys.exit(CHAIN_BROKEN_STATUS)


def _print_verdict(verdict: "ChainVerification") -> None:
    position, head = verdict.head.position, verdict.head.hash.hex()
    if not sys.stdout.isatty():
        print(json.dumps({"holds": verdict.flaw is None, "entries": position, "head": head, "flaw": verdict.flaw}))
    elif verdict.flaw is None:
        print(f"The chain is intact: {position} entries. Store its head outside of the database: {head}")
    else:
        print(f"The chain is broken: {verdict.flaw}. It is intact up to position {position}, {head}.")
