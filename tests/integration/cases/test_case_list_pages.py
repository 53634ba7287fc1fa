"""Pages of the case list in each sort, compared with a list in memory while cases are added and changed."""

import itertools
import random
from datetime import timedelta

import pytest
import sqlalchemy as sa

from support_service.cases.listing import case_list, case_sorts
from support_service.cases.model.case import Message
from support_service.cases.model.requests import CaseQuery
from support_service.cases.sql import case_rows
from support_service.core.domain.principals import SYSTEM, Principal
from support_service.platform.database.tables import ticket_tags, tickets
from tests.conftest import both_databases
from tests.support.cases import AT, ticket

pytestmark = both_databases
ACTIVE = ("open", "pending")
AGENT = Principal("agent", "agent", "agent-1", frozenset({"team-1"}))
CUSTOMER = Principal("customer", "customer", "customer-1")
PRINCIPALS = (SYSTEM, AGENT, CUSTOMER)
QUERIES = [
    {},
    {"status": "open,pending"},
    {"status": "open"},
    {"assignedAgentId": "none"},
    {"team": "none"},
    {"tag": ["a"]},
    {"tag": ["a", "b"]},
    {"tag": ["a"], "status": "open,resolved,closed"},
    {"orderId": "1"},
    {"snoozed": True},
    {"snoozed": True, "status": "open,pending", "tag": ["a"]},
    {"snoozed": True, "status": "open,closed"},
    {"snoozed": True, "team": "none", "q": "parcel"},
    {"snoozed": False, "status": "pending"},
    {"q": "parc"},
    {"q": "hello parcel", "status": "open,pending", "tag": ["a"]},
]
CHANGING_QUERIES = ({}, {"status": "open,pending"}, {"tag": ["a"]}, {"q": "parcel"})
SORTS = ("newest", "updated", "waiting", "snoozed")
ALL_SORTS = (*SORTS, "due")


def walks(queries):
    """Yield each query in each sort, with another principal from sort to sort: each principal has each query."""
    for (turn, sort), (number, query) in itertools.product(enumerate(SORTS), enumerate(queries)):
        yield PRINCIPALS[(turn + number) % len(PRINCIPALS)], sort, query


