"""Verification of the whole chain, up to the first invalid entry."""

from collections.abc import Callable
from dataclasses import dataclass

from support_service.audit import chain, store
from support_service.audit.chain import GENESIS, ChainHead
from support_service.database import Database


@dataclass(frozen=True, slots=True)
class VerifyLimits:
    """Size of the pages in which the chain is read."""

    page_size: int = 1000  # entries
    page_bytes: int = store.MAX_PAGE_BYTES  # of changes, plus the last entry


@dataclass(frozen=True, slots=True)
class ChainVerification:
    """The result of a verification: the last valid head, and the first flaw."""

    head: ChainHead
    flaw: str | None = None


async def verify_chain(
    database: Database,
    noted: bytes | None = None,
    advance: Callable[[int], None] = lambda _: None,
    limits: VerifyLimits = VerifyLimits(),
) -> ChainVerification:
    """Verify every sealed entry against the one before it. Return the last valid head and the first flaw.

    `noted` is a hash that the chain is known to have had. `advance` is called with the number of entries of each page
    that was verified.
    """
    head, erased, explained = ChainHead(0, GENESIS), set[int](), set[int]()
    noted_found = noted in (None, GENESIS)
    while page := await store.read_sealed(database, head.position, limits.page_size, limits.page_bytes):
        for entry in page:
            reason = chain.find_flaw(head, entry)
            if reason is not None or entry.hash is None:
                return ChainVerification(head, reason)
            head = ChainHead(head.position + 1, entry.hash)
            noted_found = noted_found or entry.hash == noted
            if entry.changes is None:
                erased.add(head.position)
            explained.update(entry.erased())
        advance(len(page))
    if not noted_found:
        return ChainVerification(head, "the expected head is not in the chain: the chain was truncated or rewritten")
    if unexplained := sorted(erased - explained):
        return ChainVerification(
            head, f"the changes at position {unexplained[0]} are missing, and no entry records their erasure"
        )
    return ChainVerification(head, await _check_ends(database, head))


async def _check_ends(database: Database, head: ChainHead) -> str | None:
    """Return a flaw outside a valid chain: an entry before its first, or another end than in the head's row."""
    stray = await store.find_stray_position(database)
    if stray is not None:
        return f"an entry has position {stray}, which is invalid: positions begin at 1"
    last, _ = await store.read_head_and_oldest_unsealed(database)
    if last.position < head.position or (last.position == head.position and last.hash != head.hash):
        return f"the head says {last}, which is not the last entry"
    if last.position > head.position and not await store.read_sealed(database, head.position, 1):
        return f"entries are missing after position {head.position}: the head says {last}"
    return None
