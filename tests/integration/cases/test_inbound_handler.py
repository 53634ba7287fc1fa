"""Inbound events that concern many cases, and the cost of finding the cases."""

import json

import pytest
import sqlalchemy as sa

from support_service.cases.inbound_handler import InboundEventHandler
from support_service.cases.sql import case_rows
from support_service.events import envelope
from support_service.platform.database.tables import inbound_events, messages
from tests.conftest import both_databases
from tests.support.cases import recorder, ticket
from tests.support.events.fixtures import shipment_event

READ = sa.text(
    "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables WHERE relname = 'ticket_references'"
)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_references_are_read_once_per_event(database, add_cases):
    """Each reference row is read at most once, even before PostgreSQL has statistics."""
    cases = 500
    for number in range(cases):
        await add_cases(ticket(number), references=[("order", f"o-{number}")])
    async with database.transaction() as tx:
        found = await case_rows.lock_cases_with_references(tx, [("order", "o-7"), ("shipment", "s-7")], 0, 100)
        (read,) = await tx.fetch_now(READ)
    assert [case.id for case in found] == ["case-7"]
    assert read <= cases


@both_databases
@pytest.mark.parametrize("number", [20, 25])
async def test_event_reaches_each_of_many_cases_once(database, add_cases, instruments, number):
    """The cases are updated a page at a time."""
    await add_cases(*(ticket(each) for each in range(number)), references=[("order", "order-456")])
    event = envelope.parse_event(json.dumps(shipment_event()).encode())
    handler = InboundEventHandler(database, recorder(database, instruments), batch_size=10)
    assert [await handler.apply(event) for _ in range(2)] == ["applied", "duplicate"]
    told = [row.ticket_id for row in await database.fetch_all(sa.select(messages.c.ticket_id))]
    assert sorted(told) == sorted(f"case-{each}" for each in range(number))
    assert (await database.fetch_now(sa.select(inbound_events))).done
