"""The numbers of cases that triggers keep equal the cases, on both databases."""

import asyncio
import random
from contextlib import suppress

import pytest
import sqlalchemy as sa

from support_service.cases import gauges
from support_service.cases.gauges import CaseGauges
from support_service.cases.model.requests import CaseChange, NewCase, StatusChange
from support_service.cases.sql.projections import IS_ACTIVE, IS_SYNTHETIC
from support_service.core.domain.case_vocabulary import PRIORITIES, STATUSES
from support_service.core.errors import Conflict
from support_service.platform.database.tables import tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import message_from

WRITERS, STEPS = 4, 25
AGENTS = (None, "agent-1", "agent-2")


async def counted(database):
    key = (tickets.c.status, tickets.c.priority)
    statement = sa.select(*key, sa.func.count().label("number")).where(sa.not_(IS_SYNTHETIC)).group_by(*key)
    return {(row.status, row.priority): row.number for row in await database.fetch_all(statement)}


async def kept(database):
    return {key: number for key, number in (await gauges.CASE_COUNTS.read(database)).numbers.items() if number}


async def numbers_of_agents(database):
    """Return the active cases by (agent, status): as the triggers keep them, and counted one by one."""
    key = (tickets.c.assigned_agent_id, tickets.c.status)
    statement = sa.select(*key, sa.func.count().label("number")).where(sa.not_(IS_SYNTHETIC), IS_ACTIVE).group_by(*key)
    rows = await database.fetch_all(statement.where(key[0].is_not(None)))
    numbers = (await gauges.AGENT_COUNTS.read(database)).numbers
    return (
        {key: number for key, number in numbers.items() if number},
        {(row.assigned_agent_id, row.status): row.number for row in rows},
    )


def new_case(draw):
    """Return a case to open; every third one is synthetic."""
    channel, priority = draw.choice(("email", "chat", "synthetic")), draw.choice(PRIORITIES)
    return NewCase(subject="A", channel=channel, priority=priority, assignedAgentId=draw.choice(AGENTS))


async def change_at_random(service, seed):
    """Open cases; change their status and priority; reopen them by messages; delete them, as far as it is allowed."""
    draw, cases = random.Random(seed), []

    for _ in range(STEPS):
        step = draw.choice(("open", "open", "status", "status", "priority", "assign", "message", "delete"))
        if step == "open" or not cases:
            cases.append((await service.open_case(SYSTEM_ORIGIN, new_case(draw))).id)
            continue
        case = draw.choice(cases)
        try:
            if step == "status":
                await service.set_status(SYSTEM_ORIGIN, case, StatusChange(status=draw.choice(STATUSES)))
            elif step == "priority":
                await service.change_case(SYSTEM_ORIGIN, case, CaseChange(priority=draw.choice(PRIORITIES)))
            elif step == "assign":
                await service.change_case(SYSTEM_ORIGIN, case, CaseChange(assigned_agent_id=draw.choice(AGENTS)))
            elif step == "message":
                await service.add_message(SYSTEM_ORIGIN, case, message_from("customer"))
            else:
                await service.remove_synthetic(SYSTEM_ORIGIN, case)
                cases.remove(case)
        except Conflict:
            pass  # a change of status or a deletion that is not allowed


async def roll_back(database, statement):
    with suppress(LookupError):
        async with database.transaction() as tx:
            await tx.execute(statement)
            raise LookupError


@both_databases
async def test_numbers_follow_concurrent_changes(service, database):
    """A change that is rolled back changes no number."""
    await asyncio.gather(*(change_at_random(service, f"{writer}") for writer in range(WRITERS)))
    assert await kept(database) == await counted(database)
    assert sum((await kept(database)).values()) > 0
    of_agents, counted_of_agents = await numbers_of_agents(database)
    assert of_agents == counted_of_agents != {}
    await roll_back(database, tickets.update().values(status="resolved"))
    assert await kept(database) == await counted(database)
    async with database.transaction() as tx:
        await tx.execute(tickets.update().values(status="closed"))
    assert {status for status, _ in await kept(database)} == {"closed"}
    assert await kept(database) == await counted(database)
    async with database.transaction() as tx:  # no request deletes a real case
        await tx.execute(tickets.delete())
    assert await kept(database) == {}
    assert await numbers_of_agents(database) == ({}, {})


@pytest.mark.parametrize("backend", ["postgresql"])
async def test_concurrent_folding_loses_nothing(service, database, instruments, constants):
    """Several replicas fold while cases change. Afterwards a number has one row for each replica at most."""
    changing = asyncio.gather(*(change_at_random(service, f"fold {writer}") for writer in range(WRITERS)))
    while not changing.done():
        tables = 3 * (gauges.CASE_COUNTS, gauges.AGENT_COUNTS)
        await asyncio.gather(*(table.merge_rows(database) for table in tables))
        assert all(number >= 0 for number in (await kept(database)).values())
    await changing
    constants("cases.gauges", MERGE_FROM_ROWS=0)
    await CaseGauges(database, instruments).refresh()
    found = await gauges.CASE_COUNTS.read(database)
    assert await kept(database) == found.numbers == await counted(database)
    assert found.stored_rows == len(found.numbers)
    of_agents, counted_of_agents = await numbers_of_agents(database)
    assert of_agents == counted_of_agents
    assert (await gauges.AGENT_COUNTS.read(database)).stored_rows == len(of_agents)


@both_databases
async def test_gauges_leave_few_rows_as_they_are(service, database, instruments):
    """On SQLite a number has one row from the start."""
    for _ in range(3):
        await service.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email"))
    before = await gauges.CASE_COUNTS.read(database)
    await CaseGauges(database, instruments).refresh()
    assert await gauges.CASE_COUNTS.read(database) == before
    assert (await database.fetch_now(sa.select(tickets.c.status))).status == "open"
