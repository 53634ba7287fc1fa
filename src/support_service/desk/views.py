"""Saved views: create, list, change, delete, and the erasure of a customer from them.

Each change is one transaction.
"""

from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import sqlalchemy as sa

from support_service.cases.model.vocabulary import Json
from support_service.core.clock import time_after, utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import SupportError, problem
from support_service.core.ids import is_valid_id, new_id
from support_service.core.optimistic_lock import ExpectedVersions, check_resource_version
from support_service.core.search_words import SoughtTexts
from support_service.core.units import MAX_INTEGER
from support_service.desk.view_models import SavedView, ViewHolder, may_use_view, view_holder_for
from support_service.platform.audit import log as audit
from support_service.platform.audit.log import FieldChanges
from support_service.platform.database import ContendedRow, Database, Row, Transaction
from support_service.platform.database.dialect import insert_if_new
from support_service.platform.database.tables import views
from support_service.platform.unit_of_work import WriteOrigin, unit_of_work

QueryFilters = AbstractSet[tuple[str, str]]
"""Query parameters of a list of cases: (name, value)."""

ERASURE_PAGE_SIZE = 500  # views that an erasure reads at once
PERSONAL_FILTERS = ("q", "tag")  # filters whose values may contain an id among other words

_V = views.c
_COLUMNS = [_V[name] for name in SavedView.model_fields]
_OF_OWNER = _V.owner == sa.bindparam("owner")
_OF_TEAMS = _V.team.in_(sa.bindparam("teams", expanding=True))
_OF_HOLDERS = sa.or_(_V.owner.in_(sa.bindparam("owners", expanding=True)), _OF_TEAMS)
_PAGE = (
    sa.select(_V.seq, *_COLUMNS)
    .where(_V.seq < sa.bindparam("before", type_=sa.BigInteger))
    .order_by(_V.seq.desc())
    .limit(sa.bindparam("count"))
)
# The views that a role may see, as `may_use_view` decides.
PAGE_OF_ROLE = {
    "agent": _PAGE.where(sa.or_(_OF_OWNER, _OF_TEAMS)),
    "supervisor": _PAGE.where(sa.or_(_OF_OWNER, _V.team.is_not(None))),
    "analyst": _PAGE.where(_OF_OWNER),
}
VIEWS_AFTER = (
    sa.select(_V.seq, *_COLUMNS)
    .where(_V.seq > sa.bindparam("after", type_=sa.BigInteger))
    .order_by(_V.seq)
    .limit(sa.bindparam("count"))
)
VIEW_BY_ID = sa.select(*_COLUMNS).where(_V.id == sa.bindparam("view"))
LOCK_VIEWS_OF_HOLDERS = sa.select(_V.id).where(_OF_HOLDERS).order_by(_V.seq).with_for_update()
VIEWS_OF_HOLDERS = sa.select(*_COLUMNS).where(_OF_HOLDERS)
INSERT_VIEW = insert_if_new(views).inline()
DELETE_VIEW = views.delete().where(_V.id == sa.bindparam("view"))
MAX_VIEWS = 100  # of one user, and of one team


class ViewService:
    """Saved views of users and teams."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, origin: WriteOrigin, name: str, query: Json, team: str | None) -> SavedView:
        """Create a view of the team or, without one, of the caller, and return it."""
        holder, at = view_holder_for(origin.principal, team), utc_now()
        view = SavedView.model_construct(
            id=new_id(), name=name, **holder._asdict(), query=query, created_at=at, updated_at=at, version=1
        )
        async with unit_of_work(self._database, origin, _views_row_of(origin.principal)) as work:
            self._check_room_for_view(await _lock_views_of(work.tx, [holder]))
            if not await work.tx.execute(INSERT_VIEW, dict(view)):
                raise _name_taken(name)
            await audit.record(work, None, "view.created", at, _audited_changes(None, view))
        return view

    async def list_views(
        self, principal: Principal, before: int | None, limit: int
    ) -> tuple[list[SavedView], int | None]:
        """Return a page of the views that the principal may see, newest first, and the seq of its last view.

        With `before`, only views older than that seq. The seq is None if no page follows.
        """
        bound: dict[str, Any] = {
            "owner": principal.id,
            "before": MAX_INTEGER if before is None else before,
            "count": limit + 1,
        }
        if principal.role == "agent":
            bound["teams"] = list(principal.teams)
        found = await self._database.fetch_all(PAGE_OF_ROLE[principal.role], bound)
        page = found[:limit]
        return list(map(_to_view, page)), page[-1].seq if len(found) > limit else None

    async def change(
        self, origin: WriteOrigin, view_id: str, changed: Mapping[str, Any], expected: ExpectedVersions
    ) -> SavedView:
        """Give a view another `name`, `query` or `team` and return it; without a difference nothing is stored.

        A `team` of None makes it a view of the caller.
        """
        before = await self.read(origin.principal, view_id)
        holder = view_holder_for(origin.principal, changed["team"]) if "team" in changed else before.holder
        async with unit_of_work(self._database, origin, _views_row_of(origin.principal)) as work:
            locked = await _lock_views_of(work.tx, {before.holder, holder})
            before = _find_at_expected_version(locked, view_id, expected)
            others = [view for view in locked if view.holder == holder and view.id != view_id]
            values = {**changed, **holder._asdict()}
            after = before.model_copy(update=values)
            if after == before:
                return before
            if holder != before.holder:
                self._check_room_for_view(others)
            if after.name in {view.name for view in others}:
                raise _name_taken(after.name)
            values |= {"version": before.version + 1, "updated_at": time_after(before.updated_at)}
            after = before.model_copy(update=values)
            await work.tx.execute(views.update().where(_V.id == view_id).values(**values))
            await audit.record(work, None, "view.changed", after.updated_at, _audited_changes(before, after))
        return after

    async def delete(self, origin: WriteOrigin, view_id: str, expected: ExpectedVersions) -> None:
        """Delete a view."""
        before = await self.read(origin.principal, view_id)
        async with unit_of_work(self._database, origin, _views_row_of(origin.principal)) as work:
            before = _find_at_expected_version(await _lock_views_of(work.tx, [before.holder]), view_id, expected)
            await work.tx.execute(DELETE_VIEW, {"view": view_id})
            at = time_after(before.updated_at)
            await audit.record(work, None, "view.deleted", at, _audited_changes(before, None))

    async def read(self, principal: Principal, view_id: str) -> SavedView:
        """Return a view."""
        row = await self._database.fetch_now(VIEW_BY_ID, {"view": view_id}) if is_valid_id(view_id) else None
        if row is None or not may_use_view(principal, view := _to_view(row)):
            raise _not_found(view_id)
        return view

    def _check_room_for_view(self, existing: Collection[SavedView]) -> None:
        """Raise Conflict if a holder of these views can't have one more."""
        most = MAX_VIEWS
        if len(existing) >= most:
            raise problem("too_many_views", f"A user and a team have at most {most} saved views; delete one first.")


