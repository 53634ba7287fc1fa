"""The `support-service audit verify` command: check the hash chain of the audit log."""

import argparse
import json
import re
import sys
from collections.abc import Mapping

from support_service.audit import store
from support_service.audit.verify import Verdict
from support_service.audit.verify import verify as verify_chain
from support_service.commands.base import with_database
from support_service.commands.progress import progress
from support_service.core.errors import Invalid
from support_service.database import Database
from support_service.settings import Settings

BROKEN = 1  # exit status if the chain is broken
HASH = re.compile("[0-9a-fA-F]{64}")


def verify(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Verify the whole chain. Exit with status 1 if it is broken.

    Raises Invalid if `--from-head` does not have 64 hexadecimal digits.
    """
    expected_head = arguments.from_head
    if expected_head is not None and not HASH.fullmatch(expected_head):
        raise Invalid("wrong_head", f"--from-head {expected_head[:80]!r} is no head: it has 64 hexadecimal digits")

    async def walk(database: Database) -> Verdict:
        head, _ = await store.standing(database)
        with progress("audit", head.position, " entries") as bar:
            return await verify_chain(database, bytes.fromhex(expected_head) if expected_head else None, bar.advance)

    verdict = with_database(Settings.load(environ), walk)
    _print_verdict(verdict)
    if verdict.flaw is not None:
        sys.exit(BROKEN)


def _print_verdict(verdict: Verdict) -> None:
    position, head = verdict.head.position, verdict.head.hash.hex()
    if not sys.stdout.isatty():
        print(json.dumps({"holds": verdict.flaw is None, "entries": position, "head": head, "flaw": verdict.flaw}))
    elif verdict.flaw is None:
        print(f"The chain holds: {position} entries. Its head, to be written down elsewhere: {head}")
    else:
        print(f"The chain is broken: {verdict.flaw}. It holds up to position {position}, {head}.")
