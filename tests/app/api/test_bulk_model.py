"""Random bulk changes, undos and single changes of a supervisor and an agent, against a model in memory.

The model predicts each outcome, and every field and version of every case. The long form takes BULK_STEPS steps.
"""

import os
import random

import pytest
import sqlalchemy as sa

from support_service.platform.database.tables import tickets
from tests.support.calls import expect_problem
from tests.support.service import service_of

STEPS = int(os.environ.get("BULK_STEPS", "50"))
BULK = "/support/cases/bulk"
FIELDS = ("assignedAgentId", "team", "priority", "status", "tags")
VALUES = {
    "assignedAgentId": (None, "agent-1", "agent-2"),
    "team": (None, "returns", "billing"),
    "priority": ("low", "normal", "high"),
    "status": ("open", "pending", "resolved", "closed"),
}
TAGS = ("a", "b", "c")


class Refused(Exception):
    """The model refuses a change, with a problem code."""


def check_change(caller, case, values):
    """Check a change as a role may make it, and as the status allows."""
    if caller == "agent" and not is_visible(case):
        raise Refused("case_not_found")
    before, after = case["assignedAgentId"], values.get("assignedAgentId", case["assignedAgentId"])
    if caller == "agent" and before != after and not {before, after} <= {None, "agent-1"}:
        raise Refused("permission_missing")
    if case["status"] == "closed" and values.get("status", "closed") not in ("closed", "open"):
        raise Refused("status_move_not_allowed")


def is_visible(case):
    """Return whether agent-1 of the team `returns` sees a case."""
    own = case["assignedAgentId"] == "agent-1" or case["team"] == "returns"
    return own or (case["assignedAgentId"] is None and case["team"] is None)


class Model:
    """The cases as they must be, and what each bulk change has changed: (caller, {case: (former, version)})."""

    def __init__(self):
        self.cases = {}
        self.done = {}

    def set_values(self, case_id, values):
        """Give a case values; return the former ones of the changed fields, or None if nothing changes."""
        case = self.cases[case_id]
        former = {name: case[name] for name, value in values.items() if case[name] != value}
        if not former:
            return None
        case.update(values)
        case["version"] += 1
        return former

    def change(self, caller, case_id, change):
        """Make a bulk change of one case; return the former values, or None without a change."""
        case = self.cases[case_id]
        values = {name: value for name, value in change.items() if name in FIELDS}
        tags = [tag for tag in case["tags"] if tag not in change.get("removeTags", ())]
        values["tags"] = tags + [tag for tag in change.get("addTags", ()) if tag not in tags]
        check_change(caller, case, values)
        return self.set_values(case_id, values)

    def selected(self, caller, query):
        """Return the ids of the cases that a list shows, newest first."""
        return [
            case_id
            for case_id, case in reversed(self.cases.items())
            if (caller == "supervisor" or is_visible(case))
            and all(
                set(value) <= set(case["tags"]) if name == "tag" else case[name] == value
                for name, value in query.items()
            )
        ]


class Player:
    """Makes random requests, and compares each answer and all cases with the model."""

    def __init__(self, principals, seed):
        self._principals, self._random, self._model = principals, random.Random(seed), Model()

    async def open_cases(self, number):
        for _ in range(number):
            fields = {name: self._random.choice(VALUES[name]) for name in ("assignedAgentId", "team", "priority")}
            body = {"subject": "A", "channel": "email", "tags": self._tags(), **fields}
            case = await self._principals.read_json("supervisor", "POST", "/support/cases", json=body)
            self._model.cases[case["id"]] = {name: case[name] for name in FIELDS} | {"version": 1}

    async def play(self):
        caller = self._random.choice(("supervisor", "agent"))
        step = self._random.choices((self.bulk, self.undo, self.change_one), (3, 2, 3))[0]
        await step(caller)
        names = ("assigned_agent_id", "team", "priority", "status", "tags", "version")
        statement = sa.select(tickets.c.id, *(tickets.c[name] for name in names))
        rows = await service_of(self._principals.client).database.fetch_all(statement)
        stored = {
            row.id: dict(zip((*FIELDS, "version"), (getattr(row, name) for name in names), strict=True)) for row in rows
        }
        assert stored == self._model.cases

    async def bulk(self, caller):
        change = self._change()
        query = {name: self._random.choice(VALUES[name]) for name in ("status", "priority", "team")}
        query = {name: query[name] for name in self._random.sample(list(query), 1) if query[name] is not None}
        query |= {"tag": [self._random.choice(TAGS)]} if self._random.random() < 0.3 else {}
        if self._random.random() < 0.5:
            ids = self._random.sample(list(self._model.cases), self._random.randint(1, 8))
            sent = {"ids": ids, "change": change}
        else:
            ids, sent = self._model.selected(caller, query), {"query": query, "change": change}
        answer = await self._principals.read_json(caller, "POST", BULK, json=sent)
        expected, changed = [], {}
        for case_id in ids:
            try:
                former = self._model.change(caller, case_id, change)
            except Refused as refusal:
                expected.append((case_id, "refused", str(refusal)))
                continue
            expected.append((case_id, "changed" if former else "unchanged", None))
            if former:
                changed[case_id] = (former, self._model.cases[case_id]["version"])
        assert [(item["id"], item["outcome"], item["code"]) for item in answer["items"]] == expected
        self._model.done[answer["id"]] = (caller, changed)

    async def undo(self, caller):
        if not self._model.done:
            return
        bulk_id = self._random.choice(list(self._model.done))
        by, changed = self._model.done[bulk_id]
        if caller == "agent" and by != "agent":
            response = await self._principals.request(caller, "POST", f"{BULK}/{bulk_id}/undo")
            await expect_problem(response, 404, "bulk_change_not_found")
            return
        del self._model.done[bulk_id]
        answer = await self._principals.read_json(caller, "POST", f"{BULK}/{bulk_id}/undo")
        expected = []
        for case_id, (former, version) in changed.items():
            if self._model.cases[case_id]["version"] != version:
                expected.append((case_id, "refused", "case_changed_since"))
                continue
            self._model.set_values(case_id, former)
            expected.append((case_id, "undone", None))
        assert [(item["id"], item["outcome"], item["code"]) for item in answer["items"]] == expected
        other = "supervisor"  # an undo of anyone
        assert await self._principals.read_json(other, "POST", f"{BULK}/{bulk_id}/undo") == answer

    async def change_one(self, caller):
        case_id = self._random.choice(list(self._model.cases))
        change = {name: value for name, value in self._change().items() if name in FIELDS}
        try:
            check_change(caller, self._model.cases[case_id], change)
            code = None
        except Refused as refusal:
            code = str(refusal)
        async with self._principals.request(caller, "PATCH", f"/support/cases/{case_id}", json=change) as response:
            answer = await response.json(content_type=None)
        assert answer.get("code") == code
        if code is None:
            self._model.set_values(case_id, change)

    def _change(self):
        names = self._random.sample(list(VALUES), self._random.randint(0, 3))
        change = {name: self._random.choice(VALUES[name]) for name in names}
        if self._random.random() < 0.5 or not change:
            added = self._tags()
            change |= {"addTags": added, "removeTags": [tag for tag in TAGS if tag not in added][:1]}
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
