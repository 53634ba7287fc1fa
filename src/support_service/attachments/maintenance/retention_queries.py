"""SQL of the retention job."""

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from support_service.attachments.model import StoredAttachment
from support_service.attachments.store import COLUMNS, to_attachment
from support_service.platform.database import Reader
from support_service.platform.database.json_projections import LATEST_CHANGE
from support_service.platform.database.tables import attachments, tickets

_AGE = (attachments.c.created_at, attachments.c.id)


async def list_expired(
    reader: Reader,
    before: datetime,
    statuses: Sequence[str],
    after: StoredAttachment | None,
    limit: int,
    *,
    lock: bool = False,
) -> list[StoredAttachment]:
    """Return attachments of cases in `statuses` where neither the case nor the file changed since `before`.

    Return at most `limit` attachments, oldest first, starting behind `after`: only old files are read. With `lock`, the
    files and their cases are locked until the transaction ends; rows locked by others are skipped, so that several
    processes can run at once.
    """
    found = (
        sa.select(*COLUMNS)
        .join(tickets, tickets.c.id == attachments.c.ticket_id)
        .where(
            tickets.c.status.in_(statuses),
            before >= LATEST_CHANGE,
            attachments.c.created_at <= before,
        )
        .order_by(*_AGE)
        .limit(limit)
    )
    if after is not None:
        found = found.where(sa.tuple_(*_AGE) > (after.created_at, after.id))
    rows = await reader.fetch_all(found.with_for_update(skip_locked=True) if lock else found)
    return [to_attachment(row) for row in rows]
