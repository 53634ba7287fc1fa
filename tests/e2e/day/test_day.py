"""A day of a team of eight and its customers: every list equals the prediction of the model of cases.

Two replicas are killed in turn while they write; the request is repeated at the other one with its idempotency key.
"""

import asyncio
import itertools
import os
import random
from collections import Counter, defaultdict
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple

import pytest

from support_service.client import ClientTimings, Conflict, NoAnswer, SupportClient, SupportError, Unavailable
from tests.support.access.fixtures import write_token
from tests.support.calls import eventually
from tests.support.histories.clients import LONG, MESSAGES, STATUSES, KnownCases
from tests.support.histories.model import (
    AnswerLost,
    CaseState,
    Operation,
    Person,
    RefusedAnswer,
    agrees,
    apply,
    change,
    change_many,
    opened,
    places_shown,
    undo_change,
)
from tests.support.promql import ROOT
from tests.support.replicas import Replicas

pytestmark = pytest.mark.usefixtures("processes")

STEPS = int(os.environ.get("DAY_STEPS", "24"))
KILLS = int(os.environ.get("DAY_KILLS", "1"))
CHECK_EVERY = int(os.environ.get("DAY_CHECK_EVERY", "12"))  # steps between two comparisons of everything
SEED = int(os.environ.get("DAY_SEED", "33"))
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
ACTIVE = ("open", "pending")


class Said(NamedTuple):
    """A message; `at` is its step."""

    at: int
    author: str
    is_public: bool


class Desk:
    """What the service has to show of the model's cases: who sees them, their order, what was counted and told.

    Time is the number of a step. Steps follow one another, so that the order of what they change is known. Cases are
    at places. `actor` is who makes the next change.
    """

    def __init__(self):
        self.state, self.at, self.actor = opened(), 0, ""
        self.known = KnownCases({}, have_external_ids=True)
        self.opened, self.updated = [], []  # steps
        self.said = {}  # by text
        self.followers = defaultdict(set)
        self.notifications = []  # person, kind, and the place of a case or the text of a message
        self.counted = Counter()  # what happened, by team and agent
        self.bulks = {}  # what an undo of a bulk change needs to know, by its id

    def become(self, state):
        """Take the state after a change: count what happened, and tell of it."""
        former, self.state = self.state.cases, state
        for place, case in enumerate(state.cases):
            if place == len(former):
                self.opened.append(self.at)
                self.updated.append(self.at)
                self._count("opened", case)
                self._tell(place, "", {case.agent: "assigned"} if case.agent else {})
            elif case != (before := former[place]):
                self.updated[place] = self.at
                if (case.agent, case.team) != (before.agent, before.team):
                    is_assigned = case.agent not in (None, before.agent)
                    self._tell(place, "assignment", {case.agent: "assigned"} if is_assigned else {})
                if case.status != before.status:
                    self._tell(place, "status")
                if (is_active := case.status in ACTIVE) != (before.status in ACTIVE):
                    self._count("reopened" if is_active else "solved", case)

    def say(self, place, author, operation, mentioned):
        """Tell of a message that has arrived at a place. Who is mentioned follows."""
        text, is_public = operation.value, operation.name != "note"
        self.said[text] = Said(self.at, author, is_public)
        if operation.name == "say as customer":
            self._tell(place, "message", about=text)
        elif not is_public:
            self._tell(place, "note", dict.fromkeys(mentioned, "mention"), about=text)
            self.followers[place] |= {*mentioned} - {author}

    def _tell(self, place, kind, others=MappingProxyType({}), about=None):
        """Tell followers, also of duplicates, and others something else, of a change.

        Nobody is told of what they do themselves.
        """
        told = {name: kind for each in places_shown(self.state, place) for name in self.followers[each]} | dict(others)
        told.pop(self.actor, None)
        about = place if about is None else about
        self.notifications += [(person, each, about) for person, each in told.items()]

    def _count(self, what, case):
        self.counted[what, case.team, case.agent] += 1

    # What everybody sees.

    def listed(self, person, sort, filters):
        """Return the places of the cases that a list shows. Cases that were changed at once have the same sort key."""
        shown = [
            place
            for place, case in enumerate(self.state.cases)
            if person.sees(case) and all(_matches(case, name, wanted) for name, wanted in filters.items())
        ]
        return sorted(shown, key=lambda place: self.sort_key(place, sort))

    def sort_key(self, place, sort):
        if sort == "updated":
            return (-self.updated[place],)
        if sort == "waiting" and (since := self.waits_since(place)) is not None:
            return (0, since)
        return (1, -self.opened[place]) if sort == "waiting" else (-self.opened[place],)

    def waits_since(self, place):
        """Return the step since which the customer waits, as lists show it."""
        case, waiting = self.state.cases[place], None
        for said in map(self.said.get, case.texts):
            if said.author == case.customer:
                waiting = said.at if waiting is None else waiting
            elif said.is_public:
                waiting = None
        return waiting if case.status in ACTIVE else None

    def told(self, person):
        """Count what a person is told of cases that the person sees, by kind and case."""
        places = {text: place for place, case in enumerate(self.state.cases) for text in case.texts}
        told = [(kind, places.get(about, about)) for name, kind, about in self.notifications if name == person.name]
        return Counter((kind, self.known.ids[place]) for kind, place in told if person.sees(self.state.cases[place]))

    def conversation(self, place, person):
        """Return authors and texts of a case and its duplicates that a person reads, oldest first.

        A customer does not read who of the staff has written.
        """
        texts = [text for each in places_shown(self.state, place) for text in self.state.cases[each].texts]
        said = [(self.said[text], text) for text in sorted(texts, key=lambda text: self.said[text].at)]
        if person.role != "customer":
            return [(message.author, text) for message, text in said]
        authors = {person.name: person.name}
        return [(authors.get(message.author), text) for message, text in said if message.is_public]


