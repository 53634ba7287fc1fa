"""SQL of saved views."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa

from support_service.core.domain.principals import Principal
from support_service.core.units import MAX_INTEGER
from support_service.desk.view_models import Holder, StoredView, owner_of
from support_service.platform.database import Reader, Row, Transaction
from support_service.platform.database.dialect import insert_if_new
from support_service.platform.database.tables import views

_V = views.c
COLUMNS = [_V[field.name] for field in fields(StoredView)]
INSERT = insert_if_new(views).inline()
BY_ID = sa.select(*COLUMNS).where(_V.id == sa.bindparam("view"))
_OF_OWNER = _V.owner == sa.bindparam("owner")
_OF_TEAMS = _V.team.in_(sa.bindparam("teams", expanding=True))
_OF_HOLDERS = sa.or_(_V.owner.in_(sa.bindparam("owners", expanding=True)), _OF_TEAMS)
LOCK = sa.select(_V.id).where(_OF_HOLDERS).order_by(_V.seq).with_for_update()
HELD = sa.select(*COLUMNS).where(_OF_HOLDERS)
_PAGE = (
    sa.select(*COLUMNS)
    .where(_V.seq < sa.bindparam("before", type_=sa.BigInteger))
    .order_by(_V.seq.desc())
    .limit(sa.bindparam("count"))
)
# The views that a role may see, as `may_use` decides.
PAGES = {
    "agent": _PAGE.where(sa.or_(_OF_OWNER, _OF_TEAMS)),
    "supervisor": _PAGE.where(sa.or_(_OF_OWNER, _V.team.is_not(None))),
    "analyst": _PAGE.where(_OF_OWNER),
}
AFTER = (
    sa.select(*COLUMNS)
    .where(_V.seq > sa.bindparam("after", type_=sa.BigInteger))
    .order_by(_V.seq)
    .limit(sa.bindparam("count"))
)
DELETE = views.delete().where(_V.id == sa.bindparam("view"))


async def get(reader: Reader, view_id: str) -> StoredView | None:
    """Return a view, or None."""
    row = await reader.fetch_one(BY_ID, {"view": view_id})
    return _view(row) if row else None


async def find(reader: Reader, principal: Principal, before: int | None, count: int) -> list[StoredView]:
    """Return the newest views that the principal may see, at most `count`; with `before`, those older than that seq."""
    bound: dict[str, Any] = {
        "owner": owner_of(principal),
        "before": MAX_INTEGER if before is None else before,
        "count": count,
    }
    if principal.role == "agent":
        bound["teams"] = list(principal.teams)
    return list(map(_view, await reader.fetch_all(PAGES[principal.role], bound)))


async def lock_views_of(tx: Transaction, holders: Collection[Holder]) -> list[StoredView]:
    """Lock the views of some holders until the transaction ends, and return them.

    Transactions that change views of one holder wait for each other here, except those that add its first view.
    """
    bound = {
        "owners": [holder.owner for holder in holders if holder.owner is not None],
        "teams": [holder.team for holder in holders if holder.team is not None],
    }
    await tx.fetch_all(LOCK, bound)
    # A second statement: the first one does not see what was added while it waited.
    return list(map(_view, await tx.fetch_all(HELD, bound)))


async def add(tx: Transaction, view: StoredView) -> bool:
    """Store a view; its seq is assigned by the database. Return False if the holder has a view of this name."""
    values = asdict(view)
    del values["seq"]
    return bool(await tx.execute(INSERT, values))


async def update(tx: Transaction, view_id: str, values: Mapping[str, Any]) -> None:
    """Store new values of some columns of a view."""
    await tx.execute(views.update().where(_V.id == view_id).values(**values))


async def delete(tx: Transaction, view_id: str) -> bool:
    """Delete a view. Return False if there is none."""
    return bool(await tx.execute(DELETE, {"view": view_id}))


async def read_after(reader: Reader, after: int, count: int) -> Sequence[StoredView]:
    """Return the oldest views with a seq above `after`, at most `count`."""
    return [_view(row) for row in await reader.fetch_all(AFTER, {"after": after, "count": count})]


def _view(row: Row) -> StoredView:
    return StoredView(**row._asdict())
