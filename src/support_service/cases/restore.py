"""Follows a restore of the database from a backup: new versions, a new epoch of the log, an event for consumers."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.cases.model.published import DATABASE_RESTORED
from support_service.cases.sql.case_events import event_row
from support_service.core.clock import MICROSECOND, to_micros, utc_now
from support_service.platform.audit import log as audit
from support_service.platform.database import Database, RowReader
from support_service.platform.database.shared import add_restore, read_version_base
from support_service.platform.database.tables import audit_log, outbox
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work

_LAST_CHANGE = sa.select(sa.func.max(audit_log.c.at).label("at"))
EVENT_SUBJECT = "database"
MICROS_PER_MS = 1000


@dataclass(frozen=True, slots=True)
class Restore:
    """A restore: the time of the last change that the backup has, if it has any, and the base of later versions."""

    undone_after: datetime | None
    version_base: int

    def json(self) -> dict[str, Any]:
        """Return the members of the event."""
        return {"undoneAfter": self.undone_after, "versionBase": self.version_base}


async def plan_restore(reader: RowReader) -> Restore:
    """Return the restore that would be recorded now."""
    (row,) = await reader.fetch_all(_LAST_CHANGE)
    now = to_micros(utc_now()) // MICROS_PER_MS
    return Restore(row.at, max(now, await read_version_base(reader) + 1))


async def record_restore(database: Database, origin: WriteOrigin) -> Restore:
    """Begin a new base of versions, and tell it to consumers, to webhooks and to the audit log, in one transaction."""
    async with unit_of_work(database, origin) as work:
        restore = await plan_restore(work.tx)
        at = max(utc_now(), (restore.undone_after or utc_now()) + MICROSECOND)
        await add_restore(work.tx, restore.version_base, undone_after=restore.undone_after)
        await work.tx.execute(outbox.insert().inline(), event_row(DATABASE_RESTORED, EVENT_SUBJECT, at, restore.json()))
        changes = {name: (None, value) for name, value in restore.json().items()}
        await audit.record(work, None, "database.restored", at, changes)
        await audit.seal_all(work.tx)
    return restore
