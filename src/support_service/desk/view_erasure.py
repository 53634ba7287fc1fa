"""Erasure of a customer from saved views: views that name the customer, or that show only their cases, are deleted.

Without the filter, a view would show other cases than its name says.
"""

from collections.abc import Set as AbstractSet

from support_service.core.clock import time_after
from support_service.core.search_words import Sought
from support_service.desk import view_rows as store
from support_service.desk.view_audit import audited_changes
from support_service.desk.view_models import StoredView
from support_service.platform.audit import log as audit
from support_service.platform.database import Database
from support_service.platform.idempotency.unit_of_work import WriteOrigin, unit_of_work

PAGE = 500  # views that are read at once
PERSONAL_FILTERS = ("q", "tag")  # filters whose values may contain an id among other words
Filters = AbstractSet[tuple[str, str]]
"""Query parameters of a list of cases: (name, value)."""


async def erase_views(
    database: Database, origin: WriteOrigin, ids: Sought, filters: Filters = frozenset()
) -> list[str]:
    """Delete the views that name one of the ids or have one of the filters; return their own ids.

    Each is deleted in a transaction of its own.
    """
    erased: list[str] = []
    after = 0
    while page := await store.read_after(database, after, PAGE):
        after = page[-1].seq
        for view in page:
            if not (names_any(view, ids) or has_filter(view, filters)):
                continue
            async with unit_of_work(database, origin) as work:
                if await store.delete(work.tx, view.id):
                    at = time_after(view.updated_at)
                    await audit.record(work, None, "view.deleted", at, audited_changes(view, None))
            erased.append(view.id)
    return erased


def names_any(view: StoredView, ids: Sought) -> bool:
    """Return whether the name of a view, or a personal filter, names one of the ids."""
    texts = [view.name, *(value for name in PERSONAL_FILTERS for value in _values(view, name))]
    return any(map(ids.found_in, texts))


def has_filter(view: StoredView, filters: Filters) -> bool:
    """Return whether a view has one of the filters."""
    return any((name, value) in filters for name in view.query for value in _values(view, name))


def _values(view: StoredView, name: str) -> list[str]:
    value = view.query.get(name, [])
    return [str(each) for each in (value if isinstance(value, list) else [value])]