class Cases:
    """Cases in a database and in memory, which change by chance. Several changes have the same time."""

    def __init__(self, database, seed):
        self.database = database
        self.chance = random.Random(seed)
        self.known = {}
        self.changed = set()  # ids of cases that were changed since the set was emptied
        self.now = AT
        self.messages = 0

    async def open(self):
        self._pass_time()
        number = len(self.known) + 1
        opened = self.now - timedelta(milliseconds=number % 2 * 11)  # as if others were stored first
        status = self.chance.choice(["open", "open", "pending", "resolved", "closed"])
        case = ticket(
            number,
            subject="A",
            description=self.chance.choice([None, "Where is it?"]),
            customer_id=self.chance.choice(["customer-1", "customer-2"]),
            status=status,
            assigned_agent_id=self.chance.choice([None, "agent-1", "agent-2"]),
            team=self.chance.choice([None, "team-1", "team-2"]),
            tags=self.chance.sample(["a", "b", "c"], self.chance.randint(0, 3)),
            created_at=opened,
            updated_at=self.now,
            snoozed_until=self._snooze_end(status),
        )
        order = self.chance.choice(["1", "2"])
        first = self._message(case.id, "customer", "public") if self.chance.random() < 0.5 else None
        async with self.database.transaction() as tx:
            await case_rows.add_case(tx, case, [("order", order)], first)
        last = self.now if first else None
        waiting = opened if first or case.description else None
        self.known[case.id] = {
            **case.model_dump(include={"id", "customer_id", "status", "assigned_agent_id", "team", "tags"}),
            "seq": number,
            "order": order,
            "updated": self.now,
            "public": self.now,
            "snoozed": case.snoozed_until,
            "waiting": waiting,
            "last": last,
            "said": [first] if first else [],
        }
        self.changed.add(case.id)

    async def change(self):
        self._pass_time()
        case = self.chance.choice(list(self.known.values()))
        self.changed.add(case["id"])
        if self.chance.random() < 0.6:
            await self._say(case)
            return
        async with self.database.transaction() as tx:
            stored = await case_rows.lock(tx, case["id"])
            at = max(self.now, case["updated"] + timedelta(microseconds=1))
            new = {"status": self.chance.choice(["open", "pending", "closed"]), "tags": self.chance.sample("abc", 2)}
            new["snoozed_until"] = self._snooze_end(new["status"])
            await case_rows.update(tx, stored.model_copy(update=new | {"updated_at": at}), new)
        case |= new | {"updated": at, "public": at, "snoozed": new["snoozed_until"]}

    def _snooze_end(self, status):
        """Return a time or None: only a pending case is snoozed."""
        until = AT + timedelta(minutes=self.chance.randint(1, 20))
        return self.chance.choice([None, until]) if status == "pending" else None

    async def _say(self, case):
        author, visibility = self.chance.choice(
            [("customer", "public"), ("agent", "public"), ("agent", "internal"), ("bot", "public")]
        )
        message = self._message(case["id"], author, visibility)
        async with self.database.transaction() as tx:
            await case_rows.add_message(tx, message)
        case["updated"] = at = message.created_at
        case["said"].append(message)
        if visibility == "internal":
            return
        case["public"] = case["last"] = at
        if author == "customer":
            case["waiting"] = case["waiting"] or at
        elif author == "agent":
            case["waiting"] = None

    def _message(self, case_id, author, visibility):
        self.messages += 1
        return Message.model_construct(
            id=f"message-{self.messages}",
            ticket_id=case_id,
            author_type=author,
            message=self.chance.choice(["Hello", "Hello", "Hello, my parcel"]),
            attachment_uri=None,
            sentiment=None,
            metadata=None,
            visibility=visibility,
            created_at=self.now,
        )

    def _pass_time(self):
        self.now += timedelta(microseconds=self.chance.choice([0, 0, 1, 1000]))

    def expected(self, query, sort, principal):
        """Return the cases that a list has, in order. Cases that do not wait come last, newest first."""
        found = [case for case in self.known.values() if self._matches(case, query, principal)]
        if sort == "newest":
            return sorted(found, key=lambda case: -case["seq"])
        if sort == "updated":
            time = "public" if principal.role == "customer" else "updated"
            return sorted(found, key=lambda case: (case[time], case["seq"]), reverse=True)
        if sort == "snoozed":
            timed = [case for case in found if case["snoozed"]]
        else:
            timed = [case for case in found if case["waiting"] and case["status"] in ACTIVE]
        others = [case for case in found if case not in timed]
        return sorted(timed, key=lambda case: (case[sort], case["seq"])) + sorted(others, key=lambda case: -case["seq"])

    def _matches(self, case, query, principal):
        return (
            principal.may_see(type("Owner", (), case))
            and ("status" not in query or case["status"] in query["status"].split(","))
            and query.get("snoozed", bool(case["snoozed"])) == bool(case["snoozed"])
            and ("assignedAgentId" not in query or case["assigned_agent_id"] is None)
            and ("team" not in query or case["team"] is None)
            and set(query.get("tag", ())) <= set(case["tags"])
            and ("orderId" not in query or case["order"] == query["orderId"])
            and ("q" not in query or any(self._finds(message, principal) for message in case["said"]))
        )

    def _finds(self, message, principal):
        return "parcel" in message.message and (message.visibility == "public" or principal.role != "customer")

    async def page(self, query, sort, cursor, principal, limit=9):
        asked = CaseQuery.model_validate(query | {"sort": sort, "limit": limit})
        page = await case_list.find_cases(self.database, asked, case_sorts.decode_cursor(sort, cursor), principal)
        after = case_sorts.encode_cursor(sort, page.cases[-1][0]) if page.has_more else None
        return [case for _, case in page.cases], after

    async def all_pages(self, query, sort, principal, *, between=None):
        """Return the cases of all pages; `between` is called between two of them."""
        found, cursor = await self.page(query, sort, None, principal)
        while cursor:
            if between:
                await between()
            more, cursor = await self.page(query, sort, cursor, principal)
            found += more
        return found


@pytest.fixture
async def cases(database):
    """Forty cases with a history of changes."""
    cases = Cases(database, seed=1)
    for _ in range(40):
        await cases.open()
    for _ in range(60):
        await cases.change()
    return cases


