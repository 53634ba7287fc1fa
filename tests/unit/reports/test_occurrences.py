"""Triggers store what happens to cases, once, in the transaction of the change, on both databases."""

import asyncio
import random
from collections import Counter
from contextlib import suppress

import pytest
import sqlalchemy as sa

from support_service.cases.model.requests import CaseChange, NewCase, NewMessage, StatusChange
from support_service.cases.service import CaseService
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import STATUSES
from support_service.core.errors import Conflict
from support_service.platform.database.tables import case_clocks, case_results, report_changes, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import recorder

WRITERS, STEPS = 4, 40
ACTIVE = ("open", "pending")


@pytest.fixture
def service(database, instruments):
    """The case service."""
    return CaseService(database, recorder(database, instruments))


class Model:
    """What should be stored, from the answers that one writer got."""

    def __init__(self, service, seed):
        self.service = service
        self.draw = random.Random(seed)
        self.cases = {}  # as they were answered last
        self.answered, self.solved_at, self.reopened = set(), {}, Counter()
        self.occurrences = []

    def occurrence(self, measure, case, at, since=None):
        """Occurrence what happened to a case that is not synthetic."""
        if case.channel != "synthetic":
            self.occurrences.append(
                (measure, case.id, at, since or case.created_at, case.team, case.assigned_agent_id, case.channel)
            )

    def see(self, case):
        """Occurrence what a changed case tells of its status."""
        before = self.cases.get(case.id, case).status
        self.cases[case.id] = case
        if before in ACTIVE and case.status not in ACTIVE:
            self.occurrence("solved", case, case.updated_at)
            self.solved_at[case.id] = case.updated_at
        if before not in ACTIVE and case.status in ACTIVE:
            self.occurrence("reopened", case, case.updated_at)
            self.solved_at[case.id] = None
            self.reopened[case.id] += 1

    async def open(self):
        """Open a case; an agent's message in it is no answer."""
        author = self.draw.choice(("agent", "customer", None))
        new = NewCase.model_validate(
            {
                "subject": "A",
                "channel": self.draw.choice(("email", "chat", "fax", "synthetic")),
                "team": self.draw.choice((None, "returns")),
                "initialMessage": author and {"authorType": author, "message": "Hello"},
            }
        )
        case = await self.service.open_case(SYSTEM_ORIGIN, new)
        self.occurrence("opened", case, case.created_at)
        if author == "agent":
            self.answered.add(case.id)
        self.see(case)

    async def step(self):
        """Make one change, as far as it is allowed."""
        step = self.draw.choice(("open", "status", "status", "assign", "message", "message", "rolled back"))
        if step == "open" or not self.cases:
            return await self.open()
        case = self.draw.choice([*self.cases.values()])
        agent = self.draw.choice((None, "ann", "bob"))
        if step == "status":
            status = StatusChange(status=self.draw.choice(STATUSES), assigned_agent_id=agent)
            self.see(await self.service.set_status(SYSTEM_ORIGIN, case.id, status))
        elif step == "assign":
            change = CaseChange.model_validate({"assignedAgentId": agent, "team": self.draw.choice((None, "billing"))})
            self.see(await self.service.change_case(SYSTEM_ORIGIN, case.id, change))
        elif step == "message":
            await self.add_message(case)
        else:
            await self.roll_back(case)
        return None

    async def add_message(self, case):
        """Add a message, which may be the first answer, or reopen the case."""
        author = self.draw.choice(("agent", "customer"))
        visibility = "public" if author == "customer" else self.draw.choice(("public", "internal"))
        new = NewMessage.model_validate({"authorType": author, "message": "Hello", "visibility": visibility})
        message = await self.service.add_message(SYSTEM_ORIGIN, case.id, new)
        if author == "agent" and visibility == "public" and case.id not in self.answered:
            self.answered.add(case.id)
            self.occurrence("answered", case, message.created_at)
        if author == "customer" and case.status == "resolved":
            self.see(await self.service.set_status(SYSTEM_ORIGIN, case.id, StatusChange(status="open")))

    async def roll_back(self, case):
        """Make a change that is not committed."""
        with suppress(LookupError):
            async with self.service._database.transaction() as tx:  # noqa: SLF001 - the writer's own database
                await tx.execute(tickets.update().where(tickets.c.id == case.id).values(status="resolved"))
                await tx.execute(tickets.update().where(tickets.c.id == case.id).values(status="open"))
                raise LookupError

    async def run(self):
        """Make changes."""
        for _ in range(STEPS):
            with suppress(Conflict):
                await self.step()


async def stored(database):
    """Return the stored occurrences."""
    names = ("measure", "case_id", "at", "since", "team", "agent", "channel")
    return [tuple(getattr(row, name) for name in names) for row in await database.fetch_all(report_changes.select())]


@both_databases
@pytest.mark.parametrize("seed", range(2))
async def test_occurrences_are_what_the_answers_tell(service, database, seed):
    """Several write at once; a change that is rolled back is not stored, and no synthetic case is."""
    writers = [Model(service, f"{seed} {number}") for number in range(WRITERS)]
    await asyncio.gather(*(writer.run() for writer in writers))
    assert Counter(await stored(database)) == Counter(
        occurrence for writer in writers for occurrence in writer.occurrences
    )
    assert {"opened", "answered", "solved", "reopened"} == {occurrence[0] for occurrence in await stored(database)}
    results = {row.case_id: row for row in await database.fetch_all(case_results.select())}
    for writer in writers:
        for case in writer.cases.values():
            found = results.pop(case.id, None)
            if case.channel == "synthetic":
                assert found is None
                continue
            assert (found and found.solved_at) == writer.solved_at.get(case.id)
            assert (found.reopened if found else 0) == writer.reopened[case.id]
    assert not results


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
