"""SQL of the retention job."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from support_service.attachments.store import COLUMNS, NumberedAttachment, to_attachment
from support_service.database import Reader
from support_service.database.json_projections import LATEST_CHANGE
from support_service.database.tables import attachments, tickets


async def list_expired(
    reader: Reader, before: datetime, statuses: Sequence[str], after: int, limit: int, *, lock: bool = False
) -> list[NumberedAttachment]:
    """Return attachments of cases in `statuses` where neither the case nor the file changed since `before`.

    Return at most `limit` attachments in the order of seq, starting behind `after`. With `lock`, the files and their
    cases are locked until the transaction ends; rows locked by others are skipped, so that several processes can run at
    once.
    """
    found = (
        sa.select(attachments.c.seq, *COLUMNS)
        .join(tickets, tickets.c.id == attachments.c.ticket_id)
        .where(
            tickets.c.status.in_(statuses),
            before >= LATEST_CHANGE,
            attachments.c.created_at <= before,
            attachments.c.seq > after,
        )
        .order_by(attachments.c.seq)
        .limit(limit)
    )
    rows = await reader.fetch_all(found.with_for_update(skip_locked=True) if lock else found)
    return [NumberedAttachment(row.seq, to_attachment(row)) for row in rows]
