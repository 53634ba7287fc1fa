"""All SQL for macros. The transactions that create macros do so one after another, so that the limit holds."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import pydantic_core
import sqlalchemy as sa

from support_service.desk.macro_models import Macro
from support_service.platform.database import Reader, Row, Transaction
from support_service.platform.database.dialect import insert_if_new, octets
from support_service.platform.database.pages import limit_by_bytes
from support_service.platform.database.tables import macros

_M = macros.c
_COLUMNS = [_M[name] for name in Macro.model_fields]
BY_NAME = sa.select(*_COLUMNS).where(_M.name == sa.bindparam("of"))
ADD = insert_if_new(macros).inline()
COUNT = sa.select(sa.func.count().label("number")).select_from(macros)
LOCK_OLDEST = sa.select(_M.seq).order_by(_M.seq).limit(1).with_for_update()


class MacroListPage(NamedTuple):
    """A page of (seq, macro), oldest first; `more` is True if newer macros follow."""

    macros: list[tuple[int, Macro]]
    more: bool


async def get(reader: Reader, name: str) -> Macro | None:
    """Return a macro, or None."""
    return _macro(await reader.fetch_one(BY_NAME, {"of": name}))


async def lock(tx: Transaction, name: str) -> Macro | None:
    """Lock a macro until the transaction ends; return it, or None."""
    return _macro(await tx.fetch_one(BY_NAME.with_for_update(), {"of": name}))


async def find(reader: Reader, after: int | None, limit: int, max_bytes: int) -> MacroListPage:
    """Return at most `limit` macros, oldest first, after a seq; fewer if their texts reach `max_bytes` bytes."""
    size = octets(_M.text) + octets(sa.cast(_M.tags, sa.Text))
    found = sa.select(_M.seq, size.label("size")).order_by(_M.seq).limit(sa.bindparam("one_more"))
    bounds: dict[str, Any] = {"limit": limit, "one_more": limit + 1, "bytes": max_bytes}
    if after is not None:
        found = found.where(_M.seq > sa.bindparam("after"))
        bounds["after"] = after
    page = limit_by_bytes(found, "seq")
    statement = (
        sa.select(_M.seq, *_COLUMNS, page.c.number)
        .join(page, page.c.seq == _M.seq)
        .order_by(_M.seq)
        .limit(sa.bindparam("limit"))
    )
    rows = await reader.fetch_all(statement, bounds)
    # JSON may write one character of a text as six bytes, so the JSON is measured here too.
    before = accumulate((len(pydantic_core.to_json(row.text)) for row in rows), initial=0)
    listed = [(row.seq, _to_macro(row)) for row, written in zip(rows, before, strict=False) if written < max_bytes]
    return MacroListPage(listed, bool(rows) and rows[0].number > len(listed))


async def lock_number(tx: Transaction) -> int:
    """Return the number of macros; another transaction that asks for it waits until this one ends."""
    await tx.fetch_one(LOCK_OLDEST)
    row = await tx.fetch_one(COUNT)  # a statement of its own, so that it sees what was committed while this one waited
    return int(row.number) if row else 0


async def add(tx: Transaction, macro: Macro) -> bool:
    """Insert a macro; return False if there is one of its name."""
    return bool(await tx.execute(ADD, _values(macro)))


async def update(tx: Transaction, macro: Macro) -> None:
    """Replace a macro that this transaction has locked."""
    await tx.execute(macros.update().where(_M.name == macro.name).values(dict(_values(macro))))


async def delete(tx: Transaction, name: str) -> None:
    """Delete a macro."""
    await tx.execute(macros.delete().where(_M.name == name))


def _values(macro: Macro) -> Mapping[str, Any]:
    return {name: getattr(macro, name) for name in Macro.model_fields}


def _macro(row: Row | None) -> Macro | None:
    return _to_macro(row) if row else None


def _to_macro(row: Row) -> Macro:
    return Macro.model_construct(**{name: getattr(row, name) for name in Macro.model_fields})
