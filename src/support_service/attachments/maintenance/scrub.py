"""Reads stored files again and holds them against the hashes that their rows have."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from support_service.attachments.maintenance import garbage_queries
from support_service.attachments.model import Attachment
from support_service.attachments.storage.base import AttachmentStorage, sha256_of
from support_service.core.errors import Unavailable
from support_service.database import Database
from support_service.telemetry.instruments import Instruments

PAGE = 500


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """What became of one file; `reason` where it is not what it was."""

    attachment: Attachment
    outcome: Literal["ok", "mismatch"]
    reason: str = ""


class Scrubber:
    """Re-hashes a random part of the files."""

    def __init__(self, database: Database, storages: Mapping[str, AttachmentStorage], instruments: Instruments) -> None:
        self._database = database
        self._storages = storages
        self._instruments = instruments

    async def run(self, sample: float, report: Callable[[Scrubbed], None] = lambda _: None) -> dict[str, int]:
        """Re-hash each file with this likelihood; returns how many are `ok` and how many are a `mismatch`.

        Raises Unavailable where a storage is out of reach, since nothing is known then.
        """
        counted = {"ok": 0, "mismatch": 0}
        if sample == 0:
            return counted
        after = 0
        while rows := await garbage_queries.page(self._database, after, PAGE):
            after = rows[-1][0]
            for _, attachment in rows:
                if random.random() >= sample:
                    continue
                scrubbed = await self._scrub(attachment)
                if scrubbed is None:
                    continue
                counted[scrubbed.outcome] += 1
                self._instruments.attachment_scrubbed.add(1, {"outcome": scrubbed.outcome})
                report(scrubbed)
        return counted

    async def _scrub(self, attachment: Attachment) -> Scrubbed | None:
        storage = self._storages.get(attachment.storage)
        if storage is None:
            return None
        try:
            found = await sha256_of(storage, attachment.storage_key, attachment.size_bytes)
        except Unavailable as failure:
            if failure.code != "attachment_unreadable":
                raise
            return await self._judged(attachment, str(failure))
        if found == attachment.sha256:
            return Scrubbed(attachment, "ok")
        return await self._judged(attachment, f"its bytes have SHA-256 {found}")

    async def _judged(self, attachment: Attachment, reason: str) -> Scrubbed | None:
        """A mismatch, unless the file was moved or deleted meanwhile."""
        again = await garbage_queries.by_id(self._database, attachment.id)
        if again is None or (again.storage, again.storage_key) != (attachment.storage, attachment.storage_key):
            return None
        return Scrubbed(attachment, "mismatch", reason)
