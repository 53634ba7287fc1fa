"""The sealer: gives entries their place in the chain soon after their change, so that no change waits for another's.

Every replica runs one. The head's row is locked while a few entries are sealed, so their places have no gap.
"""

import os
from datetime import UTC, datetime

from support_service.audit import chain, store
from support_service.audit.chain import Head
from support_service.database import Database, Transaction
from support_service.telemetry import instruments as rows
from support_service.telemetry.instruments import Instruments, Reading

SEAL_EVERY = 1.0  # seconds
AT_ONCE = 100  # entries in one transaction, which on SQLite holds up everyone else


class Sealer:
    """Seals what is unsealed, and tells how long the chain is and how far it is behind."""

    def __init__(self, database: Database, instruments: Instruments) -> None:
        self._database = database
        self._length: int | None = None
        self._oldest: datetime | None = None
        instruments.observe(rows.AUDIT_SEALED, lambda: [] if self._length is None else [(self._length, {})])
        instruments.observe(rows.AUDIT_UNSEALED_AGE, self._age)

    async def look(self) -> None:
        """Read how long the chain is, and how far behind."""
        head, self._oldest = await store.standing(self._database)
        self._length = head.position

    async def run(self) -> None:
        """Seal every entry that is there."""
        while True:
            await self.look()
            if self._oldest is None:
                return
            async with self._database.transaction() as tx:
                await _seal_some(tx)

    def _age(self) -> Reading:
        if self._length is None:
            return []
        return [(max(0.0, (datetime.now(UTC) - self._oldest).total_seconds()) if self._oldest else 0.0, {})]


async def seal_all(tx: Transaction) -> None:
    """Seal every entry that this transaction sees, its own too; nobody else seals before it ends."""
    while await _seal_some(tx):
        pass


async def _seal_some(tx: Transaction) -> int:
    head = await store.lock_head(tx)
    sealed = []
    for entry in await store.to_seal(tx, AT_ONCE):
        sealed.append(chain.seal(head, entry, os.urandom(chain.SALT_BYTES)))
        assert sealed[-1].position is not None and sealed[-1].hash is not None  # noqa: S101, PT018 - it has just got them
        head = Head(sealed[-1].position, sealed[-1].hash)
    if sealed:
        await store.seal(tx, sealed)
    return len(sealed)