def _matches(case, name, wanted):
    if name == "status":
        return case.status in wanted
    return wanted in case.tags if name == "tag" else getattr(case, name) == (None if wanted == "none" else wanted)


class Day:
    """The team and the customers at work, one step after the other."""

    def __init__(self, replicas, tokens, seed):
        self.replicas = replicas
        self.model = Desk()
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
        for client in itertools.chain(*self._clients.values()):
            await client.close()

    # Requests.

    async def write(self, person, call, *, kill=False, has_external_id=False):
        """Make a change at a replica, and repeat it at the others until one has answered; return the answer.

        With `kill` the replica dies meanwhile. If the answer is lost with it, what has an external id is sent again.
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
                                return AnswerLost()
                            key += "-again"
                        elif conflict.code != "idempotency_key_in_use":
                            raise
                    await asyncio.sleep(0.05)  # before the next attempt
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
                    await asyncio.sleep(0.05)  # before the next attempt

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
        """Return the place of a case for which all conditions hold, or None."""
        cases = enumerate(self.model.state.cases)
        places = [place for place, case in cases if all(holds(case) for holds in conditions)]
        return self._draw.choice(places) if places else None

    def _staff_of(self, place):
        """Return somebody of the staff who sees a case."""
        return self._draw.choice([person for person in (*AGENTS, BOSS) if person.sees(self.model.state.cases[place])])

    def _text(self):
        return f"text {self.model.at}"

    async def _do(self, person, operation, *, kill, link=None, mentioned=()):
        """Make the request of an operation, and compare the answer with that of the model, which has another `link`."""
        model = self.model
        after, expected = apply(model.state, operation if link is None else operation._replace(value=link))
        is_message = operation.name in MESSAGES
        try:
            answer = await self.write(
                person,
                lambda client, key: model.known.perform(client, operation._replace(key=key)),
                kill=kill,
                has_external_id=is_message,
            )
        except SupportError as refusal:
            answer = RefusedAnswer(refusal.code)
        assert agrees(expected, answer), (model.at, operation, expected, answer)
        model.become(after)
        if is_message and answer == expected and not isinstance(answer, RefusedAnswer):
            model.say(answer, person.name, operation, mentioned)
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
        self.model.known.ids.append(case.id)
        self.model.known.messages[text] = case.messages[0].id
        self.model.said[text] = Said(self.model.at, customer.name, is_public=True)
        self.model.become(self.model.state.add(CaseState(customer.name, texts=(text,), team=team)))
        return True

    async def _customer_writes(self, *, kill):
        if (place := self._pick()) is None:
            return False
        name = self.model.state.cases[place].customer
        customer = next(person for person in CUSTOMERS if person.name == name)
        return await self._do(customer, Operation("say as customer", place, self._text()), kill=kill)

    async def _answer(self, *, kill):
        if (place := self._pick(_is_alone)) is None:
            return False
        return await self._do(self._staff_of(place), Operation("say", place, self._text()), kill=kill)

    async def _note(self, *, kill):
        place = self._pick()
        mentioned = self._draw.sample([person.name for person in (*AGENTS, BOSS)], self._draw.randrange(3))
        if place is None:
            return False
        text = self._text() + "".join(f" @{name}" for name in mentioned)
        return await self._do(self._staff_of(place), Operation("note", place, text), kill=kill, mentioned=mentioned)

    async def _set_status(self, *, kill):
        if (place := self._pick(_is_alone)) is None:
            return False
        operation = Operation("set status", place, (self._draw.choice(STATUSES), None))
        return await self._do(self._staff_of(place), operation, kill=kill)

    async def _follow(self, *, kill):
        if (place := self._pick()) is None:
            return False
        person, case_id = self._staff_of(place), self.model.known.ids[place]
        await self.write(
            person, lambda client, key: client.add_follower(case_id, person.name, idempotency_key=key), kill=kill
        )
        self.model.followers[place].add(person.name)
        return True

    async def _take(self, *, kill):
        place = self._pick(lambda case: case.agent is None and any(person.sees(case) for person in AGENTS))
        if place is None:
            return False
        agent = self._draw.choice([person for person in AGENTS if person.sees(self.model.state.cases[place])])
        return await self._change(agent, place, kill=kill, agent=agent.name)

    async def _assign(self, *, kill):
        if (place := self._pick()) is None:
            return False
        agent = self._draw.choice([None, *(agent.name for agent in AGENTS)])
        return await self._change(BOSS, place, kill=kill, agent=agent, team=self._draw.choice([None, *TEAMS]))

    async def _prioritize(self, *, kill):
        if (place := self._pick()) is None:
            return False
        tags = tuple(self._draw.sample(TAGS, self._draw.randrange(3)))
        priority = self._draw.choice(("normal", "high", "urgent"))
        return await self._change(self._staff_of(place), place, kill=kill, priority=priority, tags=tags)

    async def _change(self, person, place, *, kill, **fields):
        sent = {FIELDS.get(name, name): list(value) if name == "tags" else value for name, value in fields.items()}
        case_id = self.model.known.ids[place]
        await self.write(
            person, lambda client, key: client.change_case(case_id, **sent, idempotency_key=key), kill=kill
        )
        self.model.become(change(self.model.state, person, place, fields)[0])
        return True

    async def _snooze(self, *, kill):
        return await self._snooze_for(timedelta(days=1), kill=kill) is not None

    async def _wake(self, *, kill):
        """Snooze a case for a moment, in which a replica may die; it wakes by itself."""
        place = await self._snooze_for(timedelta(seconds=8), kill=False)
        if place is None:
            return False
        if kill:
            self.replicas.kill()
        self.model.at += 1
        self.model.actor = "support-service"
        until = self.model.state.cases[place].snoozed_until
        self.model.become(apply(self.model.state, Operation("wake", place, until))[0])

        async def is_open():
            case_id = self.model.known.ids[place]
            return (await self.read(BOSS, lambda client: client.get_case(case_id))).status == "open"

        await eventually(is_open, LONG)
        return True

    async def _snooze_for(self, duration, *, kill):
        place = self._pick(lambda case: case.status in ("open", "resolved"), _is_alone)
        if place is not None:
            until = (datetime.now(UTC) + duration).isoformat()
            await self._do(self._staff_of(place), Operation("set status", place, ("pending", until)), kill=kill)
        return place

    async def _bulk(self, *, kill):
        person = self._draw.choice([BOSS, BOSS, *AGENTS])
        values = self._draw.choice(
            [
                {"priority": self._draw.choice(("low", "high"))},
                {"add_tags": ["storm"], "remove_tags": ["late"]},
                {"status": self._draw.choice(("pending", "resolved", "open"))},
            ]
        )
        # A duplicate that is opened again would be another subject.
        places = [place for place, case in enumerate(self.model.state.cases) if _is_alone(case)]
        places = self._draw.sample(places, min(len(places), self._draw.randrange(1, 9)))
        if not places:
            return False
        ids = [self.model.known.ids[place] for place in places]
        result = await self.write(
            person, lambda client, key: client.bulk_change(values, ids=ids, idempotency_key=key), kill=kill
        )
        after, outcomes, undo = change_many(self.model.state, person, places, values)
        self._become_of_many(result, outcomes, after)
        self.model.bulks[result.id] = undo
        return True

    async def _undo_bulk(self, *, kill):
        if not self.model.bulks:
            return False
        bulk_id = self._draw.choice([*self.model.bulks])
        result = await self.write(
            BOSS, lambda client, key: client.undo_bulk_change(bulk_id, idempotency_key=key), kill=kill
        )
        after, outcomes = undo_change(self.model.state, self.model.bulks.pop(bulk_id))
        self._become_of_many(result, outcomes, after)
        return True

    def _become_of_many(self, result, outcomes, after):
        assert result != AnswerLost(), "a bulk change keeps its outcomes"
        found = [(self.model.known.place(item.id), item.outcome, item.code) for item in result.items]
        assert sorted(found) == sorted(outcomes)
        self.model.become(after)

    async def _merge(self, *, kill):
        place = self._pick(_is_alone)
        case = None if place is None else self.model.state.cases[place]
        original = case and self._pick(
            lambda other: other is not case and other.customer == case.customer,
            lambda other: other.status != "closed" and _is_alone(other),
        )
        if original is None:
            return False
        return await self._do(BOSS, Operation("merge", place, original), kill=kill)

    async def _undo_merge(self, *, kill):
        place = self._pick(lambda case: not _is_alone(case))
        if place is None:
            return False
        known, link = self.model.known, self.model.state.cases[place].link
        await self.read(BOSS, lambda client: known.perform(client, Operation("read", place)))
        return await self._do(BOSS, Operation("unmerge", place, known.links[place]), kill=kill, link=link)

    async def _split(self, *, kill):
        place = self._pick(lambda case: len(case.texts) > 1)
        if place is None:
            return False
        known = self.model.known
        moved = (self._draw.choice(self.model.state.cases[place].texts),)
        await self._do(BOSS, Operation("split", place, moved), kill=kill)
        if len(known.ids) < len(self.model.state.cases):  # the answer is lost
            read = await self.read(BOSS, lambda client: client.get_case(known.ids[place]))
            links = [link.case_id for link in read.links if link.kind == "split-into"]
            known.ids += [each for each in links if each not in known.ids]
        return True

    # What everybody sees.

    async def check(self):
        """Compare what each person sees with the model."""
        for person in PEOPLE:
            for filters in self._filters(person):
                await self._check_list(person, filters)
        for person in (BOSS, *CUSTOMERS):
            for place, case in enumerate(self.model.state.cases):
                if person.sees(case):
                    await self._check_case(person, place)
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
        where = (self.model.at, person.name, filters)
        sort = filters.pop("sort", "newest")
        places = self.model.listed(person, sort, filters)
        found = [self.model.known.place(case.id) for case in shown]
        assert sorted(found) == sorted(places), where
        assert [self.model.sort_key(place, sort) for place in found] == [
            self.model.sort_key(place, sort) for place in places
        ], where
        for place, case in zip(found, shown, strict=True):
            assert _shown(case, person) == self._predicted(place, person), where
        query.pop("sort", None)
        if person.role != "customer":

            async def is_counted():  # a count that took long is shared for three seconds
                return (await self.read(person, lambda client: client.count_cases(**query))).count == len(places)

            await eventually(is_counted, LONG)

    async def _check_case(self, person, place):
        read = await self.read(person, lambda client: client.get_case(self.model.known.ids[place]))
        shown = [(message.author_id, message.message) for message in read.messages]
        assert shown == self.model.conversation(place, person), (self.model.at, person.name, place)

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

    def _predicted(self, place, person):
        case, is_waiting = self.model.state.cases[place], self.model.waits_since(place) is not None
        fields = (case.status, case.priority, case.agent, case.team, case.snoozed_until is not None, is_waiting)
        if person.role == "analyst":
            return fields
        original = None if case.merged_into is None else self.model.known.ids[case.merged_into]
        return (*fields, original, sorted(case.tags))


def _shown(case, person):
    fields = (case.status, case.priority, case.assigned_agent_id, case.team, case.snoozed_until is not None)
    waits = case.waiting_since is not None
    return (*fields, waits) if person.role == "analyst" else (*fields, waits, case.merged_into, sorted(case.tags))


def _is_alone(case):
    return case.original is None


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
        with suppress(Exception):  # the steps and the check have passed
            await day.close()
    print(  # noqa: T201 - the result of the long form
        f"\n{backend}: {STEPS} steps, {len(day.model.known.ids)} cases, {replicas.kills} kills, {day.repeats} repeats, "
        f"{day.lost} answers lost; {dict(day.done)}"
    )
    assert replicas.kills == KILLS
