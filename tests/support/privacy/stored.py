"""Everything that the service stores, as text that tests search."""

import sqlalchemy as sa
from redis.asyncio import Redis

from support_service.platform.database.tables import metadata
from tests.support.calls import eventually, stored_files
from tests.support.events.fixtures import outbox_is_empty


async def stored_text(database, attachment_dir, redis):
    """Return everything that the service stores, as one text in lower case."""
    rows = [row for table in metadata.tables.values() for row in await database.fetch_all(sa.select(table))]
    parts = [str(tuple(row)) for row in rows]  # the text of a SQLAlchemy row abbreviates long values
    parts += [path.read_bytes().decode(errors="replace") for path in stored_files(attachment_dir)]
    async with Redis.from_url(redis.url) as server:
        for key in await server.keys("*"):
            kind = await server.type(key)
            parts.append(str(await server.xrange(key) if kind == b"stream" else await server.get(key)))
            parts.append(str(key))
    return " ".join(parts).lower()


async def wait_until_published(database):
    await eventually(lambda: outbox_is_empty(database))
