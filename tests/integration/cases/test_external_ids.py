"""Cases and messages with an external id: two replicas add them once, on both databases."""

import asyncio

import pytest
import sqlalchemy as sa

from support_service.cases.model.requests import NewCase, NewMessage
from support_service.cases.service import CaseService, ExistingCase
from support_service.cases.sql.case_reading import to_case
from support_service.core.domain.principals import SYSTEM, Principal
from support_service.core.errors import Conflict
from support_service.platform.database.tables import (
    audit_log,
    messages,
    outbox,
    search_documents,
    ticket_references,
    tickets,
)
from support_service.platform.idempotency_keys import IdempotencyService
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, WriteOrigin
from tests.conftest import both_databases
from tests.support.cases import recorder

pytestmark = both_databases
NEW = NewCase.model_validate(
    {
        "subject": "A",
        "channel": "email",
        "externalId": "case",
        "context": {"type": "order", "id": 7},
        "initialMessage": {"authorType": "customer", "message": "Hello", "externalId": "first"},
    }
)
MESSAGE = NewMessage.model_validate({"authorType": "customer", "message": "Hello", "externalId": "second"})
TABLES = (tickets, messages, outbox, audit_log, search_documents, ticket_references)


@pytest.fixture
def replicas(two_databases, instruments):
    return [CaseService(each, recorder(each, instruments)) for each in two_databases]


async def rows(database):
    counts = [sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in TABLES]
    (found,) = await database.fetch_all(sa.select(*(count.label(f"n{n}") for n, count in enumerate(counts))))
    return tuple(found)


async def test_twenty_requests_open_one_case(replicas, database):
    """It has one event, one audit entry, one message and its references; all but one request find it."""
    opened = await asyncio.gather(*(replicas[n % 2].open_case(SYSTEM_ORIGIN, NEW) for n in range(20)))
    assert sorted(isinstance(case, ExistingCase) for case in opened) == [False] + [True] * 19
    assert len({case.id for case in opened}) == 1
    found = [to_case(case.stored) if isinstance(case, ExistingCase) else case for case in opened]
    assert len({case.messages[0].id for case in found}) == 1
    assert await rows(database) == (1, 1, 1, 1, 2, 1)


async def test_twenty_requests_add_one_message(replicas, database):
    """The version of the case grows by one."""
    case = await replicas[0].open_case(SYSTEM_ORIGIN, NEW)
    added = await asyncio.gather(*(replicas[n % 2].add_message(SYSTEM_ORIGIN, case.id, MESSAGE) for n in range(20)))
    assert [message.model_dump() for message in added] == [added[0].model_dump()] * 20
    assert await rows(database) == (1, 2, 2, 2, 3, 1)
    assert (await replicas[1].read_case(SYSTEM, case.id)).version == 2


async def test_database_refuses_a_second_one(replicas, database):
    """Whatever writes to it: the indexes are unique, and rows without an external id are not in them."""
    await replicas[0].open_case(SYSTEM_ORIGIN, NEW)
    for table in (tickets, messages):
        (stored,) = await database.fetch_all(sa.select(table))
        row = stored._asdict() | {"id": "another"}
        del row["seq"]
        with pytest.raises(Exception, match=r"(?i)unique"):
            async with database.transaction() as tx:
                await tx.execute(table.insert().inline(), row)
        async with database.transaction() as tx:
            for name in ("b", "c"):
                await tx.execute(table.insert().inline(), row | {"id": name, "external_id": None})


async def test_request_waits_for_one_that_fails(replicas, database):
    """While another transaction inserts the case, its existence is unknown; after a rollback it is opened."""
    await replicas[0].open_case(SYSTEM_ORIGIN, NEW.model_copy(update={"external_id": "another"}))
    (stored,) = await database.fetch_all(sa.select(tickets))
    row = stored._asdict() | {"id": "x", "external_id": "case"}
    del row["seq"]
    inserted, may_fail = asyncio.Event(), asyncio.Event()

    async def fail():
        async with database.transaction() as tx:
            await tx.execute(tickets.insert().inline(), row)
            inserted.set()
            await may_fail.wait()
            raise LookupError

    failing = asyncio.create_task(fail())
    await inserted.wait()
    opening = asyncio.create_task(replicas[1].open_case(SYSTEM_ORIGIN, NEW))
    await asyncio.sleep(0)
    assert not opening.done()
    may_fail.set()
    with pytest.raises(LookupError):
        await failing
    assert not isinstance(await opening, ExistingCase)


async def test_refusal_leaves_the_idempotency_key_unused(replicas, database):
    """Who may not see the case gets nothing of it; the claim is marked only for who gets it."""
    case = await replicas[0].open_case(SYSTEM_ORIGIN, NEW)
    claims = IdempotencyService(database)
    stranger = WriteOrigin(Principal("web", "customer", "c"), claim=await claims.claim_or_read_response("a", "request"))
    new = NEW.model_copy(update={"context": []})
    with pytest.raises(Conflict) as refusal:
        await replicas[0].open_case(stranger, new)
    assert (refusal.value.code, case.id in str(refusal.value)) == ("external_id_taken", False)
    origin = WriteOrigin(SYSTEM, claim=await claims.claim_or_read_response("b", "request"))
    assert isinstance(await replicas[0].open_case(origin, NEW), ExistingCase)
    states = await database.fetch_all(sa.text("SELECT id, state, case_id FROM idempotency_keys ORDER BY id"))
    assert [tuple(row) for row in states] == [("a", "claimed", None), ("b", "applied", case.id)]
