"""SQL of the number of cases, which triggers keep, and of the customer who waits longest: neither reads all cases."""

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from support_service.platform.database import Database, Reader
from support_service.platform.database.json_projections import IS_ACTIVE, IS_SYNTHETIC
from support_service.platform.database.tables import case_counts, tickets

_KEY = (case_counts.c.status, case_counts.c.priority)
COUNTS = sa.select(
    *_KEY,
    sa.cast(sa.func.sum(case_counts.c.number), sa.BigInteger).label("number"),
    sa.func.count().label("stored_rows"),
).group_by(*_KEY)
# For PostgreSQL only. Locked rows are those that another replica folds now. Nothing updates a row, so its ctid stays.
FOLD = sa.text("""
    WITH taken AS (
        DELETE FROM case_counts
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM case_counts LIMIT 50000 FOR UPDATE SKIP LOCKED))
        RETURNING status, priority, number
    )
    INSERT INTO case_counts (status, priority, number)
    SELECT status, priority, sum(number) FROM taken GROUP BY status, priority HAVING sum(number) <> 0
""")


# The first entry of the index of waiting customers, which has the cases of both active statuses.
OLDEST_WAITING = (
    sa.select(tickets.c.waiting_since)
    .where(tickets.c.waiting_since.is_not(None), IS_ACTIVE, sa.not_(IS_SYNTHETIC))
    .order_by(tickets.c.waiting_since, tickets.c.seq)
    .limit(sa.literal_column("1"))
)


class CaseCounts(NamedTuple):
    """The number of cases by (status, priority), and of the rows that say so."""

    cases: dict[tuple[str, str], int]
    stored_rows: int


async def read(reader: Reader) -> CaseCounts:
    """Return the number of cases that are not synthetic."""
    rows = await reader.fetch_all(COUNTS)
    return CaseCounts({(row.status, row.priority): row.number for row in rows}, sum(row.stored_rows for row in rows))


async def fold(database: Database) -> None:
    """Replace rows of the same status and priority by their sum. Any number of replicas may do so at once."""
    async with database.transaction() as tx:
        await tx.execute(FOLD)


async def oldest_waiting(reader: Reader) -> datetime | None:
    """Return since when the longest waiting customer of an unsettled case waits, or None if no customer waits."""
    row = await reader.fetch_one(OLDEST_WAITING)
    return row.waiting_since if row else None
