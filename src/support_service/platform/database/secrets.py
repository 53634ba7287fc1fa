"""Secrets that all replicas share through the database."""

import sqlalchemy as sa

from support_service.platform.database.protocols import Reader
from support_service.platform.database.tables import secrets

READ = sa.select(secrets.c.value).where(secrets.c.name == sa.bindparam("name"))


async def read_secret(reader: Reader, name: str) -> bytes:
    """Return a secret; migrations create all of them."""
    (row,) = await reader.fetch_all(READ, {"name": name})
    return bytes.fromhex(row.value)
