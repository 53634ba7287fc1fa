"""Pages bounded by rows and by bytes; the database sums the sizes before any row is read."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

Way = Callable[[sa.ColumnElement[Any]], sa.ColumnElement[Any]]  # sort direction: sa.asc or sa.desc


def limit_by_bytes(found: sa.Select[Any], place: str, way: Way = sa.asc) -> sa.Subquery:
    """Return the rows of `found` that begin within the first `:bytes` bytes, with the total number of rows as `number`.

    `found` must have a column `size`. Sizes are summed in the order of the column `place`; the enclosing statement has
    to sort again.
    """
    sized = found.subquery()
    before = sa.func.sum(sized.c.size).over(order_by=way(sized.c[place])) - sized.c.size
    counted = sa.select(sized, before.label("before"), sa.func.count().over().label("number")).subquery()
    return sa.select(counted).where(counted.c.before < sa.bindparam("bytes", type_=sa.BigInteger)).subquery()
