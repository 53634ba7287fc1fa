"""Erasure of a customer from saved views: views that name the customer, or what their cases are about, are deleted.

Without the filter, a view would show other cases than its name says.
"""

from collections.abc import Set as AbstractSet

from support_service.audit import log as audit
from support_service.core.clock import time_after
from support_service.core.search_words import search_words
from support_service.database import Database
from support_service.idempotency.unit_of_work import WriteOrigin, unit_of_work
from support_service.views import store
from support_service.views.audited import audited_changes
from support_service.views.model import StoredView

PAGE = 500  # views that are read at once
PERSONAL_FILTERS = ("customerId", "q", "tag")  # filters whose values may name a customer
REFERENCE_FILTERS = ("orderId", "paymentId", "shipmentId")
References = AbstractSet[tuple[str, str]]
"""What cases refer to, as query parameters: (name, value)."""


async def erase_views(
    database: Database, origin: WriteOrigin, customer_id: str, references: References = frozenset()
) -> int:
    """Delete the views that name a customer or one of the references of the customer's cases; return their number.

    Each is deleted in a transaction of its own.
    """
    erased = after = 0
    while page := await store.read_after(database, after, PAGE):
        after = page[-1].seq
        for view in page:
            if not (names_customer(view, customer_id) or names_reference(view, references)):
                continue
            async with unit_of_work(database, origin) as work:
                if await store.delete(work.tx, view.id):
                    at = time_after(view.updated_at)
                    await audit.record(work, None, "view.deleted", at, audited_changes(view, None))
            erased += 1
    return erased


def names_customer(view: StoredView, customer_id: str) -> bool:
    """Return whether a personal filter of a view, or its name, is the id of a customer or has it among its words."""
    texts = (view.name, *(str(view.query[name]) for name in PERSONAL_FILTERS if name in view.query))
    words = f" {' '.join(search_words(customer_id))} "
    return any(
        text == customer_id or (words.strip() and words in f" {' '.join(search_words(text))} ") for text in texts
    )


def names_reference(view: StoredView, references: References) -> bool:
    """Return whether a filter of a view is one of the references."""
    return any((name, view.query.get(name)) in references for name in REFERENCE_FILTERS)
