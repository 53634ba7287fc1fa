"""Regular verification of the chain by one replica: each minute what is new, and slowly all of it, again and again.

A round verifies a bounded number of entries, however long the chain is. Where the pass over all entries is, is stored:
another replica goes on there, and finds a flaw that was found before at once. What the chain as a whole proves, and
only a head that was noted elsewhere, is in `verify.py`.
"""

import logging
from collections.abc import Callable

from support_service.platform.audit import entry_rows
from support_service.platform.audit.chain import DETACHED, ChainHead
from support_service.platform.audit.entry_rows import AuditFilters
from support_service.platform.audit.verify import PartVerification, read_head_at, verify_part
from support_service.platform.database import Database
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec

log = logging.getLogger(__name__)

AUDIT_VERIFICATIONS = InstrumentSpec(
    "support.audit.verifications",
    "counter",
    "{verification}",
    "Regular verifications of parts of the audit log, by result; failed: a part could not be read",
    {"result": ("intact", "broken", "failed")},
)
AUDIT_VERIFIED = InstrumentSpec(
    "support.audit.verified", "counter", "{entry}", "Entries of the audit log that the regular verification has read"
)

VERIFY_INTERVAL = 60.0  # seconds
NEW_ENTRIES = OLD_ENTRIES = 5000  # of a round: a pass over a million takes three and a half hours


class ChainWatch:
    """Verifies the chain while `is_leader` returns True."""

    def __init__(self, database: Database, instruments: Instruments, is_leader: Callable[[], bool]) -> None:
        self._database = database
        self._instruments = instruments
        self._is_leader = is_leader
        self._newest: ChainHead | None = None  # up to here the entries were verified as they came
        self._pass: ChainHead | None = None  # up to here the current pass has verified all entries

    async def run(self) -> None:
        """Verify the next part of the new entries and of the pass, and count and log the result."""
        if not self._is_leader():
            self._newest = self._pass = None
            return
        try:
            flaw = await self._verify_new_entries() or await self._verify_next_of_all()
        except ValueError as error:  # a column of SQLite takes anything; the service writes nothing that it can't read
            flaw = f"an entry can't be read: {error}"
        except Exception:
            self._instruments.add(AUDIT_VERIFICATIONS, 1, {"result": "failed"})
            raise
        self._instruments.add(AUDIT_VERIFICATIONS, 1, {"result": "broken" if flaw else "intact"})
        if flaw:
            log.error("The audit log was altered: %s", flaw)

    async def _verify_new_entries(self) -> str | None:
        if self._newest is None:
            end, _ = await entry_rows.read_head_and_oldest_unsealed(self._database)
            newest, flaw = await self._head_at(end.position - NEW_ENTRIES)
            if flaw:
                return flaw
            self._newest = newest
        self._newest, flaw = await self._verify_after(self._newest, NEW_ENTRIES)
        if flaw:
            await self._store_pass(self._newest)  # where another leader begins
        return flaw

    async def _verify_next_of_all(self) -> str | None:
        """Verify the next part of the pass. After the last entry, begin another one."""
        if self._pass is None:
            known, flaw = await self._head_at(await entry_rows.read_verified_position(self._database))
            if flaw:
                return flaw
            self._pass = known
        known, count = self._pass, OLD_ENTRIES
        reached, flaw = await self._verify_after(known, count)
        if flaw is None and reached.position - known.position < count:
            flaw = await self._find_flaw_before_first()
            reached = await entry_rows.read_detached(self._database)
        await self._store_pass(reached)
        return flaw

    async def _store_pass(self, reached: ChainHead) -> None:
        self._pass = reached
        async with self._database.transaction() as tx:
            await entry_rows.store_verified_position(tx, reached.position)

    async def _head_at(self, position: int) -> tuple[ChainHead, str | None]:
        """Return the head at a position, or the last detached one with what is wrong."""
        detached = await entry_rows.read_detached(self._database)
        if position <= detached.position:
            return detached, None
        found = await read_head_at(self._database, position)
        if found is None and await entry_rows.read_detached(self._database) != detached:
            return await self._head_at(position)
        return found or detached, None if found else f"there is no entry at position {position}"

    async def _verify_after(self, known: ChainHead, count: int) -> tuple[ChainHead, str | None]:
        """Verify entries after a head that was valid. Return the last valid head, and the first flaw."""
        detached = await entry_rows.read_detached(self._database)
        if known.position <= detached.position:
            known = detached
        elif await read_head_at(self._database, known.position) != known:
            if await entry_rows.read_detached(self._database) != detached:
                return known, None
            return known, f"the verified entry at position {known.position} is missing, or the chain was rewritten"
        part = await verify_part(self._database, known.position, count)
        flaw = part.flaw or await self._find_unexplained_erasure(part)
        if flaw and await entry_rows.read_detached(self._database) != detached:
            return known, None  # an operator moves entries to a file; the next round begins after them
        self._instruments.add(AUDIT_VERIFIED, part.head.position - known.position)
        return known if flaw and not part.flaw else part.head, flaw

    async def _find_unexplained_erasure(self, part: PartVerification) -> str | None:
        cases = {case_id for case_id in part.erased.values() if case_id is not None}
        explained = await entry_rows.read_erased_positions(self._database, sorted(cases)) if cases else set[int]()
        for position in sorted(part.erased.keys() - explained):
            return f"the changes at position {position} are missing, and no entry records their erasure"
        return None

    async def _find_flaw_before_first(self) -> str | None:
        """Return what is wrong before the first entry of the chain that is in the database."""
        stray = await entry_rows.find_stray_position(self._database)
        if stray is not None:
            return f"an entry has position {stray}, which is invalid: positions begin at 1"
        newest, _ = await entry_rows.find_entries(self._database, AuditFilters(action=DETACHED), None, 1)
        if newest.detached.position and not any(each.detached_head() == newest.detached for each in newest.entries):
            return f"the entries up to position {newest.detached.position} are missing, and no entry records why"
        return None
