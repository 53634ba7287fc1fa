"""The service of saved views: create, list with counts, change, delete. Each change is one transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from support_service.core.clock import time_after, utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import Conflict, NotFound, SupportError
from support_service.core.ids import is_valid_id, new_id
from support_service.core.optimistic_lock import ExpectedVersions, expect_resource_version
from support_service.desk import view_rows as store
from support_service.desk.view_audit import audited_changes
from support_service.desk.view_models import CountedView, NewView, Query, StoredView, holder_for, may_use, owner_of
from support_service.platform.audit import log as audit
from support_service.platform.database import ContendedRow, Database
from support_service.platform.idempotency.unit_of_work import WriteOrigin, unit_of_work

# Counts the cases that a query shows to the caller, at most the given number; None if the caller can't use the query.
CountCases = Callable[[Query, int], Awaitable[int | None]]


@dataclass(frozen=True, slots=True)
class ViewLimits:
    """Limits of saved views."""

    max_views: int = 100  # of one user, and of one team
    max_count: int = 1000  # cases of a view that are counted exactly
    counts_at_once: int = 2  # of one request
    count_seconds: float = 2.0  # of one request; views that are not counted by then have no count


class ViewService:
    """Saved views of users and teams."""

    def __init__(self, database: Database, limits: ViewLimits = ViewLimits()) -> None:
        self._database = database
        self._limits = limits

    async def create(self, origin: WriteOrigin, new: NewView) -> StoredView:
        """Create a view and return it. Raises Forbidden, and Conflict for a name that is taken or a view too many."""
        holder, at = holder_for(origin.principal, new.team), utc_now()
        view = StoredView(0, new_id(), *holder, new.name, new.query, version=1, created_at=at, updated_at=at)
        async with unit_of_work(self._database, origin, _turn(origin)) as work:
            self._expect_room(await store.lock_views_of(work.tx, [holder]))
            if not await store.add(work.tx, view):
                raise _name_taken(view.name)
            await audit.record(work, None, "view.created", at, audited_changes(None, view))
        return view

    async def list_views(
        self, principal: Principal, before: int | None, limit: int, count: CountCases
    ) -> tuple[list[CountedView], int | None]:
        """Return a page of the views that the principal may see, newest first, and the seq of its last view.

        With `before`, only views older than that seq. The seq is None if no page follows.
        """
        found = await store.find(self._database, principal, before, limit + 1)
        page = found[:limit]
        return await self._count_all(page, count), page[-1].seq if len(found) > limit else None

    async def read(self, principal: Principal, view_id: str, count: CountCases) -> CountedView:
        """Return a view with its number of cases. Raises NotFound."""
        (counted,) = await self._count_all([await self._visible(principal, view_id)], count)
        return counted

    async def change(
        self, origin: WriteOrigin, view_id: str, changed: Mapping[str, Any], expected: ExpectedVersions
    ) -> StoredView:
        """Give a view another `name`, `query` or `team` and return it; without a difference nothing is stored.

        A `team` of None makes it a view of the caller. Raises NotFound, Forbidden, VersionConflict, and Conflict for a
        name that is taken or a view too many.
        """
        before = await self._visible(origin.principal, view_id)
        holder = holder_for(origin.principal, changed["team"]) if "team" in changed else before.holder
        async with unit_of_work(self._database, origin, _turn(origin)) as work:
            locked = await store.lock_views_of(work.tx, {before.holder, holder})
            before = _expected(locked, view_id, expected)
            others = [view for view in locked if view.holder == holder and view.id != view_id]
            values = {**changed, "owner": holder.owner, "team": holder.team}
            after = replace(before, **values)
            if after == before:
                return before
            if holder != before.holder:
                self._expect_room(others)
            if after.name in {view.name for view in others}:
                raise _name_taken(after.name)
            values |= {"version": before.version + 1, "updated_at": time_after(before.updated_at)}
            after = replace(before, **values)
            await store.update(work.tx, view_id, values)
            await audit.record(work, None, "view.changed", after.updated_at, audited_changes(before, after))
        return after

    async def delete(self, origin: WriteOrigin, view_id: str, expected: ExpectedVersions) -> None:
        """Delete a view. Raises NotFound and VersionConflict."""
        before = await self._visible(origin.principal, view_id)
        async with unit_of_work(self._database, origin, _turn(origin)) as work:
            before = _expected(await store.lock_views_of(work.tx, [before.holder]), view_id, expected)
            await store.delete(work.tx, view_id)
            await audit.record(work, None, "view.deleted", time_after(before.updated_at), audited_changes(before, None))

    async def _visible(self, principal: Principal, view_id: str) -> StoredView:
        view = await store.get(self._database, view_id) if is_valid_id(view_id) else None
        if view is None or not may_use(principal, view):
            raise _not_found(view_id)
        return view

    async def _count_all(self, views: Sequence[StoredView], count: CountCases) -> list[CountedView]:
        """Return the views with their numbers of cases. A number that takes too long is None.

        The first error ends the other counts, and is raised.
        """
        most, counting = self._limits.max_count, asyncio.Semaphore(self._limits.counts_at_once)
        deadline = asyncio.get_running_loop().time() + self._limits.count_seconds

        async def counted(view: StoredView) -> CountedView:
            number = None
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline), counting:
                    number = await count(view.query, most + 1)
            more = number is not None and number > most
            return CountedView(view, most if more else number, more)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(counted(view)) for view in views]
        except ExceptionGroup as failures:
            if all(isinstance(failure, SupportError) for failure in failures.exceptions):
                raise failures.exceptions[0] from None
            raise
        return [task.result() for task in tasks]

    def _expect_room(self, views: Collection[StoredView]) -> None:
        """Raise Conflict if a holder of these views can't have one more."""
        most = self._limits.max_views
        if len(views) >= most:
            raise Conflict("too_many_views", f"A user and a team have at most {most} saved views; delete one first.")


def _turn(origin: WriteOrigin) -> ContendedRow:
    """Return the row for which the writes of one user wait before they take a connection."""
    return ContendedRow(f"views of {owner_of(origin.principal)}")


def _expected(locked: Collection[StoredView], view_id: str, expected: ExpectedVersions) -> StoredView:
    """Return the locked view. Raises NotFound if it was deleted meanwhile, and VersionConflict."""
    view = next((view for view in locked if view.id == view_id), None)
    if view is None:
        raise _not_found(view_id)
    expect_resource_version(view, expected, "view_changed", "saved view")
    return view


def _not_found(view_id: str) -> NotFound:
    return NotFound("view_not_found", f"There is no saved view {view_id[:64]!r}.")


def _name_taken(name: str) -> Conflict:
    return Conflict("view_name_taken", f"There is another saved view {name!r}; choose another name.")
