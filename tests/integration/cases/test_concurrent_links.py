"""Links that replicas add and remove at once on PostgreSQL: none waits for another in a circle, and no cycle arises."""

import asyncio

import pytest
import sqlalchemy as sa

from support_service.cases.links import LinkService
from support_service.cases.model.requests import NewCase, NewLink
from support_service.cases.sql import link_rows
from support_service.platform.database.tables import case_links, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.calls import eventually
from tests.support.cases import code_of, recorder

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)

WAITING = sa.text(
    "SELECT count(*) AS number FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
def replicas(two_databases, instruments):
    return [LinkService(each, recorder(each, instruments)) for each in two_databases]


@pytest.fixture
def open_cases(service):
    async def add(number):
        return [await service.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email")) for _ in range(number)]

    return add


async def wait_for_locks(database, number):
    async def they_wait():
        return (await database.fetch_now(WAITING)).number == number

    await eventually(they_wait)


def adding(links, case, other, kind):
    return code_of(links.add(SYSTEM_ORIGIN, case.id, NewLink(kind=kind, caseId=other.id)))


@pytest.mark.parametrize("kind", ["parent-of", "duplicate-of", "related"])
async def test_opposite_links_do_not_deadlock(replicas, open_cases, kind):
    """Of two opposite links with a direction one is refused; `related` is added once."""
    pairs = [await open_cases(2) for _ in range(10)]
    found = await asyncio.gather(
        *(adding(replicas[0], one, other, kind) for one, other in pairs),
        *(adding(replicas[1], other, one, kind) for one, other in pairs),
    )
    expected = [None] * 2 if kind == "related" else [None, "link_cycle"]
    for results in zip(found[: len(pairs)], found[len(pairs) :], strict=True):
        assert sorted(results, key=str) == sorted(expected, key=str)


async def test_links_without_a_common_case_close_no_cycle(replicas, open_cases, database):
    """A is parent of B, and C of D. While B becomes parent of C, D does not become parent of A."""
    first, second, third, fourth = await open_cases(4)
    assert await adding(replicas[0], first, second, "parent-of") is None
    assert await adding(replicas[0], third, fourth, "parent-of") is None
    async with database.transaction() as tx:
        await link_rows.lock_directed_links(tx)  # both arrive before either goes on
        changes = [
            asyncio.create_task(adding(replicas[0], second, third, "parent-of")),
            asyncio.create_task(adding(replicas[1], fourth, first, "parent-of")),
        ]
        await wait_for_locks(database, 2)
    assert sorted(await asyncio.gather(*changes), key=str) == sorted([None, "link_cycle"], key=str)
    assert len(await database.fetch_all(sa.select(case_links))) == 3


async def test_case_becomes_a_duplicate_once(replicas, open_cases, database):
    case, one, other = await open_cases(3)
    found = await asyncio.gather(
        adding(replicas[0], case, one, "duplicate-of"), adding(replicas[1], case, other, "duplicate-of")
    )
    assert sorted(found, key=str) == sorted([None, "already_duplicate"], key=str)
    assert len(await database.fetch_all(sa.select(case_links))) == 1


async def test_link_is_removed_once(replicas, open_cases, database):
    """From both sides at once; the duplicate is reopened once."""
    case, other = await open_cases(2)
    link, _ = await replicas[0].add(SYSTEM_ORIGIN, case.id, NewLink(kind="duplicate-of", caseId=other.id))
    found = await asyncio.gather(
        code_of(replicas[0].remove(SYSTEM_ORIGIN, case.id, link.id)),
        code_of(replicas[1].remove(SYSTEM_ORIGIN, other.id, link.id)),
    )
    assert sorted(found, key=str) == sorted([None, "link_not_found"], key=str)
    rows = await database.fetch_all(sa.select(tickets.c.status, tickets.c.version).order_by(tickets.c.seq))
    assert [tuple(row) for row in rows] == [("open", 5), ("open", 3)]


async def test_cases_are_locked_in_the_order_of_inbound_events(replicas, open_cases, database):
    """By seq: a transaction that holds the first case and then takes the second one is not waited for in a circle."""
    first, second = await open_cases(2)
    async with database.transaction() as tx:
        await link_rows.lock_cases(tx, [first.id])
        change = asyncio.create_task(adding(replicas[0], second, first, "related"))
        await wait_for_locks(database, 1)
        assert second.id in await link_rows.lock_cases(tx, [second.id])
    assert await change is None
