"""SQL of the reconcile job."""

import sqlalchemy as sa

from support_service.attachments.model import StoredAttachment
from support_service.attachments.store import COLUMNS, to_attachment
from support_service.platform.database import Reader
from support_service.platform.database.compiled import compiled
from support_service.platform.database.tables import attachment_leftovers as garbage
from support_service.platform.database.tables import attachments

BY_KEY_RANGE = compiled(  # read once for each shard
    sa.select(*COLUMNS).where(
        attachments.c.storage == sa.bindparam("of"),
        attachments.c.storage_key >= sa.bindparam("first"),
        attachments.c.storage_key < sa.bindparam("end"),
    )
)


async def list_by_key_prefix(reader: Reader, storage: str, prefix: str) -> list[StoredAttachment]:
    """Return the attachments on a storage whose keys start with `prefix`."""
    end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    rows = await reader.fetch_all(BY_KEY_RANGE, {"of": storage, "first": prefix, "end": end})
    return [to_attachment(row) for row in rows]


async def is_referenced(reader: Reader, storage: str, key: str) -> bool:
    """Return whether an attachment or the garbage list names the bytes under a key."""
    named = sa.exists().where(attachments.c.storage == storage, attachments.c.storage_key == key)
    listed = sa.exists().where(garbage.c.storage == storage, garbage.c.storage_key == key)
    row = await reader.fetch_one(sa.select(sa.or_(named, listed).label("referenced")))
    return bool(row and row.referenced)
