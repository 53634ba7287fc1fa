"""Recording of changes, and the sealer, which gives entries their position in the chain soon afterwards.

An entry is stored in the transaction of its change, so both are committed or neither. Changes do not wait for each
other, because the sealer works later. Every replica runs one. It locks the row of the head while it seals a batch of
entries, so positions have no gaps.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import pydantic_core

from support_service.core.clock import age_in_seconds, utc_now
from support_service.core.domain.principals import Principal
from support_service.core.part_state import OncallCard
from support_service.platform.audit import chain, entry_rows
from support_service.platform.audit.chain import CASE_ERASED
from support_service.platform.database import Database, Transaction
from support_service.platform.telemetry.instruments import OTHER, Instruments, InstrumentSpec, known_or_other
from support_service.platform.unit_of_work import UnitOfWork

Action = chain.Action
FieldChanges = Mapping[str, tuple[Any, Any]]
"""The changed fields by their name in JSON: (before, after)."""

AUDIT_SEALED = InstrumentSpec(
    "support.audit.sealed", "gauge", "{entry}", "Entries of the audit log that have their place in its chain"
)
AUDIT_UNSEALED_AGE = InstrumentSpec(
    "support.audit.unsealed_age",
    "gauge",
    "s",
    "Age of the oldest entry of the audit log that is not sealed; 0 if there is none",
)
COUNTED_ACTIONS: tuple[Action, ...] = (
    "case.changed",
    "case.closed",
    "case.reopened",
    "case.deleted",
    "attachment.removed",
)  # a flood of these is a mistake or an attack
AUDIT_ENTRIES = InstrumentSpec(
    "support.audit.entries",
    "counter",
    "{entry}",
    "Audit entries that this replica sealed, by action: changes of all replicas and commands, but none that "
    "erasures, retention, `restored` or archiving seal",
    {"action": (*COUNTED_ACTIONS, OTHER)},
)


async def record(work: UnitOfWork, case_id: str | None, action: Action, at: datetime, changes: FieldChanges) -> None:
    """Store an entry for one change, and note the changed case in the unit of work."""
    await record_all(work, action, [(case_id, at, changes)])


async def record_all(
    work: UnitOfWork, action: Action, changed: Sequence[tuple[str | None, datetime, FieldChanges]]
) -> None:
    """Store an entry for each of several changes, (case id, time, changes); note the cases in the unit of work."""
    if not changed:
        return
    principal = work.origin.principal
    actor, more = actor_of(principal), {"by": (None, principal.name)} if principal.role == "customer" else {}
    if work.origin.bulk_id is not None:
        more["bulkId"] = (None, work.origin.bulk_id)
    entries = [
        {
            "at": at,
            "actor": actor,
            "role": principal.role,
            "action": action,
            "case_id": case_id,
            "request_id": work.origin.request_id,
            "changes": pydantic_core.to_json({**changes, **more} if more else changes, inf_nan_mode="null").decode(),
        }
        for case_id, at, changes in changed
    ]
    await entry_rows.add_entries(work.tx, entries)
    for case_id, _, _ in changed:
        if case_id is not None:
            work.note_case(case_id)


def actor_of(principal: Principal) -> str:
    """Return the actor that an entry names: no customer's name, because that must be erasable, like the changes."""
    return "customer" if principal.role == "customer" else principal.name[: chain.MAX_ACTOR_LENGTH]


async def erase_cases(
    work: UnitOfWork, cases: Sequence[str], at: datetime, changes: FieldChanges = MappingProxyType({})
) -> int:
    """Erase the recorded changes of cases, and store an entry about it for each, with further `changes`.

    Return the number of entries erased.

    Who did what to which case, and when, stays in the log, and the chain stays valid. The transaction must have locked
    or deleted the cases, so that they do not change meanwhile.
    """
    await seal_all(work.tx)
    erased = await entry_rows.erase_changes_of_cases(work.tx, cases)
    entries = [(each, at, {"erasedPositions": (None, erased.get(each, [])), **changes}) for each in cases]
    await record_all(work, CASE_ERASED, entries)
    await seal_all(work.tx)  # so that a reader who sees that changes are missing also sees the reason
    return sum(map(len, erased.values()))


SEAL_INTERVAL = 1.0  # between two runs at least: under load they have more entries to seal
POLL_INTERVAL = 2.0  # for entries of other processes, and for the gauges
SEAL_BATCH = 100  # entries per transaction, which on SQLite blocks all other writers
SEAL_BYTES = entry_rows.MAX_PAGE_BYTES  # of changes in a batch, plus the last entry


@dataclass(frozen=True, slots=True)
class SealerStatus:
    """What this replica last read of the chain."""

    read_at: datetime
    length: int
    oldest_unsealed: datetime | None
    last_sealed_at: datetime | None  # when this replica last saw the chain grow


class Sealer:
    """Background sealing of entries, with metrics: the length of the chain and the age of the oldest unsealed entry."""

    def __init__(self, database: Database, instruments: Instruments) -> None:
        self._database = database
        self._instruments = instruments
        self.status: SealerStatus | None = None
        instruments.observe(AUDIT_SEALED, lambda: [(self.status.length, {})] if self.status else [])
        instruments.observe(
            AUDIT_UNSEALED_AGE, lambda: [(age_in_seconds(self.status.oldest_unsealed), {})] if self.status else []
        )

    def card(self) -> OncallCard:
        found = self.status
        return OncallCard(
            found.read_at if found else None,
            {
                "entries": found.length if found else None,
                "last_sealed_at": found.last_sealed_at if found else None,
                "unsealed_age_seconds": age_in_seconds(found.oldest_unsealed) if found else None,
            },
        )

    async def refresh_gauges(self) -> SealerStatus:
        """Read the length of the chain and the time of the oldest unsealed entry."""
        head, oldest = await entry_rows.read_head_and_oldest_unsealed(self._database)
        last, now = self.status, utc_now()
        grown = last is not None and head.position > last.length
        sealed_at = now if grown else last.last_sealed_at if last else None
        self.status = SealerStatus(now, head.position, oldest, sealed_at)
        return self.status

    async def run(self) -> None:
        """Seal all unsealed entries, in batches."""
        while (await self.refresh_gauges()).oldest_unsealed is not None:
            async with self._database.transaction() as tx:
                sealed = await _seal_batch(tx)
            for action, number in Counter(known_or_other(each.action, COUNTED_ACTIONS) for each in sealed).items():
                self._instruments.add(AUDIT_ENTRIES, number, {"action": action})


async def seal_all(tx: Transaction) -> None:
    """Seal every entry visible to this transaction, including its own. Other sealers wait for its end."""
    while await _seal_batch(tx):
        pass


async def _seal_batch(tx: Transaction) -> Sequence[chain.StoredAuditEntry]:
    head = await entry_rows.lock_head(tx)
    sealed: list[chain.StoredAuditEntry] = []
    for entry in await entry_rows.read_unsealed(tx, SEAL_BATCH, SEAL_BYTES):
        sealed.append(chain.seal_entry(head, entry, os.urandom(chain.SALT_BYTES)))
        head = sealed[-1].head_after
    if sealed:
        await entry_rows.store_seals(tx, sealed)
    return sealed
