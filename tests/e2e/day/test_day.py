"""A day of a team of eight and its customers: every list equals the prediction of a model in memory.

Two replicas are killed in turn while they write; the request is repeated at the other one with its idempotency key.
"""

import asyncio
import itertools
import os
import random
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from support_service.client import ClientTimings, Conflict, NoAnswer, SupportClient, SupportError, Unavailable
from tests.support.access.fixtures import write_token
from tests.support.calls import eventually
from tests.support.day_model import Model, Person, Refused, sort_key
from tests.support.promql import ROOT
from tests.support.replicas import Replicas

pytestmark = pytest.mark.usefixtures("processes")

STEPS = int(os.environ.get("DAY_STEPS", "24"))
KILLS = int(os.environ.get("DAY_KILLS", "1"))
CHECK_EVERY = int(os.environ.get("DAY_CHECK_EVERY", "12"))  # steps between two comparisons of everything
SEED = int(os.environ.get("DAY_SEED", "33"))
LONG = 120.0  # seconds, on a busy machine
ONE_ATTEMPT = ClientTimings(attempt=30.0, deadline=30.0, attempts=1)

TEAMS = ("returns", "deliveries")
AGENTS = [Person(f"agent-{number}", "agent", (TEAMS[number % 2],)) for number in range(6)]
BOSS, ANALYST = Person("boss", "supervisor"), Person("ana", "analyst")
CUSTOMERS = [Person(f"customer-{number}", "customer") for number in range(4)]
PEOPLE = [*AGENTS, BOSS, ANALYST, *CUSTOMERS]
SETTINGS = {
    "SUPPORT_AUTH": "token",
    "SUPPORT_RATE_LIMIT": "off",
    "SUPPORT_RATE_LIMIT_ADDRESS": "off",
    "SUPPORT_LOG_LEVEL": "error",
    "PYTHONPATH": str(ROOT),
}
FIELDS = {"agent": "assigned_agent_id"}  # names of the model that differ from those of the client
TAGS = ("late", "vip", "storm")


