"""Reads and changes of one row by its key, in the forms of transactions with and without locks.

A transaction without locks reads the row with its version, and sends its changes later. They have an effect only if
the row still has that version. PostgreSQL gives each version of a row the id of the transaction that wrote it, `xmin`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import visitors

from support_service.platform.database import LockedRead, RowChange
from support_service.platform.database.statements import compiled

ROW_ID = "case_id"  # name of the parameter with the id of the changed row, in all changes that belong to a case
ROW_VERSION = "row_version"  # name of the column and of the parameter


class _TransactionId(sa.types.UserDefinedType[int]):
    """PostgreSQL's type of `xmin`."""

    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **_: Any) -> str:
        return "XID"


def locked_read(table: sa.Table, condition: sa.ColumnElement[bool], *columns: sa.ColumnElement[Any]) -> LockedRead:
    read = sa.select(*columns).where(condition)
    return LockedRead(
        table,
        compiled(read),
        compiled(read.with_for_update()),
        compiled(read.add_columns(_version(table).label(ROW_VERSION))),
    )


def row_change(
    table: sa.Table,
    condition: sa.ColumnElement[bool],
    values: Mapping[str, sa.ColumnElement[Any]],
    returned: Mapping[str, sa.ColumnElement[Any]],
) -> RowChange:

    def new_value(element: Any, **_: Any) -> Any:
        return values.get(element.name) if isinstance(element, sa.Column) else None

    change = table.update().where(condition).values(values)
    columns = [column.label(name) for name, column in returned.items()]
    previews = [visitors.replacement_traverse(column, {}, new_value).label(name) for name, column in returned.items()]
    preview = sa.select(*previews, _version(table).label(ROW_VERSION)).where(condition)
    return RowChange(table, compiled(change.returning(*columns)), compiled(preview), compiled(change))


@cache
def only_of_version(change: sa.Update) -> sa.Update:
    """Return the change of a row if it has the version ROW_VERSION, and no other transaction has locked it.

    The statement never waits for a lock: it also has changes of other transactions.
    """
    table = change.table
    assert isinstance(table, sa.Table)  # noqa: S101 - the changes of the stores name tables
    (key,) = table.primary_key
    free = table.alias("free")
    is_free = (
        sa.select(free.c[key.name]).where(free.c[key.name] == key).with_for_update(key_share=True, skip_locked=True)
    )
    has_version = _version(table) == sa.bindparam(ROW_VERSION, type_=_TransactionId())
    return compiled(change.where(has_version, key == is_free.scalar_subquery()))


def _version(table: sa.TableClause) -> sa.ColumnClause[Any]:
    return sa.literal_column(f"{table.name}.xmin", _TransactionId())
