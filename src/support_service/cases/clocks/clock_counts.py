"""SQL of the gauges: running clocks, which triggers count, and the longest overdue ones, which indexes find first."""

from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from support_service.core.domain.case_vocabulary import TARGETS, Target
from support_service.platform.database import Database, Reader
from support_service.platform.database.dialect import text_literal
from support_service.platform.database.tables import case_clocks, clock_counts

_C = case_clocks.c
COUNTS = sa.select(
    clock_counts.c.target,
    sa.cast(sa.func.sum(clock_counts.c.number), sa.BigInteger).label("number"),
    sa.func.count().label("stored_rows"),
).group_by(clock_counts.c.target)
# For PostgreSQL only, as for the number of cases. Nothing updates a row, so its ctid stays.
FOLD = sa.text("""
    WITH taken AS (
        DELETE FROM clock_counts
        WHERE ctid = ANY (ARRAY(SELECT ctid FROM clock_counts LIMIT 50000 FOR UPDATE SKIP LOCKED))
        RETURNING target, number
    )
    INSERT INTO clock_counts (target, number)
    SELECT target, sum(number) FROM taken GROUP BY target HAVING sum(number) <> 0
""")


def _oldest(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    return sa.select(_C.due_at).where(*conditions).order_by(_C.due_at).limit(1).scalar_subquery()


OLDEST = sa.select(
    *(
        _oldest(
            _C.target == text_literal(target), _C.state == text_literal("breached"), _C.running_since.is_not(None)
        ).label(target)
        for target in TARGETS
    ),
    _oldest(_C.state == text_literal("running")).label("first_due"),
)


class ClockCounts(NamedTuple):
    """The number of running clocks by target, and of the rows that say so."""

    running: dict[str, int]
    stored_rows: int


class OldestClocks(NamedTuple):
    """The due time of the longest overdue clock of each target that has one, and the first one of a running clock."""

    overdue: dict[Target, datetime]
    first_due: datetime | None


async def read(reader: Reader) -> ClockCounts:
    """Return the number of running clocks."""
    rows = await reader.fetch_all(COUNTS)
    return ClockCounts({row.target: row.number for row in rows}, sum(row.stored_rows for row in rows))


async def oldest(reader: Reader) -> OldestClocks:
    """Return the longest overdue clocks."""
    row = await reader.fetch_one(OLDEST)
    times = row._asdict() if row else {}
    return OldestClocks({target: at for target in TARGETS if (at := times.get(target))}, times.get("first_due"))


async def fold(database: Database) -> None:
    """Replace rows of the same target by their sum. Any number of replicas may do so at once."""
    async with database.transaction() as tx:
        await tx.execute(FOLD)
