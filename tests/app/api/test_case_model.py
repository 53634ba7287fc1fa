"""Cases of two customers, changed in any order, are what a model in memory predicts.

The model is that of the histories (`support/histories/model.py`); here one call follows the other.
"""

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from support_service.client import ClientTimings, SupportClient, SupportError
from support_service.platform.database.tables import tickets
from tests.support.access.fixtures import write_token
from tests.support.calls import eventually
from tests.support.examples import examples
from tests.support.histories.clients import CHANNEL, LONG, PRIORITIES, STATUSES, KnownCases, file
from tests.support.histories.model import CaseState, Operation, RefusedAnswer, State, agrees, apply, opened
from tests.support.service import service_of

CUSTOMERS = ("customer-1", "customer-2")
STAFF = "boss"
MOST = 12  # cases, also of splits
PLACES = st.integers(0, MOST - 1)
PATIENT = ClientTimings(attempt=LONG, deadline=LONG, attempts=1)
VIEWS = {
    "snoozed": ({"snoozed": True}, lambda case: case.snoozed_until is not None),
    "pending": ({"status": "pending", "snoozed": False}, lambda case: case.row[1::2] == ("pending", None)),
    "high": ({"priority": "high"}, lambda case: case.priority == "high"),
    "waiting": ({"status": "open,pending"}, lambda case: case.status in ("open", "pending")),
}
DONE = ("resolved", "closed")
numbers = itertools.count()


class CaseMachine(RuleBasedStateMachine):
    """Changes cases; compares each answer with the model, and what staff and customers read."""

    def __init__(self, run: Callable, clients: dict[str, SupportClient], wake: Callable):
        super().__init__()
        self._run, self._clients, self._wake = run, clients, wake
        self._state: State = opened()
        self._known = KnownCases({"team": f"team-{next(numbers)}"})
        self._texts, self._notes, self._authors = [], set(), {}
        self._split = set()  # places whose clocks began with a split

    @initialize()
    def open_cases(self):
        for name, (query, _) in VIEWS.items():
            self._call(STAFF, "create_view", name, self._known.filters | query)
        for number in range(4):
            self.open(CUSTOMERS[number == 3])

    @rule(customer=st.sampled_from(CUSTOMERS))
    def open(self, customer):
        if len(self._state.cases) < MOST / 2:
            fields = {"subject": "A", "channel": CHANNEL, "customer_id": customer, **self._known.filters}
            self._known.ids.append(self._call(STAFF, "open_case", **fields).id)
            self._state = self._state.add(CaseState(customer))
            for _ in range(2):
                self._do("say", len(self._state.cases) - 1, self._text())

    @rule(place=PLACES, name=st.sampled_from(["say", "say as customer", "note"]), is_known=st.booleans())
    def write(self, place, name, is_known):
        """`is_known`: only if the case has the version that it has."""
        place = self._place(place)
        version = self._state.cases[place].version if is_known and name != "say as customer" else None
        self._do(name, place, self._text(), version)

    @rule(place=PLACES, status=st.sampled_from(STATUSES), is_known=st.sampled_from([True, True, False]))
    def set_status(self, place, status, is_known):
        """Refused if the version is another one."""
        place = self._place(place)
        self._do("set status", place, (status, None), self._state.cases[place].version + (not is_known))

    @rule(place=PLACES)
    def snooze(self, place):
        self._do("set status", place, ("pending", (datetime.now(UTC) + timedelta(days=1)).isoformat()))

    @rule(place=PLACES)
    def wake(self, place):
        """The time of a snooze has come."""
        place = self._place(place)
        if until := self._state.cases[place].snoozed_until:
            self._run(self._wake(self._known.ids[place]))
            self._state, _ = apply(self._state, Operation("wake", place, until))

    @rule(place=PLACES, priority=st.sampled_from(PRIORITIES))
    def prioritize(self, place, priority):
        self._do("prioritize", place, priority)

    @rule(place=PLACES)
    def upload(self, place):
        self._do("upload", place, file(f"file {next(numbers)}"))

    @rule(place=PLACES, number=PLACES)
    def remove(self, place, number):
        if files := self._state.cases[self._place(place)].files:
            self._do("remove", place, files[number % len(files)][0])

    @rule(place=PLACES, step=PLACES, name=st.sampled_from(["merge", "merge", "relate"]))
    def link(self, place, step, name):
        place = self._place(place)
        self._do(name, place, (place + 1 + step % (len(self._state.cases) - 1)) % len(self._state.cases))

    @rule(place=PLACES)
    def unmerge(self, place):
        if self._state.cases[place := self._place(place)].original is not None:
            self.read(place)
            self._do("unmerge", place, self._known.links[place], link=self._state.cases[place].link)

    @rule(place=PLACES, first=PLACES, number=st.integers(1, 2))
    def split(self, place, first, number):
        texts = self._state.cases[place := self._place(place)].texts
        if texts and len(self._state.cases) < MOST:
            self._do("split", place, texts[first % len(texts) :][:number])
            self._split |= {place, len(self._state.cases) - 1}

    @rule(place=PLACES)
    def read(self, place):
        self._do("read", place)

    @rule(statuses=st.lists(st.sampled_from(STATUSES), unique=True, max_size=2))
    def list(self, statuses):
        self._do("list", 0, tuple(statuses))

    @rule()
    def read_as_everybody(self):
        """No customer reads a note, or what another customer wrote."""
        for place, case in enumerate(self._state.cases):
            _, shown = apply(self._state, Operation("read", place))
            texts = {text for each in shown.texts for text in each or ()}
            assert self._conversation(STAFF, place) == [text for text in self._texts if text in texts]
            assert self._pages(place) == [text for text in self._texts if text in texts]
            own = {
                text
                for each, of_case in zip(self._state.cases, shown.texts, strict=True)
                if each.customer == case.customer
                for text in of_case or ()
            }
            readable = [text for text in self._texts if text in own - self._notes]
            assert self._conversation(case.customer, place) == readable

    @rule()
    def look_at_views(self):
        """Each view counts and lists the cases that have what it asks for."""
        for view in self._run(_all(self._clients[STAFF].list_views())):
            query, has = VIEWS[view.name]
            wanted = {case_id for case_id, case in zip(self._known.ids, self._state.cases, strict=True) if has(case)}
            shown = self._run(_all(self._clients[STAFF].list_cases(**self._known.filters | query)))
            assert ({case.id for case in shown}, view.count) == (wanted, len(wanted))

    @rule(place=PLACES)
    def look_at_clocks(self, place):
        """An agent's answer ends one clock; the other one stands while the case is pending."""
        place = self._place(place)
        case = self._state.cases[place]
        if place in self._split:
            return
        clocks = self._call(STAFF, "get_case", self._known.ids[place]).sla
        is_answered = any(self._authors[text] == "say" for text in case.texts)
        first = "met" if is_answered else "paused" if case.status in DONE else "running"
        resolution = "met" if case.status in DONE else "paused" if case.status == "pending" else "running"
        assert (clocks.first_response.state, clocks.resolution.state) == (first, resolution)

    def teardown(self):
        for view in self._run(_all(self._clients[STAFF].list_views())):
            self._call(STAFF, "delete_view", view.id)

    def _do(self, name, place, value=None, version=None, link=None):
        """Perform an operation; compare the answer, and then the case, with the model, which has another `link`."""
        operation = Operation(name, self._place(place), value, version)
        by_customer = name == "say as customer"
        who = self._state.cases[operation.place].customer if by_customer else STAFF
        try:
            answer = self._run(self._known.perform(self._clients[who], operation))
        except SupportError as refusal:
            answer = RefusedAnswer(refusal.code)
        self._state, expected = apply(self._state, operation._replace(value=value if link is None else link))
        assert agrees(expected, answer), (operation, expected, answer)
        if isinstance(value, str) and isinstance(answer, int) and name != "upload":
            self._texts.append(value)
            self._authors[value] = name
            self._notes |= {value} if name == "note" else set()
        if not operation.is_read:
            self.read(answer if isinstance(answer, int) else operation.place)

    def _conversation(self, who, place):
        return [each.message for each in self._call(who, "get_case", self._known.ids[place]).messages]

    def _pages(self, place):
        """Return the texts of a conversation that is read in pages of two messages."""
        texts, after, more = [], None, True
        while more:
            query = {"messages_limit": 2, "messages_after": after}
            page = self._call(STAFF, "get_case", self._known.ids[place], **query)
            texts += [each.message for each in page.messages]
            more, after = page.more_messages, page.messages[-1].id if page.messages else None
        return texts

    def _call(self, who, method, *arguments, **fields):
        return self._run(getattr(self._clients[who], method)(*arguments, **fields))

    def _place(self, number):
        return number % len(self._state.cases)

    def _text(self):
        return f"text {next(numbers)}"


