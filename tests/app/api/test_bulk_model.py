"""Random bulk changes, undos and single changes of a supervisor and an agent, against the model of cases.

The model predicts each outcome, and every field and version of every case. The long form takes BULK_STEPS steps.
"""

import os
import random

import pytest
import sqlalchemy as sa

from support_service.platform.database.tables import tickets
from tests.support.calls import expect_problem
from tests.support.histories.model import CaseState, Person, RefusedAnswer, change, change_many, opened, undo_change
from tests.support.service import service_of

STEPS = int(os.environ.get("BULK_STEPS", "50"))
BULK = "/support/cases/bulk"
AGENT, SUPERVISOR = Person("agent-1", "agent", ("returns",)), Person("boss", "supervisor")
NAMES = {"agent": "assignedAgentId", "add_tags": "addTags", "remove_tags": "removeTags"}  # of fields in requests
VALUES = {
    "agent": (None, "agent-1", "agent-2"),
    "team": (None, "returns", "billing"),
    "priority": ("low", "normal", "high"),
    "status": ("open", "pending", "resolved", "closed"),
}
TAGS = ("a", "b", "c")


def sent(change):
    return {NAMES.get(name, name): value for name, value in change.items()}


class Player:
    """Makes random requests, and compares each answer and all cases with the model."""

    def __init__(self, principals, seed):
        self._principals, self._random = principals, random.Random(seed)
        self._state, self._ids = opened(), []
        self._done = {}  # who has made a bulk change, and what its undo needs to know, by its id

    async def open_cases(self, number):
        for _ in range(number):
            fields = {name: self._random.choice(VALUES[name]) for name in ("agent", "team", "priority")}
            tags = self._tags()
            body = {"subject": "A", "channel": "email", "tags": tags, **sent(fields)}
            case = await self._principals.read_json("supervisor", "POST", "/support/cases", json=body)
            self._ids.append(case["id"])
            self._state = self._state.add(CaseState(tags=tuple(case["tags"]), **fields))

    async def play(self):
        person = self._random.choice((SUPERVISOR, AGENT))
        step = self._random.choices((self.bulk, self.undo, self.change_one), (3, 2, 3))[0]
        await step(person)
        names = ("assigned_agent_id", "team", "priority", "status", "tags", "version")
        statement = sa.select(tickets.c.id, *(tickets.c[name] for name in names))
        rows = await service_of(self._principals.client).database.fetch_all(statement)
        assert {row.id: [*row][1:] for row in rows} == {
            case_id: [case.agent, case.team, case.priority, case.status, [*case.tags], case.version]
            for case_id, case in zip(self._ids, self._state.cases, strict=True)
        }

    async def bulk(self, person):
        change = self._change()
        query = {name: self._random.choice(VALUES[name]) for name in ("status", "priority", "team")}
        query = {name: query[name] for name in self._random.sample(list(query), 1) if query[name] is not None}
        tag = self._random.choice(TAGS) if self._random.random() < 0.3 else None
        if self._random.random() < 0.5:
            places = self._random.sample(range(len(self._ids)), self._random.randint(1, 8))
            selection = {"ids": [self._ids[place] for place in places]}
        else:  # newest first
            places = [
                place
                for place, case in reversed([*enumerate(self._state.cases)])
                if person.sees(case)
                and all(getattr(case, name) == value for name, value in query.items())
                and (tag is None or tag in case.tags)
            ]
            selection = {"query": query if tag is None else query | {"tag": [tag]}}
        self._state, outcomes, undo = change_many(self._state, person, places, change)
        answer = await self._read(person, BULK, json=selection | {"change": sent(change)})
        self._compare(answer, outcomes)
        self._done[answer["id"]] = person, undo

    async def undo(self, person):
        if not self._done:
            return
        bulk_id = self._random.choice(list(self._done))
        path = f"{BULK}/{bulk_id}/undo"
        by, undo = self._done[bulk_id]
        if person is AGENT and by is not AGENT:
            response = await self._principals.request(person.role, "POST", path)
            await expect_problem(response, 404, "bulk_change_not_found")
            return
        del self._done[bulk_id]
        self._state, outcomes = undo_change(self._state, undo)
        answer = await self._read(person, path)
        self._compare(answer, outcomes)
        assert await self._read(SUPERVISOR, path) == answer  # of an undo of anyone

    async def change_one(self, person):
        place = self._random.randrange(len(self._ids))
        values = {name: value for name, value in self._change().items() if name in VALUES}
        self._state, expected = change(self._state, person, place, values)
        path = f"/support/cases/{self._ids[place]}"
        async with self._principals.request(person.role, "PATCH", path, json=sent(values)) as response:
            answer = await response.json(content_type=None)
        assert answer.get("code") == (expected.code if isinstance(expected, RefusedAnswer) else None)

    async def _read(self, person, path, **fields):
        return await self._principals.read_json(person.role, "POST", path, **fields)

    def _compare(self, answer, outcomes):
        found = [(self._ids.index(item["id"]), item["outcome"], item["code"]) for item in answer["items"]]
        assert found == outcomes

    def _change(self):
        names = self._random.sample(list(VALUES), self._random.randint(0, 3))
        change = {name: self._random.choice(VALUES[name]) for name in names}
        if self._random.random() < 0.5 or not change:
            added = self._tags()
            change |= {"add_tags": added, "remove_tags": [tag for tag in TAGS if tag not in added][:1]}
        return change

    def _tags(self):
        return self._random.sample(TAGS, self._random.randint(0, 3))


@pytest.mark.parametrize("seed", [1, 2])
async def test_bulk_changes_are_as_the_model_predicts(principals, seed):
    """Outcomes, fields, tags and versions, whichever request changes what in between."""
    player = Player(principals, seed)
    await player.open_cases(20)
    for _ in range(STEPS):
        await player.play()
