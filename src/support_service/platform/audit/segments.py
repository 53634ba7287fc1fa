"""Segments of the audit log: the oldest entries, moved to a file that anyone can verify without the database.

A segment is a file of JSON Lines. The first line has the position and the hash before its first entry. The last line
has the position and the hash of its last entry. The lines between have the entries with all that their hashes cover.
The chain in the database goes on from the last line.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import pydantic_core

from support_service.core.clock import format_time, parse_time, utc_now
from support_service.core.errors import problem
from support_service.platform.audit import chain, entry_rows
from support_service.platform.audit.chain import DETACHED, ChainHead, StoredAuditEntry
from support_service.platform.audit.log import record, seal_all
from support_service.platform.audit.verify import VerifyLimits, read_head_at
from support_service.platform.database import Database, RowReader
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work

FORMAT = "support-service audit segment 1"
DELETED_AT_ONCE = 2000  # entries per transaction
_BYTES = ("salt", "digest", "hash")


@dataclass(frozen=True, slots=True)
class Segment:
    """What a file was found to have: the heads before its first entry and after its last valid one.

    `without_changes` are the positions whose changes are not in the file. `erased` counts the entries that were erased
    by an entry that is not in the file. `flaw` is the first one.
    """

    start: ChainHead
    head: ChainHead
    without_changes: Collection[int] = ()
    erased: int = 0
    flaw: str | None = None


async def write_segment(
    reader: RowReader,
    file: BinaryIO,
    until: datetime,
    advance: Callable[[int], None] = lambda _: None,
    limits: VerifyLimits = VerifyLimits(),
) -> ChainHead:
    """Write the entries from the beginning of the chain on that precede the first one from `until` on.

    Return the head of the last one.
    """
    head = await entry_rows.read_detached(reader)
    _write(file, {"format": FORMAT, **_head_members(head)})
    while page := await entry_rows.read_sealed(reader, head.position, limits.page_size, limits.page_bytes):
        for entry in page:
            if entry.at >= until:
                break
            _write(file, _entry_members(entry))
            head = entry.head_after
        advance(len(page))
        if head != page[-1].head_after:
            break
    _write(file, {"end": True, **_head_members(head)})
    return head


def _write(file: BinaryIO, members: Mapping[str, Any]) -> None:
    file.write(pydantic_core.to_json(members) + b"\n")


def _head_members(head: ChainHead) -> dict[str, Any]:
    return {"position": head.position, "hash": head.hash.hex()}


def _entry_members(entry: StoredAuditEntry) -> dict[str, Any]:
    """Return an entry as JSON: the changes as the text that the digest covers."""
    members = {name: value for name, value in entry._asdict().items() if name != "seq"}
    in_hex = {name: members[name] and members[name].hex() for name in _BYTES}
    return members | in_hex | {"at": format_time(entry.at)}


def read_segment(lines: Iterable[bytes], noted: bytes | None = None) -> Segment:
    """Verify a file, which must have the head with the hash `noted` if one is given. Nothing in the file is trusted."""
    parsed = (_parse(line) for line in lines)
    first = next(parsed, {})
    start = _parse_head(first) if first.get("format") == FORMAT else None
    if start is None:
        nothing = ChainHead(0, chain.GENESIS)
        return Segment(nothing, nothing, flaw=f"its first line is not that of a {FORMAT}")
    head, erased, explained = start, set[int](), set[int]()
    noted_found = noted in (None, head.hash)
    for members in parsed:
        if members.get("end") is True:
            flaw = _find_flaw_at_end(head, members, parsed)
            if flaw is None and not noted_found:
                flaw = "the expected head is not in the file"
            return Segment(start, head, erased, len(erased - explained), flaw)
        entry = _parse_entry(members)
        flaw = chain.find_flaw(head, entry) if entry else f"the line after position {head.position} is no entry"
        if entry is None or flaw is not None:
            return Segment(start, head, flaw=flaw)
        head = entry.head_after
        noted_found = noted_found or head.hash == noted
        if entry.changes is None:
            erased.add(head.position)
        explained.update(entry.erased_positions())
    return Segment(start, head, flaw=f"its last line is missing: the file was cut off after position {head.position}")


def _find_flaw_at_end(head: ChainHead, last: Mapping[str, Any], rest: Iterator[object]) -> str | None:
    if _parse_head(last) != head:
        return "its last line differs from its last entry"
    return None if next(rest, None) is None else "lines follow its last line"


def _parse(line: bytes) -> dict[str, Any]:
    try:
        members = pydantic_core.from_json(line)
    except ValueError:
        return {}
    return members if isinstance(members, dict) else {}


def _parse_head(members: Mapping[str, Any]) -> ChainHead | None:
    try:
        return ChainHead(int(members["position"]), bytes.fromhex(members["hash"]))
    except (KeyError, OverflowError, TypeError, ValueError):  # OverflowError: JSON may have an Infinity
        return None


def _parse_entry(members: Mapping[str, Any]) -> StoredAuditEntry | None:
    try:
        at, changes = parse_time(members["at"]), members["changes"]
        read = {name: None if members[name] is None else bytes.fromhex(members[name]) for name in _BYTES}
        if at is None or not isinstance(changes, str | None):
            return None
        entry = StoredAuditEntry(**{"seq": 0, **members, **read, "at": at})
        entry.erased_positions()  # raises for changes that no entry of this action has
    except (IndexError, KeyError, OverflowError, TypeError, ValueError):
        return None
    return entry


async def detach(
    database: Database, origin: WriteOrigin, segment: Segment, advance: Callable[[int], None] = lambda _: None
) -> None:
    """Delete the entries of a verified segment; the chain goes on from its last one. An entry records it.

    A run that was interrupted is continued. Raises SupportError if the database has other entries than the file, or
    changes that the file lacks. A file without such changes verifies, too, because they may have been erased.
    """
    lacking = await entry_rows.find_changes(database, sorted(segment.without_changes))
    if lacking is not None:
        raise problem("other_segment", f"The file lacks the changes at position {lacking}, which the log has")
    async with unit_of_work(database, origin) as work:
        await entry_rows.lock_head(work.tx)
        detached = await entry_rows.read_detached(work.tx)
        if detached != segment.head:
            if detached != segment.start:
                text = f"The file begins after position {segment.start.position}; the log begins after"
                raise problem("other_segment", f"{text} {detached.position}, or has other entries")
            if await read_head_at(work.tx, segment.head.position) != segment.head:
                text = f"The entry at position {segment.head.position} is not the last one of the file"
                raise problem("other_segment", text)
            await entry_rows.detach(work.tx, segment.head)
            changes = {name: (None, value) for name, value in _head_members(segment.head).items()}
            await record(work, None, DETACHED, utc_now(), changes)
            await seal_all(work.tx)
    for start in range(segment.start.position, segment.head.position, DELETED_AT_ONCE):
        last = min(start + DELETED_AT_ONCE, segment.head.position)
        async with database.transaction() as tx:
            await entry_rows.delete_between(tx, start, last)
        advance(last - start)
