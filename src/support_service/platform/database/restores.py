"""Restores of the database from a backup, and the base from which versions count since the last one.

A version counts the changes of a case or of a saved view. After a restore the counts of the undone time repeat, with
other content. Clients and consumers therefore see a count plus the base of its database. The base is the time of the
last restore in milliseconds, and 0 before the first. So versions still grow, and a version of the undone time is never
given again.
"""

import sqlalchemy as sa

from support_service.platform.database import Reader, Transaction
from support_service.platform.database.tables import restores

VERSION_BASE: sa.ScalarSelect[int] = sa.select(
    sa.func.coalesce(sa.func.max(restores.c.version_base), sa.literal_column("0", sa.BigInteger))
).scalar_subquery()
_SELECT_VERSION_BASE = sa.select(VERSION_BASE.label("base"))


async def read_version_base(reader: Reader) -> int:
    """Return the base from which versions count; 0 if the database was never restored."""
    (row,) = await reader.fetch_all(_SELECT_VERSION_BASE)
    return int(row.base)


async def add_restore(tx: Transaction, version_base: int, **values: object) -> None:
    """Record a restore: from now on, versions count from its base."""
    await tx.execute(restores.insert().inline(), {"version_base": version_base, **values})
