"""The `support-service audit` commands: verify the audit log, count its entries by actor, and move its oldest part."""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

from support_service.commands import grammar
from support_service.commands.output import print_line, print_summary, show_progress
from support_service.commands.runtime import cli_principal, load_settings, run_on_database
from support_service.core.clock import format_time, parse_time
from support_service.core.errors import problem

if TYPE_CHECKING:
    from support_service.platform.audit.chain import ChainHead
    from support_service.platform.audit.segments import Segment
    from support_service.platform.audit.verify import ChainVerification
    from support_service.platform.database import Database, Row

CHAIN_BROKEN_STATUS = 1  # exit status if the chain is broken
SHA256_HEX = re.compile("[0-9a-fA-F]{64}")
EXAMPLES = """\
examples:
  support-service audit verify
  support-service audit verify --from-head 0f343b09…
  support-service audit verify audit-2024.jsonl audit-2025.jsonl

The first command prints the head of the chain. Store it where accounts that can write to the database can't change it.
The second command also checks that the chain contains a stored head: a chain that was truncated or rewritten does not.
The third command verifies exported segments, without the database.
"""
MAX_ACTORS = 20  # lines
ACTOR_EXAMPLES = """\
example:
  support-service audit actors --since 15m
"""
SEGMENT_EXAMPLES = """\
example:
  support-service audit export --until 2026-01-01 audit-2025.jsonl
  support-service audit verify audit-2025.jsonl
  support-service audit detach audit-2025.jsonl

Keep the file where accounts that can write to the database can't change it. The changes in it are not masked, and an
erasure does not reach them.
"""


@grammar.argument_type("time")
def moment(text: str) -> datetime:
    """Return an RFC 3339 time, or the beginning of a day in UTC."""
    try:
        return parse_time(text) or datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError:
        raise ValueError("a day such as 2026-01-01, or a time such as 2026-01-01T08:00:00Z") from None


def add_to(commands: grammar.Subcommands) -> None:
    """Add `audit` to the commands."""
    audit = commands.group(
        "audit", "verify the audit log, count its entries by actor, and move its oldest part", "ACTION"
    )
    what = "verify the whole hash chain, or exported segments; exit status 0 if it is intact, 1 if it is broken"
    command = audit.add("verify", what, verify, epilog=EXAMPLES)
    command.add_argument(
        "files", metavar="FILE", type=Path, nargs="*", help="segments to verify without the database, oldest first"
    )
    command.add_argument(
        "--from-head", metavar="HASH", help="a head that this command printed before; the chain must contain it"
    )
    what = f"print who made most changes, at most {MAX_ACTORS} lines, one JSON object per line"
    command = audit.add("actors", what, count_by_actor, epilog=ACTOR_EXAMPLES)
    command.add_argument(
        "--since",
        type=grammar.moment,
        required=True,
        metavar="TIME",
        help="changes since then: a time with a time zone, or a duration before now, such as 15m",
    )
    what = "write the oldest entries to a file, which proves itself"
    command = audit.add("export", what, export, epilog=SEGMENT_EXAMPLES)
    command.add_argument("file", metavar="FILE", type=Path, help="the new file")
    command.add_argument(
        "--until", type=moment, required=True, metavar="TIME", help="entries before this time, such as 2026-01-01"
    )
    what = "delete the entries of an exported segment from the database; the chain goes on from its last entry"
    command = audit.add("detach", what, detach, epilog=SEGMENT_EXAMPLES)
    command.add_argument("file", metavar="FILE", type=Path, help="the exported segment, which is verified first")


