"""Scrub: read stored files and compare their hashes with their rows."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import sqlalchemy as sa

from support_service.attachments.storage.base import AttachmentStorage, UnreadableFile, verify_file
from support_service.cases.model.files import StoredAttachment
from support_service.cases.sql.attachment_rows import ATTACHMENT_COLUMNS, is_current, to_attachment
from support_service.platform.database import Database, RowReader
from support_service.platform.database.tables import attachments
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec

SCRUB_PAGE = 500

ATTACHMENT_SCRUBBED = InstrumentSpec(
    "support.attachment.scrubbed",
    "counter",
    "{file}",
    "Stored files that were hashed again; mismatch: the file has changed",
    {"outcome": ("ok", "mismatch")},
)


@dataclass(frozen=True, slots=True)
class ScrubResult:
    """The outcome for one file; `reason` explains a mismatch."""

    attachment: StoredAttachment
    outcome: Literal["ok", "mismatch"]
    reason: str = ""


class NumberedAttachment(NamedTuple):
    """An attachment of a page; the next page starts behind its `seq`."""

    seq: int
    attachment: StoredAttachment


class Scrubber:
    """Hashes a random sample of the files."""

    def __init__(self, database: Database, storages: Mapping[str, AttachmentStorage], instruments: Instruments) -> None:
        self._database = database
        self._storages = storages
        self._instruments = instruments

    async def run(self, sample: float, report: Callable[[ScrubResult], None] = lambda _: None) -> dict[str, int]:
        """Hash each file with probability `sample` (0 to 1). Return how many are `ok` and how many are a `mismatch`.

        Raises Unavailable if a storage can't be reached, because the state of its files is then unknown.
        """
        counted = {"ok": 0, "mismatch": 0}
        if sample == 0:
            return counted
        after = 0
        while page := await list_attachment_page(self._database, after, SCRUB_PAGE):
            after = page[-1].seq
            for _, attachment in page:
                if random.random() >= sample:
                    continue
                scrubbed = await self._scrub_file(attachment)
                if scrubbed is None:
                    continue
                counted[scrubbed.outcome] += 1
                self._instruments.add(ATTACHMENT_SCRUBBED, 1, {"outcome": scrubbed.outcome})
                report(scrubbed)
        return counted

    async def _scrub_file(self, attachment: StoredAttachment) -> ScrubResult | None:
        storage = self._storages.get(attachment.storage)
        if storage is None:
            return None
        try:
            await verify_file(storage, attachment.storage_key, attachment.size_bytes, attachment.sha256)
        except UnreadableFile as failure:
            return await self._mismatch_unless_changed(attachment, str(failure))
        return ScrubResult(attachment, "ok")

    async def _mismatch_unless_changed(self, attachment: StoredAttachment, reason: str) -> ScrubResult | None:
        """Return a mismatch; None if the file was moved or deleted in the meantime."""
        if await is_current(self._database, attachment.id, attachment.storage_key):
            return ScrubResult(attachment, "mismatch", reason)
        return None


async def list_attachment_page(reader: RowReader, after: int, limit: int) -> list[NumberedAttachment]:
    """Return at most `limit` attachments of all cases in the order of seq, starting behind `after`."""
    rows = await reader.fetch_all(
        sa.select(attachments.c.seq, *ATTACHMENT_COLUMNS)
        .where(attachments.c.seq > after)
        .order_by(attachments.c.seq)
        .limit(limit)
    )
    return [NumberedAttachment(row.seq, to_attachment(row)) for row in rows]
