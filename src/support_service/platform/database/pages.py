"""Many rows in parts: pages bounded by rows and by bytes, and deletions in small transactions.

The database sums the sizes of a page before any row is read.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import sqlalchemy as sa

from support_service.platform.database.protocols import Database, Transaction

Direction = Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]  # sort direction: sa.asc or sa.desc


def limit_by_bytes(
    rows: sa.Select[Any], *order_columns: str, direction: Direction = sa.asc, limit: str = "bytes"
) -> sa.Subquery:
    """Return the rows of `rows` that begin within the first bytes, with the total number of rows as `number`.

    `limit` is the name of the parameter with the number of bytes.

    `rows` must have a column `size`. Sizes are summed in the order of the columns; the enclosing statement has to sort
    again.
    """
    return limit_ordered_by_bytes(rows, lambda sized: [direction(sized.c[name]) for name in order_columns], limit)


def limit_ordered_by_bytes(
    rows: sa.Select[Any], order_of: Callable[[sa.FromClause], Sequence[sa.ColumnElement[Any]]], limit: str = "bytes"
) -> sa.Subquery:
    """Return what `limit_by_bytes` returns; `order_of` returns the `ORDER BY` of rows that have the columns."""
    sized = rows.subquery()
    before = sa.func.sum(sized.c.size).over(order_by=order_of(sized)) - sized.c.size
    counted = sa.select(sized, before.label("before"), sa.func.count().over().label("number")).subquery()
    return sa.select(counted).where(counted.c.before < sa.bindparam(limit, type_=sa.BigInteger)).subquery()


async def delete_in_batches(
    database: Database, delete: Callable[[Transaction], Awaitable[int]], batch_size: int
) -> None:
    """Run `delete` in one transaction after another, until it deletes fewer than `batch_size` rows.

    Small transactions do not block other writers for long.
    """
    deleted = batch_size
    while deleted == batch_size:
        async with database.transaction() as tx:
            deleted = await delete(tx)
