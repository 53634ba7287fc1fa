"""Events that are kept about a case: those to be published, those to be delivered, and those in the stream."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress

import pydantic_core
import sqlalchemy as sa

from support_service.database import Reader, Transaction
from support_service.database.tables import outbox, webhook_deliveries
from support_service.events.broker.redis import RedisBroker

PAGE = 500  # entries of a stream at once
RELAYED_WITHIN = 2.0  # seconds; a relay that is alive takes a tenth of one
LOOK_EVERY = 0.05


async def rewrite(tx: Transaction, case_id: str, rewritten: Callable[[str], str]) -> dict[str, int]:
    """Write a case's events anew in the outbox and among webhook deliveries; gives how many of each."""
    counted = {}
    for table, name in ((outbox, "outboxEvents"), (webhook_deliveries, "webhookDeliveries")):
        # An older release may still run beside this one, and what it keeps doesn't say of which case it is, nor does
        # what there was before the column: of these few, which the index finds too, the event itself is asked.
        nameless = sa.and_(table.c.case_id.is_(None), table.c.event.contains(_about(case_id)))
        ours = sa.select(table.c.seq, table.c.event).where(sa.or_(table.c.case_id == case_id, nameless))
        found = await tx.fetch_all(ours.order_by(table.c.seq).with_for_update())  # as `store.in_order` has it
        for seq, event in found:
            await tx.execute(table.update().where(table.c.seq == seq).values(event=rewritten(event)))
        counted[name] = len(found)
    return counted


async def until_relayed(reader: Reader) -> None:
    """Wait for what a relay has read before it was rewritten to be published: for RELAYED_WITHIN at most."""
    # All that is there, since events go out in the order of seq, and however many cases were erased this asks but once.
    ((newest,),) = await reader.fetch_all(sa.select(sa.func.coalesce(sa.func.max(outbox.c.seq), 0)))
    left = sa.select(outbox.c.seq).where(outbox.c.seq <= newest).limit(1)
    with suppress(TimeoutError):  # nobody relays now, or not as far as this yet
        async with asyncio.timeout(RELAYED_WITHIN):
            while await reader.fetch_one(left):  # noqa: ASYNC110 - a relay in another process tells nobody
                await asyncio.sleep(LOOK_EVERY)


async def remove_published(broker: RedisBroker, stream: str, case_ids: Collection[str]) -> int:
    """Take the events of cases out of a stream; gives how many. Raises BrokerFault."""
    removed, after = 0, ""
    while page := await broker.entries(stream, PAGE, after):
        after = page[-1].id
        removed += await broker.remove(stream, [each.id for each in page if _subject(each.event) in case_ids])
    return removed


def _about(case_id: str) -> str:
    """What stands in each event of a case."""
    return f'"subject":"{case_id}"'


def _subject(event: bytes) -> str | None:
    try:
        document = pydantic_core.from_json(event)
    except ValueError:
        return None
    return document.get("subject") if isinstance(document, dict) else None
