"""Triggers store what happens to cases, once, in the transaction of the change, on both databases."""

import asyncio
from collections import Counter

import pytest
import sqlalchemy as sa

from support_service.cases.model.requests import NewCase, StatusChange
from support_service.core.clock import utc_now
from support_service.platform.database.tables import case_clocks, case_results, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.reports import Writer, check_results, stored

WRITERS = 4


@both_databases
@pytest.mark.parametrize("seed", range(2))
async def test_occurrences_are_what_the_answers_tell(service, database, seed):
    """Several write at once; a change that is rolled back is not stored, and no synthetic case is."""
    writers = [Writer(service, f"{seed} {number}") for number in range(WRITERS)]
    await asyncio.gather(*(writer.run() for writer in writers))
    assert Counter(await stored(database)) == Counter(
        occurrence for writer in writers for occurrence in writer.occurrences
    )
    assert {"opened", "answered", "solved", "reopened"} == {occurrence[0] for occurrence in await stored(database)}
    await check_results(database, writers)


@both_databases
async def test_a_breach_is_stored_with_its_due_time(service, database):
    """Whether a job reports it, or an answer that comes too late."""
    case = await service.open_case(
        SYSTEM_ORIGIN, NewCase.model_validate({"subject": "A", "channel": "email", "assignedAgentId": "ann"})
    )
    due = utc_now()
    row = {"case_id": case.id, "policy": 1, "public": False, "allowance": 1, "used": 0}
    async with database.transaction() as tx:
        for target in ("firstResponse", "resolution"):
            await tx.execute(
                case_clocks.insert(), {**row, "target": target, "state": "running", "due_at": due, "running_since": due}
            )
        breach = case_clocks.update().values(state="breached")
        await tx.execute(breach.where(case_clocks.c.target == "resolution"))
        await tx.execute(breach.where(case_clocks.c.target == "resolution"))  # it is breached already
    assert [occurrence for occurrence in await stored(database) if occurrence[0] != "opened"] == [
        ("resolution", case.id, due, due, None, "ann", "email")
    ]
    (result,) = await database.fetch_all(case_results.select())
    assert (result.solved_at, result.reopened, result.breaches) == (None, 0, 1)


@both_databases
async def test_a_deleted_case_stays_counted(service, database):
    """Its results go with it."""
    case = await service.open_case(SYSTEM_ORIGIN, NewCase(subject="A", channel="email"))
    await service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status="closed"))
    async with database.transaction() as tx:
        await tx.execute(sa.delete(tickets))
    assert [occurrence[0] for occurrence in await stored(database)] == ["opened", "solved"]
    assert not await database.fetch_all(case_results.select())
