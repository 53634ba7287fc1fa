"""Verification of the chain, as a whole or in parts, up to the first invalid entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from support_service.core.errors import FieldError, problem
from support_service.platform.audit import chain, entry_rows
from support_service.platform.audit.chain import GENESIS, ChainHead
from support_service.platform.database import RowReader


@dataclass(frozen=True, slots=True)
class VerifyLimits:
    """Size of the pages in which the chain is read."""

    page_size: int = 1000  # entries
    page_bytes: int = entry_rows.MAX_PAGE_BYTES  # of changes, plus the last entry


PART_LIMITS = VerifyLimits(page_size=200)  # a request must not keep the event loop busy for long


@dataclass(frozen=True, slots=True)
class ChainVerification:
    """The result of a verification: the last valid head, and the first flaw."""

    head: ChainHead
    flaw: str | None = None


async def verify_chain(
    database: RowReader,
    noted: bytes | None = None,
    advance: Callable[[int], None] = lambda _: None,
    limits: VerifyLimits = VerifyLimits(),
) -> ChainVerification:
    """Verify every sealed entry against the one before it. Return the last valid head and the first flaw.

    Entries that were detached are verified in their files: the chain begins after them. `noted` is a hash that the
    chain is known to have had. `advance` is called with the number of entries of each page that was verified. If
    entries are detached meanwhile, the remaining entries are verified again.
    """
    detached = await entry_rows.read_detached(database)
    while True:
        found = await _verify_chain_after(detached, database, noted, advance, limits)
        before, detached = detached, await entry_rows.read_detached(database)
        if found.flaw is None or detached == before:
            return found


async def _verify_chain_after(
    detached: ChainHead, database: RowReader, noted: bytes | None, advance: Callable[[int], None], limits: VerifyLimits
) -> ChainVerification:
    head = detached
    detachment_found = detached.position == 0
    erased, explained = set[int](), set[int]()
    noted_found = noted in (None, GENESIS, detached.hash)
    while page := await entry_rows.read_sealed(database, head.position, limits.page_size, limits.page_bytes):
        for entry in page:
            flaw = chain.find_flaw(head, entry)
            if flaw is not None:
                return ChainVerification(head, flaw)
            head = entry.head_after
            noted_found = noted_found or entry.hash == noted
            if entry.changes is None:
                erased.add(head.position)
            explained.update(entry.erased_positions())
            detachment_found = detachment_found or entry.detached_head() == detached
        advance(len(page))
    if not noted_found:
        where = "the chain was truncated or rewritten"
        if detached.position:
            where = f"it is in the file of a detached segment, up to position {detached.position}, or {where}"
        return ChainVerification(head, f"the expected head is not in the chain: {where}")
    if not detachment_found:
        missing = f"the entries up to position {detached.position} are missing"
        return ChainVerification(head, f"{missing}, and no entry records that they were detached")
    if unexplained := sorted(erased - explained):
        return ChainVerification(
            head, f"the changes at position {unexplained[0]} are missing, and no entry records their erasure"
        )
    return ChainVerification(head, await _find_flaw_at_ends(database, head))


@dataclass(frozen=True, slots=True)
class PartVerification:
    """The result of the verification of a part: its ends, the first flaw, and the end of the whole chain."""

    start: int  # position of the entry that was taken as valid; 0 for the beginning of the chain
    detached: ChainHead  # the last detached entry; the genesis without one
    head: ChainHead  # the last valid one
    end: ChainHead
    flaw: str | None
    oldest_unsealed: datetime | None
    erased: Mapping[int, str | None]  # positions whose changes are missing, with their cases


async def verify_part(
    database: RowReader, after: int | None, count: int, limits: VerifyLimits = PART_LIMITS
) -> PartVerification:
    """Verify up to `count` entries after a position, by default the last ones.

    The entry at `after` is taken as valid; if it is detached, the last detached one in place of it. A part can't tell
    whether an erasure explains missing changes, nor whether the chain before it was rewritten. Only the verification of
    the whole chain tells both. Raises ValidationFailed if the chain is shorter than `after`.
    """
    while True:
        found = await _verify_part_once(database, after, count, limits)
        if found.flaw is None or found.detached == await entry_rows.read_detached(database):
            return found  # else entries were detached meanwhile, and the part may begin later


async def _verify_part_once(
    database: RowReader, after: int | None, count: int, limits: VerifyLimits
) -> PartVerification:
    end, oldest = await entry_rows.read_head_and_oldest_unsealed(database)
    start = max(0, end.position - count) if after is None else after
    if start > end.position:
        wrong = FieldError("after", f"must be at most {end.position}, the length of the chain")
        raise problem("invalid_request", "The chain is shorter.", [wrong])
    detached = await entry_rows.read_detached(database)
    erased: dict[int, str | None] = {}
    start = max(start, detached.position)
    head = detached if start == detached.position else await read_head_at(database, start)
    if head is None:
        text = f"there is no entry at position {start}"
        return PartVerification(start, detached, ChainHead(0, GENESIS), end, text, oldest, erased)
    until = min(end.position, start + count)
    while head.position < until:
        most = min(limits.page_size, until - head.position)
        page = await entry_rows.read_sealed(database, head.position, most, limits.page_bytes)
        if not page:
            text = f"entries are missing after position {head.position}"
            return PartVerification(start, detached, head, end, text, oldest, erased)
        for entry in page:
            flaw = chain.find_flaw(head, entry)
            if flaw is not None:
                return PartVerification(start, detached, head, end, flaw, oldest, erased)
            head = entry.head_after
            if entry.changes is None:
                erased[head.position] = entry.case_id
    flaw = None
    if head.position == end.position and head.hash != end.hash:
        flaw = f"the head says {end}, which is not the last entry"
    return PartVerification(start, detached, head, end, flaw, oldest, erased)


async def read_head_at(reader: RowReader, position: int) -> ChainHead | None:
    """Return the head that the chain had at a position, or None if no entry has this position."""
    found = await entry_rows.read_sealed(reader, position - 1, 1)
    return found[0].head_after if found and found[0].position == position and found[0].hash else None


async def _find_flaw_at_ends(database: RowReader, head: ChainHead) -> str | None:
    """Return a flaw outside a valid chain: an entry before its first, or another end than in the head's row."""
    stray = await entry_rows.find_stray_position(database)
    if stray is not None:
        return f"an entry has position {stray}, which is invalid: positions begin at 1"
    last, _ = await entry_rows.read_head_and_oldest_unsealed(database)
    if last.position < head.position or (last.position == head.position and last.hash != head.hash):
        return f"the head says {last}, which is not the last entry"
    if last.position > head.position and not await entry_rows.read_sealed(database, head.position, 1):
        return f"entries are missing after position {head.position}: the head says {last}"
    return None
