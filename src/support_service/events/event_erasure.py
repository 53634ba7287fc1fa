"""Erasure of personal data from stored events: in the database, in the stream, and in dead letters."""

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Any

import pydantic_core
import sqlalchemy as sa

from support_service.core.errors import suppress_codes
from support_service.core.search_words import SoughtTexts
from support_service.events.broker.log import parse_place
from support_service.events.broker.redis import RedisBroker
from support_service.events.dead_letters import DeadLetterService
from support_service.platform.database import RowReader, Transaction
from support_service.platform.database.tables import leases, outbox, published_events, webhook_deliveries
from support_service.platform.unit_of_work import WriteOrigin

STREAM_PAGE = 100  # stream entries per read; each may have 256 KiB
# Members of an event's envelope that name no object, but may contain the digits of a short id.
TECHNICAL_MEMBERS = frozenset({"specversion", "id", "source", "type", "time", "datacontenttype", "traceparent"})
POLL_INTERVAL = 0.05  # seconds between reads of the outbox


async def rewrite_stored_events(
    tx: Transaction, case_ids: Collection[str], rewrite_event: Callable[[str], str]
) -> dict[str, int]:
    """Apply `rewrite_event` to each of the cases' events in the outbox, in published events and in webhook deliveries.

    Return the number of rewritten rows, keyed by `outboxEvents`, `keptEvents` and `webhookDeliveries`.
    """
    counts = {}
    # The outbox first: the relay copies its events into the other tables.
    for table, name in (
        (outbox, "outboxEvents"),
        (published_events, "keptEvents"),
        (webhook_deliveries, "webhookDeliveries"),
    ):
        query = sa.select(table.c.seq, table.c.event).where(table.c.case_id.in_(case_ids))
        found = await tx.fetch_all(query.order_by(table.c.seq).with_for_update())  # as `locked_in_order`
        if found:  # all in one round trip
            rewrite = table.update().where(table.c.seq == sa.bindparam("of")).values(event=sa.bindparam("rewritten"))
            await tx.execute(rewrite, [{"of": row.seq, "rewritten": rewrite_event(row.event)} for row in found])
        counts[name] = len(found)
    return counts


async def wait_until_relayed(reader: RowReader, max_wait: float, report: Callable[[str], None]) -> bool:
    """Wait until the relay has published the events that were rewritten, and report that it waits.

    Waits at most `max_wait` seconds. Return False if the relay may still have events as they were before. It publishes
    one batch at a time, the oldest events first: it has none once the oldest waiting event is published.
    """
    kept, is_repeated = published_events.c, published_events.c.publication == 0
    first, last, repeated = (
        sa.select(value).scalar_subquery()
        for value in (sa.func.min(outbox.c.seq), sa.func.max(outbox.c.seq), sa.func.min(kept.seq).filter(is_repeated))
    )
    (waiting,) = await reader.fetch_all(sa.select(first.label("first"), last.label("last"), repeated.label("repeated")))
    unpublished = sa.union_all(
        sa.select(outbox.c.seq).where(outbox.c.seq <= (waiting.last or 0)), sa.select(kept.seq).where(is_repeated)
    )
    was_read = sa.union_all(
        sa.select(outbox.c.seq).where(outbox.c.seq == (waiting.first or 0)),
        sa.select(kept.seq).where(is_repeated, kept.seq == (waiting.repeated or 0)),
    )
    # A relay that ends well releases its lease. A killed relay keeps it, and looks like a paused one.
    is_held = sa.select(leases.c.name).where(leases.c.name == "relay", leases.c.holder != "")

    async def is_waiting_for(events: sa.CompoundSelect[Any]) -> bool:
        found = await reader.fetch_now(events.limit(1))
        return found is not None and await reader.fetch_now(is_held) is not None

    if not await is_waiting_for(unpublished):
        return True
    report(f"waiting up to {max_wait:g} s for the relay to publish the events that it has read")
    with suppress(TimeoutError):
        async with asyncio.timeout(max_wait):
            while await is_waiting_for(unpublished):  # noqa: ASYNC110 - a relay in another process sends no notification
                await asyncio.sleep(POLL_INTERVAL)
    return not await is_waiting_for(was_read)


async def read_subjects_of_stream(broker: RedisBroker, stream: str) -> set[str]:
    """Return the ids of the cases that a stream has events of. Raises BrokerError."""
    subjects, after = set[str](), ""
    while page := await broker.entries(stream, STREAM_PAGE, after):
        after = page[-1].id
        subjects.update(str((_parse_members(each.event) or {}).get("subject")) for each in page)
    return subjects


async def delete_from_stream(broker: RedisBroker, stream: str, case_ids: Collection[str]) -> int:
    """Remove the events of cases from a stream. Return the number removed. Raises BrokerError."""
    removed, after = 0, ""
    while page := await broker.entries(stream, STREAM_PAGE, after):
        after = page[-1].id
        chosen = [each.id for each in page if (_parse_members(each.event) or {}).get("subject") in case_ids]
        removed += await broker.remove(stream, chosen)
    return removed


async def delete_applied_events(broker: RedisBroker, stream: str, ids: SoughtTexts) -> int:
    """Remove the inbound events that were applied and name one of the ids. Return the number. Raises BrokerError."""
    removed, after, unfinished = 0, "", await broker.first_unfinished(stream)
    while page := await broker.entries(stream, STREAM_PAGE, after):
        after = page[-1].id
        chosen = [each.id for each in page if parse_place(each.id) < unfinished and _names_any(ids, each.event)]
        removed += await broker.remove(stream, chosen)
    return removed


async def drop_dead_letters(letters: DeadLetterService, origin: WriteOrigin, ids: SoughtTexts) -> int:
    """Drop the dead letters that name one of the ids; return their number. Raises Unavailable."""
    dropped, after, more = 0, "", True
    while more:
        page, more = await letters.page(after, STREAM_PAGE)
        for letter in page:
            after = letter.id
            if _names_any(ids, letter.event):
                with suppress_codes("dead_letter_not_found"):  # replayed or dropped meanwhile
                    await letters.drop(origin, letter.id)
                    dropped += 1
    return dropped


def _parse_members(event: bytes) -> dict[str, Any] | None:
    """Return the members of an event, or None if it is not a JSON object."""
    try:
        document = pydantic_core.from_json(event)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _names_any(ids: SoughtTexts, event: bytes) -> bool:
    return any(map(ids.occur_in, _values_that_may_name_objects(event)))


def _values_that_may_name_objects(event: bytes) -> Iterator[str]:
    members = _parse_members(event)
    if members is None:
        yield event.decode(errors="replace")
    else:
        yield from _text_leaves([value for name, value in members.items() if name not in TECHNICAL_MEMBERS])


def _text_leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _text_leaves(each)
    elif value is not None:
        yield str(value)