async def _all(items):
    return [item async for item in items]


@pytest.mark.hypothesis
async def test_case_is_what_the_model_predicts(make_client, tmp_path, constants):
    """Messages, files, links, merges, splits, snoozes, clocks and views; and nobody reads what is not for them."""
    constants("cases.snoozes", INTERVAL=0.02)
    tokens = tmp_path / "tokens.json"
    token = {name: write_token(tokens, name, role="customer", subject=name) for name in CUSTOMERS}
    token[STAFF] = write_token(tokens, STAFF, role="supervisor")
    server = await make_client(
        SUPPORT_AUTH="token",
        SUPPORT_TOKENS_FILE=str(tokens),
        SUPPORT_RATE_LIMIT="off",
        SUPPORT_RATE_LIMIT_ADDRESS="off",
    )
    loop, database = asyncio.get_running_loop(), service_of(server).database
    address = str(server.make_url("/"))
    clients = {name: SupportClient(address, token=secret, timings=PATIENT) for name, secret in token.items()}
    targets = {"firstResponse": timedelta(days=9), "resolution": timedelta(days=9)}
    await clients[STAFF].put_sla_policy("all", targets=targets)

    def run(awaitable):
        return asyncio.run_coroutine_threadsafe(awaitable, loop).result()

    async def wake(case_id):
        async with database.transaction() as tx:
            past = datetime.now(UTC) - timedelta(seconds=1)
            await tx.execute(tickets.update().where(tickets.c.id == case_id).values(snoozed_until=past))
        status = sa.select(tickets.c.status).where(tickets.c.id == case_id)

        async def is_open():
            return (await database.fetch_now(status))[0] == "open"

        await eventually(is_open, LONG)

    limits = examples(0.3, stateful_step_count=50)
    await asyncio.to_thread(lambda: run_state_machine_as_test(lambda: CaseMachine(run, clients, wake), settings=limits))
    for client in clients.values():
        await client.close()
