"""Reports of tests: writers that know what they did, and what a report must say of it."""

import math
import random
from collections import Counter, defaultdict
from contextlib import suppress

from support_service.cases.model.requests import CaseChange, NewCase, NewMessage, StatusChange
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, STATUSES
from support_service.core.errors import Conflict
from support_service.platform.database.tables import case_results, report_changes, tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from support_service.reports.measures import RELATIVE_ERROR, day_number, durations_in, percentile

CHANNELS = ("email", "chat")  # that are configured
MEASURES = ("opened", "answered", "solved", "reopened", "firstResponse", "nextResponse", "resolution")
STEPS = 40


class Writer:
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
        if before in ACTIVE_STATUSES and case.status not in ACTIVE_STATUSES:
            self.occurrence("solved", case, case.updated_at)
            self.solved_at[case.id] = case.updated_at
        if before not in ACTIVE_STATUSES and case.status in ACTIVE_STATUSES:
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
        for _ in range(STEPS):
            with suppress(Conflict):
                await self.step()


async def stored(database):
    names = ("measure", "case_id", "at", "since", "team", "agent", "channel")
    return [tuple(getattr(row, name) for name in names) for row in await database.fetch_all(report_changes.select())]


async def check_results(database, writers):
    """Fail unless each case has the results that its writer knows."""
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


def expected(occurrences, question):
    """Return the occurrences of each row of a report, counted one by one."""
    rows = defaultdict(list)
    for occurrence in occurrences:
        values = {
            "day": day_number(occurrence.at.date()),
            "team": occurrence.team,
            "agent": occurrence.agent,
            "channel": occurrence.channel if occurrence.channel in CHANNELS else "other",
        }
        if question.first <= values["day"] <= question.last and all(
            values[name] == value for name, value in question.filters.items()
        ):
            rows[tuple(values[name] for name in question.by)].append(occurrence)
    return rows


def exact_percentile(occurrences, measure, share):
    """Return the duration of the nearest rank, or None."""
    found = sorted(
        max(1, (occurrence.at - occurrence.since).total_seconds())
        for occurrence in occurrences
        if occurrence.measure == measure
    )
    return found[math.ceil(share * len(found)) - 1] if found else None


def is_near(found, exact):
    """Whether a duration is the exact one within the stated error; it is rounded to a tenth of a second."""
    if exact is None:
        return found is None
    return abs(found - exact) <= exact * RELATIVE_ERROR + 0.06


def check(rows, occurrences, question):
    """Fail unless a report says what the occurrences say."""
    wanted = expected(occurrences, question)
    assert rows.keys() == wanted.keys(), question
    for key, counts in rows.items():
        for measure in MEASURES:
            number = sum(occurrence.measure == measure for occurrence in wanted[key])
            if measure not in ("answered", "solved"):
                assert counts[measure] == number, (question, key, measure)
                continue
            durations = durations_in(counts, measure)
            assert sum(durations.values()) == number, (question, key, measure)
            for share in (0.5, 0.9):
                exact = exact_percentile(wanted[key], measure, share)
                assert is_near(percentile(durations, share), exact), (question, key, measure)


async def read_whole(reports, question, limit=100_000):
    """Return the rows of all pages of a report, each of which has whole days."""
    rows = {}
    while True:
        answer = await reports.read(question, limit)
        assert not rows.keys() & answer.rows.keys()
        rows |= answer.rows
        if answer.next_day is None:
            return rows
        assert answer.next_day > question.first
        assert len(answer.rows) <= limit or answer.next_day == question.first + 1
        question = question._replace(first=answer.next_day)