class Day:
    """The team and the customers at work, one step after the other."""

    def __init__(self, replicas, tokens, seed):
        self.replicas = replicas
        self.model = Model()
        self._draw, self._replica_draw = random.Random(seed), random.Random(seed)
        self._keys = itertools.count()
        self._clients = {
            person.name: [
                SupportClient(address, token=tokens[person.name], timings=ONE_ATTEMPT) for address in replicas.addresses
            ]
            for person in PEOPLE
        }
        self.done = Counter()
        self.steps = []  # who did what
        self.repeats, self.lost = 0, 0

    async def close(self):
        """Close the connections."""
        for client in itertools.chain(*self._clients.values()):
            await client.close()

    # Requests.

    async def write(self, person, call, *, kill=False, has_external_id=False):
        """Make a change at a replica, and repeat it at the others until one has answered; return the answer.

        With `kill` the replica dies meanwhile. If the answer is lost with it, what has an external id is sent again;
        the answer to anything else is None.
        """
        self.model.actor = person.name
        key = f"day-{next(self._keys)}"
        first = self.replicas.kills % len(self.replicas.addresses)  # the next one to be killed
        order = itertools.cycle([*range(first, len(self.replicas.addresses)), *range(first)])
        if not kill:
            order = itertools.islice(order, self._replica_draw.randrange(2), None)
        killing = asyncio.create_task(self._kill(self._replica_draw.uniform(0, 0.03))) if kill else None
        try:
            async with asyncio.timeout(LONG):
                while True:
                    try:
                        return await call(self._clients[person.name][next(order)], key)
                    except (NoAnswer, Unavailable):
                        self.repeats += 1
                    except Conflict as conflict:
                        if conflict.code == "idempotency_answer_lost":  # it has taken effect
                            self.lost += 1
                            if not has_external_id:
                                return None
                            key += "-again"
                        elif conflict.code != "idempotency_key_in_use":
                            raise
                    await asyncio.sleep(0.05)
        finally:
            if killing:
                await killing

    async def _kill(self, after):
        await asyncio.sleep(after)
        self.replicas.kill()

    async def read(self, person, call):
        """Read from any replica that answers."""
        order = itertools.cycle(self._replica_draw.sample(self._clients[person.name], len(self._clients[person.name])))
        async with asyncio.timeout(LONG):
            while True:
                try:
                    return await call(next(order))
                except (NoAnswer, Unavailable):
                    await asyncio.sleep(0.05)

    async def introduce(self, people):
        """Add people to the directory. A replica knows at once what it has changed itself."""
        for number, client in enumerate(self._clients[BOSS.name]):
            for person in people:
                await client.put_agent(person.name, display_name=f"{person.name} {number}", teams=[*person.teams])

    # Steps.

    async def step(self, *, kill):
        """Let somebody do something, and predict what it changes."""
        self.model.at += 1
        steps = [
            *(self._open, self._customer_writes, self._answer, self._note, self._set_status, self._take) * 2,
            *(self._follow, self._assign, self._prioritize, self._snooze, self._wake, self._bulk, self._undo_bulk),
            *(self._merge, self._undo_merge, self._split),
        ]
        while not await (act := self._draw.choice(steps))(kill=kill):
            pass
        name = act.__name__.strip("_")
        self.done[name] += 1
        self.steps.append(f"{self.model.at} {name} by {self.model.actor}")

    def _pick(self, *conditions):
        """Return a case for which all conditions hold, or None."""
        cases = [case for case in self.model.cases.values() if all(holds(case) for holds in conditions)]
        return self._draw.choice(cases) if cases else None

    def _staff_of(self, case):
        """Return somebody of the staff who sees a case."""
        return self._draw.choice([person for person in (*AGENTS, BOSS) if person.sees(case)])

    def _text(self):
        return f"text {self.model.at}"

    async def _expect(self, refused, writing):
        """Await a request that the model refuses or not; return whether it took effect."""
        if refused is None:
            await writing
            return True
        with pytest.raises(SupportError) as found:
            await writing
        assert found.value.code == str(refused)
        return True

    async def _open(self, *, kill):
        customer, text = self._draw.choice(CUSTOMERS), self._text()
        opener = self._draw.choice([customer, BOSS])
        team = self._draw.choice([None, *TEAMS]) if opener is BOSS else None
        case = await self.write(
            opener,
            lambda client, key: client.open_case(
                subject=text,
                channel="email",
                customer_id=customer.name,
                **({} if opener.role == "customer" else {"team": team}),
                external_id=text,
                initial_message={"author_type": "customer", "message": text},
                idempotency_key=key,
            ),
            kill=kill,
            has_external_id=True,
        )
        self.model.open(case.id, customer.name, text, case.messages[0].id, team)
        return True

    async def _customer_writes(self, *, kill):
        case = self._pick()
        return case and await self._say(case, case.customer, "customer", kill=kill)

    async def _answer(self, *, kill):
        case = self._pick(lambda case: case.merged_into is None)
        return case and await self._say(case, self._staff_of(case).name, "agent", kill=kill)

    async def _note(self, *, kill):
        case = self._pick()
        mentioned = self._draw.sample([person.name for person in (*AGENTS, BOSS)], self._draw.randrange(3))
        return case and await self._say(case, self._staff_of(case).name, "agent", kill=kill, mentioned=mentioned)

    async def _say(self, case, author, author_type, *, kill, mentioned=None):
        """Add a public message, or a note that mentions people."""
        is_public = mentioned is None
        text = self._text() + "".join(f" @{name}" for name in mentioned or ())
        writing = self.write(
            next(person for person in PEOPLE if person.name == author),
            lambda client, key: client.add_message(
                case.id,
                author_type=author_type,
                message=text,
                visibility="public" if is_public else "internal",
                external_id=text,
                idempotency_key=key,
            ),
            kill=kill,
            has_external_id=True,
        )
        try:
            self.model.check_say(case, author, is_public=is_public)
        except Refused as refused:
            return await self._expect(refused, writing)
        message = await writing
        target = self.model.say(case, message.id, author, text, is_public=is_public, mentioned=mentioned or ())
        assert (message.ticket_id, message.author_id) == (target.id, author)
        return True

    async def _set_status(self, *, kill):
        case = self._pick(lambda case: case.merged_into is None)
        if case is None:
            return False
        status, person = self._draw.choice(("open", "pending", "resolved", "closed")), self._staff_of(case)
        writing = self.write(
            person, lambda client, key: client.set_status(case.id, status, idempotency_key=key), kill=kill
        )
        refused = None
        self.model.actor = person.name
        try:
            self.model.set_status(case, status)
        except Refused as refusal:
            refused = refusal
        return await self._expect(refused, writing)

    async def _follow(self, *, kill):
        case = self._pick()
        if case is None:
            return False
        person = self._staff_of(case)
        await self.write(
            person, lambda client, key: client.add_follower(case.id, person.name, idempotency_key=key), kill=kill
        )
        case.followers.add(person.name)
        return True

    async def _take(self, *, kill):
        case = self._pick(lambda case: case.agent is None and any(person.sees(case) for person in AGENTS))
        if case is None:
            return False
        agent = self._draw.choice([person for person in AGENTS if person.sees(case)])
        await self._change(agent, case, kill=kill, agent=agent.name)
        return True

    async def _assign(self, *, kill):
        case = self._pick()
        if case is None:
            return False
        fields = {"agent": self._draw.choice([None, *(agent.name for agent in AGENTS)])}
        await self._change(BOSS, case, kill=kill, **fields, team=self._draw.choice([None, *TEAMS]))
        return True

    async def _prioritize(self, *, kill):
        case = self._pick()
        if case is None:
            return False
        tags = tuple(self._draw.sample(TAGS, self._draw.randrange(3)))
        priority = self._draw.choice(("normal", "high", "urgent"))
        await self._change(self._staff_of(case), case, kill=kill, priority=priority, tags=tags)
        return True

    async def _change(self, person, case, *, kill, **fields):
        sent = {FIELDS.get(name, name): list(value) if name == "tags" else value for name, value in fields.items()}
        await self.write(
            person, lambda client, key: client.change_case(case.id, **sent, idempotency_key=key), kill=kill
        )
        self.model.change(case, **fields)

    async def _snooze(self, *, kill):
        return await self._snooze_for(timedelta(days=1), kill=kill)

    async def _wake(self, *, kill):
        """Snooze a case for a moment, in which a replica may die; it wakes by itself."""
        case = await self._snooze_for(timedelta(seconds=8), kill=False)
        if not case:
            return False
        if kill:
            self.replicas.kill()
        self.model.at += 1
        self.model.actor = "support-service"
        self.model.set_status(case, "open")
        await eventually(lambda: self._has_status(case, "open"), LONG)
        return True

    async def _has_status(self, case, status):
        return (await self.read(BOSS, lambda client: client.get_case(case.id))).status == status

    async def _snooze_for(self, duration, *, kill):
        case = self._pick(lambda case: case.status in ("open", "resolved") and case.merged_into is None)
        if case is None:
            return None
        until = datetime.now(UTC) + duration
        await self.write(
            self._staff_of(case),
            lambda client, key: client.set_status(case.id, "pending", until=until, idempotency_key=key),
            kill=kill,
        )
        self.model.set_status(case, "pending", snoozed=True)
        return case

    async def _bulk(self, *, kill):
        person = self._draw.choice([BOSS, BOSS, *AGENTS])
        change = self._draw.choice(
            [
                {"priority": self._draw.choice(("low", "high"))},
                {"add_tags": ["storm"], "remove_tags": ["late"]},
                {"status": self._draw.choice(("pending", "resolved", "open"))},
            ]
        )
        # A duplicate that is opened again would be another subject.
        cases = [case for case in self.model.cases.values() if case.merged_into is None]
        cases = self._draw.sample(cases, min(len(cases), self._draw.randrange(1, 9)))
        if not cases:
            return False
        result = await self.write(
            person,
            lambda client, key: client.bulk_change(change, ids=[case.id for case in cases], idempotency_key=key),
            kill=kill,
        )
        assert result, "a bulk change keeps its outcomes"
        predicted = self.model.bulk((result.id, person.name), person, cases, change)
        assert {item.id: (item.outcome, item.code) for item in result.items} == predicted
        return True

    async def _undo_bulk(self, *, kill):
        if not self.model.bulks:
            return False
        bulk_id, _ = key = self._draw.choice([*self.model.bulks])
        result = await self.write(
            BOSS, lambda client, key: client.undo_bulk_change(bulk_id, idempotency_key=key), kill=kill
        )
        assert {item.id: (item.outcome, item.code) for item in result.items} == self.model.undo_bulk(key)
        return True

    async def _merge(self, *, kill):
        case = self._pick(lambda case: case.merged_into is None)
        original = case and self._pick(
            lambda other: other is not case and other.customer == case.customer,
            lambda other: other.status != "closed" and other.merged_into is None,
        )
        if original is None:
            return False
        await self.write(
            BOSS, lambda client, key: client.merge_case(case.id, original.id, idempotency_key=key), kill=kill
        )
        self.model.merge(case, original)
        return True

    async def _undo_merge(self, *, kill):
        case = self._pick(lambda case: case.merged_into is not None)
        if case is None:
            return False
        read = await self.read(BOSS, lambda client: client.get_case(case.id))
        (link,) = [link.id for link in read.links if link.kind == "duplicate-of"]
        await self.write(BOSS, lambda client, key: client.remove_link(case.id, link, idempotency_key=key), kill=kill)
        self.model.undo_merge(case)
        return True

    async def _split(self, *, kill):
        case = self._pick(lambda case: len(case.messages) > 1)
        if case is None:
            return False
        moved = [self._draw.choice(case.messages).id]
        new = await self.write(
            BOSS, lambda client, key: client.split_case(case.id, moved, self._text(), idempotency_key=key), kill=kill
        )
        if new is not None:
            new_id = new.id
        else:
            read = await self.read(BOSS, lambda client: client.get_case(case.id))
            links = [link.case_id for link in read.links if link.kind == "split-into"]
            (new_id,) = [each for each in links if each not in self.model.cases]
        self.model.split(case, new_id, moved)
        return True

    # What everybody sees.

    async def check(self):
        """Compare what each person sees with the model."""
        for person in PEOPLE:
            for filters in self._filters(person):
                await self._check_list(person, filters)
        for person in (BOSS, *CUSTOMERS):
            for case in self.model.cases.values():
                if person.sees(case):
                    await self._check_case(person, case)
        for person in (*AGENTS, BOSS):
            await self._check_notifications(person)
        await self._check_report()

    def _filters(self, person):
        if person.role == "customer":
            return [{}, {"status": ["open", "pending"]}]
        return [
            *({"sort": sort} for sort in ("newest", "updated", "waiting")),
            {"status": ["open"], "sort": "waiting"},
            {"status": ["pending"], "sort": "updated"},
            {"status": ["closed", "resolved"]},
            {"team": "returns", "sort": "waiting"},
            {"team": "none"},
            {"agent": AGENTS[0].name, "status": ["open", "pending"]},
            {"agent": "none", "priority": "high"},
            *([] if person.role == "analyst" else [{"tag": ["storm"]}, {"customer": "customer-1", "sort": "updated"}]),
        ]

    async def _check_list(self, person, filters):
        names = FIELDS | {"customer": "customer_id"}
        query = {names.get(name, name): value for name, value in filters.items()}
        filters = {name: value[0] if name == "tag" else value for name, value in filters.items()}

        async def read_list(client):
            return [case async for case in client.list_cases(**query, page_size=7)]

        shown = await self.read(person, read_list)
        cases = self.model.listed(person, **filters)
        where = (self.model.at, person.name, filters)
        assert sorted(case.id for case in shown) == sorted(case.id for case in cases), where
        sort = filters.get("sort", "newest")
        assert [sort_key(self.model.cases[case.id], sort) for case in shown] == [
            sort_key(case, sort) for case in cases
        ], where
        for case in shown:
            assert _shown(case, person) == _predicted(self.model.cases[case.id], person), where
        query.pop("sort", None)
        if person.role != "customer":

            async def is_counted():  # a count that took long is shared for three seconds
                return (await self.read(person, lambda client: client.count_cases(**query))).count == len(cases)

            await eventually(is_counted, LONG)

    async def _check_case(self, person, case):
        read = await self.read(person, lambda client: client.get_case(case.id))
        where = (self.model.at, person.name, case)
        assert [message.message for message in read.messages] == self.model.conversation(case, person), where

    async def _check_notifications(self, person):
        async def read_notifications(client):
            return Counter([(each.kind, each.case_id) async for each in client.list_notifications()])

        told = await self.read(person, read_notifications)
        assert told == self.model.told(person), (person.name, self.steps[-CHECK_EVERY:])

    async def _check_report(self):
        async def read_report(client):
            return [row async for row in client.read_report(by=["team", "agent"])]

        found = Counter()
        for row in await self.read(BOSS, read_report):
            for what in ("opened", "solved", "reopened"):
                found[what, row.team, row.agent] = getattr(row, what)
        assert +found == +self.model.counted, self.model.at


