"""The search finds what a replica of a release without search documents has added, on both databases."""

import asyncio

import pytest
import sqlalchemy as sa

from support_service.cases.erasure import erase_case
from support_service.cases.opening import CaseTimings
from support_service.cases.search_repair import SearchRepair, SearchRepairTimings
from support_service.core.clock import utc_now
from support_service.core.ids import new_id
from support_service.platform.database.tables import ERASED_TEXT, messages, search_documents, tickets
from tests.conftest import both_databases
from tests.support.calls import add_message, eventually, list_cases, list_subjects, open_case
from tests.support.service import service_of
from tests.support.timings import patient_timings

pytestmark = both_databases
SELDOM = 3600.0


@pytest.fixture
def timings():
    """The background job does not run unless a test wants it to."""
    return patient_timings(cases=CaseTimings(search_repair=SearchRepairTimings(interval=SELDOM)))


async def add_old_message(client, case, text, *, visibility="public"):
    """Add a message as a release without search documents does."""
    row = {"id": new_id(), "ticket_id": case["id"], "author_type": "agent", "message": text, "visibility": visibility}
    async with service_of(client).database.transaction() as tx:
        await tx.execute(tickets.update().where(tickets.c.id == case["id"]).values(version=tickets.c.version + 1))
        await tx.execute(messages.insert(), row | {"created_at": utc_now()})


async def number_of_documents(client):
    (row,) = await service_of(client).database.fetch_all(sa.select(sa.func.count()).select_from(search_documents))
    return row[0]


async def forget(client, *conditions):
    async with service_of(client).database.transaction() as tx:
        await tx.execute(search_documents.delete().where(*conditions))


async def snippet(client, q):
    (item,) = (await list_cases(client, q=q))["items"]
    return item["match"]["snippet"]


@pytest.mark.parametrize("timings", [patient_timings(cases=CaseTimings(search_repair=SearchRepairTimings(0.05, 2)))])
async def test_a_message_of_an_older_replica_is_found_soon(client):
    """A job makes the missing documents in small batches, also for a case with many messages."""
    cases = [await open_case(client, subject=f"Case {number}") for number in range(5)]
    for case in cases:
        for number in range(3):
            await add_old_message(client, case, f"the blue vase {number}")

    async def found():
        return len(await list_subjects(client, q="vase")) == len(cases)

    async def complete():
        return await number_of_documents(client) == 4 * len(cases)

    await eventually(found)
    await eventually(complete)


async def test_the_match_of_a_repaired_case_is_its_message(client):
    """Documents keep the order of the messages, also with documents that are added later.

    Customers do not find cases by the notes of an older replica.
    """
    case = await open_case(client)
    await add_message(client, case, "the red chair")
    await add_old_message(client, case, "the blue vase")
    await add_message(client, case, "the green lamp")
    await add_old_message(client, case, "the white plate", visibility="internal")
    await SearchRepair(service_of(client).database).run()
    documents = sa.select(search_documents.c.internal).order_by(search_documents.c.id)
    rows = await service_of(client).database.fetch_all(documents)
    assert [bool(row.internal) for row in rows] == [False] * 4 + [True]
    await add_message(client, case, "the black pen")
    for text in ("the red chair", "the blue vase", "the green lamp", "the white plate", "the black pen"):
        assert await snippet(client, text.rpartition(" ")[2]) == text


async def test_nothing_erased_or_deleted_gets_a_document(client):
    """Neither by the job nor by the command: erased messages have no words, and deleted cases are not there."""
    erased, deleted = await open_case(client), await open_case(client)
    await add_message(client, erased, "the red chair")
    for case in (erased, deleted):
        await add_old_message(client, case, "the blue vase")
    async with service_of(client).database.transaction() as tx:
        await erase_case(tx, erased["id"], [])
        await tx.execute(tickets.delete().where(tickets.c.id == deleted["id"]))
    await SearchRepair(service_of(client).database).run()
    await SearchRepair(service_of(client).database).check(repair=True)
    assert await number_of_documents(client) == 1
    assert await list_subjects(client, q="vase") == await list_subjects(client, q="chair") == []
    assert await list_subjects(client, q=ERASED_TEXT) == []


async def test_replicas_that_repair_at_once_make_each_document_once(client):
    """One of them skips the case that another one has locked."""
    cases = [await open_case(client) for _ in range(6)]
    for case in cases:
        await add_old_message(client, case, "the blue vase")
    await asyncio.gather(
        *(SearchRepair(service_of(client).database, SearchRepairTimings(SELDOM, 1)).run() for _ in range(4))
    )
    await SearchRepair(service_of(client).database).run()
    assert await number_of_documents(client) == 2 * len(cases)


async def test_a_check_counts_what_is_missing_and_repairs_it(client):
    """Also what no mark tells: documents that are lost, of messages and of a case itself."""
    lost, marked, deleted, whole = [await open_case(client, subject=f"Case {number}") for number in range(4)]
    for case in (lost, whole):
        await add_message(client, case, "the red chair")
    seq = sa.select(tickets.c.seq).where(tickets.c.id == lost["id"]).scalar_subquery()
    await forget(client, search_documents.c.id >= seq * (1 << 20), search_documents.c.id < (seq + 1) * (1 << 20))
    await add_old_message(client, marked, "the blue vase")
    async with service_of(client).database.transaction() as tx:  # leaves a gap in the numbers of cases
        await tx.execute(tickets.delete().where(tickets.c.id == deleted["id"]))
    repair, progress = SearchRepair(service_of(client).database), []
    for wanted, repaired in ((False, 0), (True, 2)):
        found = await repair.check(repair=wanted, progress=progress.append)
        assert (found.cases, found.incomplete_cases, found.repaired_cases) == (3, 2, repaired)
        assert (found.cases_without_document, found.messages_without_document) == (1, 2)
    assert sum(progress) == 2 * 4
    assert sorted(await list_subjects(client, q="chair")) == ["Case 0", "Case 3"]
    assert await list_subjects(client, q='"case 0"') == ["Case 0"]
    assert (await repair.check(repair=False)).incomplete_cases == 0
    assert (
        await service_of(client).database.fetch_all(sa.select(messages.c.id).where(sa.text("NOT has_document"))) == []
    )
