"""The inbox: which events of other services have taken effect, kept in the transactions in which they do."""

from datetime import UTC, datetime, timedelta

from support_service.database import Database, Transaction
from support_service.events import store
from support_service.events.inbound_events import Event

REMEMBERED = timedelta(days=14)  # a repeat that comes later than this takes effect again
FORGET_EVERY = 3600.0  # seconds
AT_ONCE = 500  # events forgotten in one transaction


async def begin(tx: Transaction, event: Event) -> int | None:
    """Take up an event: how far it has come (0 for a new one), None where it has taken effect already.

    The transaction that takes up a new one says that it has taken effect, unless `reached` says that there is more.
    """
    return await store.begin_inbound(tx, event.source, event.id, datetime.now(UTC))


async def reached(tx: Transaction, event: Event, last: int, *, done: bool) -> None:
    """Remember how far an event has come: the seq of the last case that it took effect in."""
    await store.end_inbound(tx, event.source, event.id, last, done=done)


async def forget_old(database: Database) -> None:
    """Forget events that no one will repeat any more, a few at a time: others write in between."""
    before = datetime.now(UTC) - REMEMBERED
    forgotten = AT_ONCE
    while forgotten == AT_ONCE:
        async with database.transaction() as tx:
            forgotten = await store.forget_inbound(tx, before, AT_ONCE)