def _shown(case, person):
    fields = (case.status, case.priority, case.assigned_agent_id, case.team, case.snoozed_until is not None)
    waits = case.waiting_since is not None
    return (*fields, waits) if person.role == "analyst" else (*fields, waits, case.merged_into, sorted(case.tags))


def _predicted(case, person):
    fields = (case.status, case.priority, case.agent, case.team, case.is_snoozed, case.waits_since is not None)
    return fields if person.role == "analyst" else (*fields, case.merged_into, sorted(case.tags))


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
async def test_every_list_is_the_one_that_a_model_predicts(request, environment, tmp_path, backend):
    """On PostgreSQL with two replicas and Redis, on SQLite with one process."""
    path = tmp_path / "tokens.json"
    tokens = {
        person.name: write_token(path, person.name, role=person.role, subject=person.name, teams=list(person.teams))
        for person in PEOPLE
    }
    variables = environment | SETTINGS | {"SUPPORT_TOKENS_FILE": str(path)}
    if backend == "postgresql":
        variables |= {"SUPPORT_REDIS_URL": request.getfixturevalue("redis").url}
    replicas = Replicas(tmp_path, variables, 2 if backend == "postgresql" else 1)
    kills = {STEPS * (number + 1) // (KILLS + 1) for number in range(KILLS)}
    async with replicas.running():
        day = Day(replicas, tokens, SEED)
        await day.introduce([*AGENTS, BOSS])
        for number in range(STEPS):
            kill = number in kills
            if kill:
                await replicas.wait_until_ready()
            await day.step(kill=kill)
            if number % CHECK_EVERY == CHECK_EVERY - 1 or kill or number == STEPS - 1:
                await day.check()
        with suppress(Exception):
            await day.close()
    print(  # noqa: T201 - the result of the long form
        f"\n{backend}: {STEPS} steps, {len(day.model.cases)} cases, {replicas.kills} kills, {day.repeats} repeats, "
        f"{day.lost} answers lost; {dict(day.done)}"
    )
    assert replicas.kills == KILLS
