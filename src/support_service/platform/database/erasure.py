"""What an erasure of a customer writes into the columns of rows that stay. Each column declares it, see tables.py."""

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from support_service.platform.database.dialect import JsonValue
from support_service.platform.database.tables import ERASURE
from support_service.platform.telemetry.instruments import OTHER

ERASED_TEXT = "[erased]"


def erased_values(table: sa.Table, known: Mapping[str, Collection[str]] = {}) -> dict[str, Any]:
    """Return the value of each column of a table that an erasure overwrites, for an UPDATE.

    `known` has the values that stay of a column which is `replaced if unknown`. Columns that are `rewritten` are
    missing: their feature knows their values.
    """
    values: dict[str, Any] = {}
    for column in table.c:
        match column.info[ERASURE]:
            case "replaced":
                values[column.name] = ERASED_TEXT
            case "replaced if unknown":
                values[column.name] = sa.case((column.in_(known[column.name]), column), else_=OTHER)
            case "emptied":
                values[column.name] = [] if isinstance(column.type, JsonValue) else ""
            case "removed":
                values[column.name] = None
    return values