async def erase_views(
    database: Database, origin: WriteOrigin, ids: SoughtTexts, filters: QueryFilters = frozenset()
) -> list[str]:
    """Delete the views that name one of the ids or have one of the filters; return their own ids.

    Without the filter, a view would show other cases than its name says. Each is deleted in a transaction of its own.
    """
    erased: list[str] = []
    after = 0
    while page := await database.fetch_all(VIEWS_AFTER, {"after": after, "count": ERASURE_PAGE_SIZE}):
        after = page[-1].seq
        for view in map(_to_view, page):
            if not (names_any_id(view, ids) or has_any_filter(view, filters)):
                continue
            async with unit_of_work(database, origin) as work:
                if await work.tx.execute(DELETE_VIEW, {"view": view.id}):
                    at = time_after(view.updated_at)
                    await audit.record(work, None, "view.deleted", at, _audited_changes(view, None))
            erased.append(view.id)
    return erased


def names_any_id(view: SavedView, ids: SoughtTexts) -> bool:
    """Return whether the name of a view, or a personal filter, names one of the ids."""
    texts = [view.name, *(value for name in PERSONAL_FILTERS for value in _filter_values(view, name))]
    return any(map(ids.occur_in, texts))


def has_any_filter(view: SavedView, filters: QueryFilters) -> bool:
    return any((name, value) in filters for name in view.query for value in _filter_values(view, name))


def _filter_values(view: SavedView, name: str) -> list[str]:
    value = view.query.get(name, [])
    return [str(each) for each in (value if isinstance(value, list) else [value])]


def _audited_changes(before: SavedView | None, after: SavedView | None) -> FieldChanges:
    """Return the changes for the audit log: the view's id, its holder and the names of its filters where they differ.

    `before` is None for a new view, `after` for a deleted one. A change also records which fields have new values.
    Names and filter values may identify a customer, and entries without a case can't be erased, so the log has neither.
    """
    old, new = (_audited_values(view) if view else {} for view in (before, after))
    changes = {
        name: (old.get(name), new.get(name))
        for name in ("viewId", "owner", "team", "filters")
        if name == "viewId" or old.get(name) != new.get(name)
    }
    if before and after:
        fields = [name for name in ("name", "query", "team") if getattr(before, name) != getattr(after, name)]
        changes["changedFields"] = (None, fields)
    return changes


def _audited_values(view: SavedView) -> dict[str, object]:
    return {"viewId": view.id, "owner": view.owner, "team": view.team, "filters": sorted(view.query)}


async def _lock_views_of(tx: Transaction, holders: Collection[ViewHolder]) -> list[SavedView]:
    """Lock the views of some holders until the transaction ends, and return them.

    Transactions that change views of one holder wait for each other here, except transactions that add its first view.
    """
    bound = {
        "owners": [holder.owner for holder in holders if holder.owner is not None],
        "teams": [holder.team for holder in holders if holder.team is not None],
    }
    await tx.fetch_all(LOCK_VIEWS_OF_HOLDERS, bound)
    # A second statement: the first one does not see what was added while it waited.
    return list(map(_to_view, await tx.fetch_all(VIEWS_OF_HOLDERS, bound)))


def _to_view(row: Row) -> SavedView:
    return SavedView.model_construct(**{name: getattr(row, name) for name in SavedView.model_fields})


def _find_at_expected_version(locked: Collection[SavedView], view_id: str, expected: ExpectedVersions) -> SavedView:
    """Return the locked view."""
    view = next((view for view in locked if view.id == view_id), None)
    if view is None:
        raise _not_found(view_id)
    check_resource_version(view, expected, "view_changed", "saved view")
    return view


def _views_row_of(principal: Principal) -> ContendedRow:
    """Return the row for which the writes of one user wait before they take a connection."""
    return ContendedRow(f"views of {principal.id}")


def _not_found(view_id: str) -> SupportError:
    return problem("view_not_found", f"There is no saved view {view_id[:64]!r}.")


def _name_taken(name: str) -> SupportError:
    return problem("view_name_taken", f"There is another saved view {name!r}; choose another name.")