async def test_pages_are_the_list_in_its_order(cases):
    """Every case is on one page, with the times that its reader may know of. The newest case was stored last."""
    for principal, sort, query in walks(QUERIES):
        found = await cases.all_pages(query, sort, principal)
        expected = cases.expected(query, sort, principal)
        assert [case.id for case in found] == [case["id"] for case in expected], (principal.role, sort, query)
        for case, known in zip(found, expected, strict=True):
            assert case.updated_at == known["public" if principal.role == "customer" else "updated"]
            assert (case.last_message_at, case.snoozed_until) == (known["last"], known["snoozed"])
            assert case.waiting_since == (known["waiting"] if known["status"] in ACTIVE else None)


async def test_pages_miss_no_case_while_cases_change(cases):
    """A case that does not change is on exactly one page. One that changes is found by its new time.

    In the order of opening each case is on one page at most, and a search has only cases that match.
    """

    async def between():
        await cases.open()
        for _ in range(3):
            await cases.change()

    for principal, sort, query in walks(CHANGING_QUERIES):
        before = cases.expected(query, sort, principal)
        cases.changed.clear()
        newest = max(case["updated"] for case in cases.known.values())
        cases.now = newest + timedelta(microseconds=1)
        found = [case.id for case in await cases.all_pages(query, sort, principal, between=between)]
        unchanged = [case["id"] for case in before if case["id"] not in cases.changed]
        assert [case for case in found if case not in cases.changed] == unchanged, (principal.role, query)
        if sort == "newest":
            assert found == sorted({*found}, key=lambda id_: -cases.known[id_]["seq"]), query
        if "q" in query:  # no case ceases to match
            assert {*found} <= {case["id"] for case in cases.expected(query, sort, principal)}
        since = {"updatedAfter": newest.isoformat()}
        again = [case.id for case in await cases.all_pages(query | since, "updated", principal)]
        assert {case["id"] for case in cases.expected(query, sort, principal)} <= {*found, *again}, query


async def test_count_and_ids_stop_at_their_bound(cases, database):
    """However many cases match. The ids belong to the newest ones."""
    for principal, query in itertools.product(PRINCIPALS, QUERIES):
        expected, asked = cases.expected(query, "newest", principal), CaseQuery.model_validate(query)
        for most in (2, 1000):
            counted = await case_list.count_cases(database, asked, principal, most)
            assert counted == min(len(expected), most), (principal.role, query)
            found = await case_list.find_ids(database, asked, principal, most)
            assert found == [case["id"] for case in expected[:most]], (principal.role, query)


@pytest.fixture
async def narrow_filters(database):
    """Sets of filters that the only case matches: all of them for each sort, and in turn all but one."""
    case = ticket(id="case", subject="A parcel", priority="high", team="team-1", tags=["a", "b", "c"])
    async with database.transaction() as tx:
        await case_rows.add_case(tx, case, [], None)
        await tx.execute(tickets.update().values(sla_due_at=AT))
    filters = {
        "status": "open,pending,resolved",
        "priority": "high",
        "channel": "email",
        "assignedAgentId": "none",
        "team": "team-1",
        "tag": ["a", "b", "c"],
        "updatedAfter": (AT - timedelta(days=1)).isoformat(),
        "dueBefore": (AT + timedelta(days=1)).isoformat(),
        "snoozed": False,
        "q": "parcel",
    }
    fewer = [{name: filters[name] for name in filters if name != left_out} for left_out in filters]
    sets = ([filters, *fewer[number :: len(ALL_SORTS)]] for number in range(len(ALL_SORTS)))
    return [each | {"sort": sort} for sort, chosen in zip(ALL_SORTS, sets, strict=True) for each in chosen]


async def test_search_and_count_take_all_filters_together(database, narrow_filters):
    """SQLite refuses a statement that names a table too often, and parses for seconds before it does."""
    for filters in narrow_filters:
        query = CaseQuery.model_validate(filters)
        page = await case_list.find_cases(database, query, None, SYSTEM)
        assert [found.id for _, found in page.cases] == ["case"], filters
        assert await case_list.count_cases(database, query, SYSTEM, 1000) == 1, filters


async def test_tags_of_a_case_are_kept_by_triggers(cases, database):
    """After each change, and after cases are deleted."""
    async with database.transaction() as tx:
        await case_rows.delete(tx, ["case-1"])
    del cases.known["case-1"]
    ids = {row.seq: row.id for row in await database.fetch_all(sa.select(tickets.c.seq, tickets.c.id))}
    kept = {(ids[row.seq], row.tag) for row in await database.fetch_all(sa.select(ticket_tags))}
    assert kept == {(case["id"], tag) for case in cases.known.values() for tag in case["tags"]}
