"""The audit log on the command line: does its chain still hold?"""

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

BROKEN = 1  # the exit status of a chain that does not hold
HASH = re.compile("[0-9a-fA-F]{64}")


def verify(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Walk the whole chain; exits with status 1 where it is broken."""
    noted = arguments.from_head
    if noted is not None and not HASH.fullmatch(noted):
        raise Invalid("wrong_head", f"--from-head {noted[:80]!r} is no head: it has 64 hexadecimal digits")

    async def walk(database: Database) -> Verdict:
        head, _ = await store.standing(database)
        with progress("audit", head.position, " entries") as bar:
            return await verify_chain(database, bytes.fromhex(noted) if noted else None, bar.advance)

    verdict = with_database(Settings.load(environ), walk)
    _tell(verdict)
    if verdict.flaw is not None:
        sys.exit(BROKEN)


def _tell(verdict: Verdict) -> None:
    position, head = verdict.head.position, verdict.head.hash.hex()
    if not sys.stdout.isatty():
        print(json.dumps({"holds": verdict.flaw is None, "entries": position, "head": head, "flaw": verdict.flaw}))
    elif verdict.flaw is None:
        print(f"The chain holds: {position} entries. Its head, to be written down elsewhere: {head}")
    else:
        print(f"The chain is broken: {verdict.flaw}. It holds up to position {position}, {head}.")