def verify(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Verify the whole chain, or files. Exit with status 1 if one is broken.

    Raises SupportError if `--from-head` does not have 64 hexadecimal digits.
    """
    expected_head = arguments.from_head
    if expected_head is not None and not SHA256_HEX.fullmatch(expected_head):
        raise problem("wrong_head", f"invalid --from-head {expected_head[:80]!r}: expected 64 hexadecimal digits")
    noted = bytes.fromhex(expected_head) if expected_head else None
    if arguments.files:
        _verify_files(arguments.files, noted)
        return
    verdict, detached = run_on_database(load_settings(environ), lambda database: verify_with_progress(database, noted))
    _print_verdict(verdict, detached.position)
    if verdict.flaw is not None:
        sys.exit(CHAIN_BROKEN_STATUS)


async def verify_with_progress(
    database: "Database", noted: bytes | None = None
) -> "tuple[ChainVerification, ChainHead]":
    """Return the verdict on the chain, which is known to have had the head `noted`, and the end of what is detached."""
    from support_service.platform.audit import entry_rows
    from support_service.platform.audit.verify import verify_chain

    head, _ = await entry_rows.read_head_and_oldest_unsealed(database)
    detached = await entry_rows.read_detached(database)
    with show_progress("audit", head.position - detached.position, " entries") as bar:
        return await verify_chain(database, noted, bar.advance), detached


def _print_verdict(verdict: "ChainVerification", detached: int = 0) -> None:
    position, head = verdict.head.position, verdict.head.hash.hex()
    moved = f" Positions 1 to {detached} are in the files of detached segments." if detached else ""
    text = f"The chain is intact: {position} entries.{moved} Store its head outside of the database: {head}"
    if verdict.flaw is not None:
        text = f"The chain is broken: {verdict.flaw}. It is intact up to position {position}, {head}."
    more = {"detached": detached} if detached else {}
    print_line(text, holds=verdict.flaw is None, entries=position, head=head, flaw=verdict.flaw, **more)


def _verify_files(files: list[Path], noted: bytes | None) -> None:
    """Verify segments that follow one another, and print a line for each."""
    head: ChainHead | None = None
    noted_found = noted is None
    for path in files:
        segment = _read_file(path)
        flaw = segment.flaw
        if flaw is None and head is not None and segment.start != head:
            flaw = f"it does not go on from the file before, which ends at position {head.position}"
        if noted is not None and not noted_found:
            noted_found = _read_file(path, noted).flaw is None
        _print_segment(path, segment, flaw)
        if flaw is not None:
            sys.exit(CHAIN_BROKEN_STATUS)
        head = segment.head
    if not noted_found:
        print("The expected head is in none of the files.", file=sys.stderr)
        sys.exit(CHAIN_BROKEN_STATUS)


def _read_file(path: Path, noted: bytes | None = None) -> "Segment":
    from support_service.platform.audit.segments import read_segment

    try:
        with path.open("rb") as file, show_progress(path.name, path.stat().st_size) as bar:

            def lines() -> Iterator[bytes]:
                for line in file:
                    bar.advance(len(line))
                    yield line

            return read_segment(lines(), noted)
    except OSError as failure:
        raise problem("file_unreadable", f"Can't read {path}: {failure.strerror}") from None


def _print_segment(path: Path, segment: "Segment", flaw: str | None) -> None:
    first, last, head = segment.start.position + 1, segment.head.position, segment.head.hash.hex()
    erased = f" An entry after it erased the changes of {segment.erased}." if segment.erased else ""
    text = f"{path}: positions {first} to {last} are intact.{erased} Its head: {head}"
    if flaw is not None:
        text = f"{path} is broken: {flaw}. It is intact up to position {last}, {head}."
    found = {"first": first, "last": last, "head": head, "flaw": flaw, "erasedElsewhere": segment.erased}
    print_line(text, file=str(path), holds=flaw is None, **found)


def count_by_actor(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Print who made most entries since a time, and which, most first."""
    from support_service.platform.audit import entry_rows

    async def count(database: "Database") -> "Sequence[Row]":
        return await entry_rows.count_by_actor(database, arguments.since, MAX_ACTORS)

    for row in run_on_database(load_settings(environ), count):
        print(json.dumps(row._asdict(), default=format_time))


def export(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Write the oldest entries to a new file. Raises SupportError if it exists, or without such entries."""
    from support_service.platform.audit import entry_rows
    from support_service.platform.audit.segments import write_segment
    from support_service.platform.durable_files import NewFile

    async def write_with_progress(database: "Database") -> "tuple[ChainHead, ChainHead]":
        head, _ = await entry_rows.read_head_and_oldest_unsealed(database)
        start = await entry_rows.read_detached(database)
        number = head.position - start.position
        with show_progress("audit", number, " entries") as bar:
            end = await write_segment(database, new.file, arguments.until, bar.advance)
        return start, end

    settings = load_settings(environ)
    with NewFile(arguments.file) as new:
        start, end = run_on_database(settings, write_with_progress)
        if start == end:
            raise problem("no_entries", f"There is no sealed entry before {arguments.until}")
        new.finish()
    print_summary(
        f"Positions {start.position + 1} to {end.position} are in {arguments.file}. Its head: {end.hash.hex()}",
        file=str(arguments.file),
        first=start.position + 1,
        last=end.position,
        head=end.hash.hex(),
    )


def detach(arguments: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Delete the entries of a file from the database. Exit with status 1 if the file is broken."""
    from support_service.platform.audit import segments
    from support_service.platform.unit_of_work import WriteOrigin

    segment = _read_file(arguments.file)
    if segment.flaw is not None:
        _print_segment(arguments.file, segment, segment.flaw)
        sys.exit(CHAIN_BROKEN_STATUS)
    number = segment.head.position - segment.start.position

    async def detach_with_progress(database: "Database") -> None:
        with show_progress("audit", number, " entries") as bar:
            await segments.detach(database, WriteOrigin(cli_principal()), segment, bar.advance)

    run_on_database(load_settings(environ), detach_with_progress)
    print_summary(
        f"Deleted positions {segment.start.position + 1} to {segment.head.position}. Keep {arguments.file}.",
        first=segment.start.position + 1,
        last=segment.head.position,
        head=segment.head.hash.hex(),
    )
