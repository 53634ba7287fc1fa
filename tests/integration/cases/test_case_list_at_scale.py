"""The case list with many cases, on both databases: its results, its plans and how its cost grows.

Costs are counted, not timed: pages of PostgreSQL's buffers, and steps of SQLite's virtual machine, at least eight for
each row that it reads. One worker loads the databases for all, which copy them.

The short form has fewer cases. Each principal has a share of the queries, and each filter alone in each sort. The long
form has all queries for every principal. With it the words of a search are rare enough for PostgreSQL's growth.
"""

import asyncio
import itertools
import json
import os
import shutil
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from benchmarks.scale import clocks, rows
from benchmarks.scale.load import load
from sqlalchemy.ext.compiler import compiles

from support_service.cases import gauges
from support_service.cases.listing import case_list
from support_service.cases.listing.case_sorts import CasePlace
from support_service.cases.model.requests import CaseQuery
from support_service.cases.sql import clock_rows
from support_service.core.domain.principals import SYSTEM, Principal
from support_service.core.search_words import matches_query, parse_search_query
from support_service.desk.agents import PAGE_OF_AGENTS
from support_service.platform.database.shared import create_database
from support_service.platform.database.statements import with_padded_lists
from tests.support.sessions import MIGRATED, copied_postgres, in_thread, running_postgres

pytestmark = pytest.mark.timeout(900)  # each test of the long form goes through all queries

FULL = int(os.environ.get("SCALE_CASES", "6000"))
SMALL = FULL // 4
IS_LONG = FULL >= 40_000
# The middle of each third of the cases. A search begins in the last third. Two of its steps end where the others have
# their middle.
MIDDLES = (1 << 17, 17 << 14, 304_000)
RECENTLY = rows.START + timedelta(seconds=40 * MIDDLES[-1], hours=400)
SOON = clocks.DUE_FROM + clocks.DUE_RANGE / 100  # half of the open cases are overdue, few are due until then
FILTERS = {
    "status": "open",
    "priority": "urgent",
    "team": "team-1",
    "channel": "email",
    "assigned_agent_id": "agent-1",
    "customer_id": "customer-1",
    "q": rows.RARE,
}
WAITING_BY = [
    ("status", "pending"),
    ("assigned_agent_id", "agent-1"),
    ("team", "team-1"),
    ("team", "nobody"),
    ("priority", "urgent"),
]
QUERIES = [
    *({name: value} for name, value in FILTERS.items()),
    {"q": rows.FREQUENT},
    {"q": rows.ABSENT},
    {"q": rows.VOCABULARY[7]},
    {"q": rows.VOCABULARY[7][:2]},
    {"q": f"{rows.FREQUENT} {rows.VOCABULARY[7]}"},
    {"q": f'"{rows.RARE} {rows.FREQUENT}"'},
    {"q": rows.RARE, "status": "open"},
    {"q": "customer 1", "customer_id": "customer-1"},
    {"q": rows.FREQUENT, "team": "nobody"},
    {"q": rows.FREQUENT, "priority": "urgent"},
    {"q": rows.FREQUENT, "status": "open,pending", "channel": "fax"},
    {"q": rows.FREQUENT, "assigned_agent_id": "agent-1"},
    {"q": rows.FREQUENT, "tag": [rows.RARE_TAG]},
    {"q": rows.ABSENT, "status": "closed"},
    {"team": "nobody"},
    {"channel": "fax"},
    {"status": "open", "priority": "urgent"},
    {"team": "nobody", "status": "open"},
    {"status": "open,pending"},
    {"status": "open,pending", "team": "team-1"},
    {"assigned_agent_id": "none"},
    {"team": "none", "status": "open"},
    {"tag": [rows.FREQUENT_TAG]},
    {"tag": [rows.FREQUENT_TAG], "status": "open,closed"},
    {"tag": [rows.RARE_TAG]},
    {"tag": [rows.RARE_TAG], "sort": "updated"},
    {"q": rows.FREQUENT, "sort": "updated"},
    {"q": rows.FREQUENT, "sort": "waiting", "status": "open"},
    {"q": rows.RARE, "sort": "updated"},
    {"q": rows.RARE, "sort": "updated", "status": "open,closed"},
    {"q": rows.ABSENT, "sort": "waiting"},
    {"q": rows.VOCABULARY[7], "sort": "updated", "priority": "urgent"},
    {"q": rows.FREQUENT, "tag": [rows.FREQUENT_TAG], "status": "resolved,closed"},
    {"order_id": str(MIDDLES[0])},
    {"order_id": str(MIDDLES[0]), "sort": "updated"},
    {"payment_id": str(MIDDLES[0])},
    {"sort": "updated"},
    {"sort": "updated", "status": "closed"},
    {"sort": "updated", "status": "open,pending", "priority": "high"},
    {"sort": "updated", "updated_after": RECENTLY},
    {"sort": "waiting"},
    {"sort": "waiting", "status": "open", "channel": "email"},
    {"sort": "waiting", "status": "closed"},
    {"sort": "waiting", "assigned_agent_id": "none"},
    {"sort": "waiting", "team": "none"},
    *({"sort": "waiting", column: value} for column, value in WAITING_BY),
    {"due_before": SOON},
    {"due_before": rows.START},
    {"due_before": SOON, "assigned_agent_id": "agent-1"},
    {"sort": "due"},
    {"sort": "due", "due_before": SOON},
    {"sort": "due", "assigned_agent_id": "agent-1"},
    {"sort": "due", "team": "nobody"},
    {"sort": "due", "priority": "urgent"},
    {"sort": "due", "status": "pending"},
    {"sort": "due", "tag": [rows.RARE_TAG]},
    {"sort": "due", "q": rows.FREQUENT},
    {"tag": [rows.RARE_TAG, rows.FREQUENT_TAG]},
    {"tag": [rows.FREQUENT_TAG], "sort": "updated"},
    {"tag": [rows.FREQUENT_TAG], "sort": "waiting"},
    {"updated_after": RECENTLY},
    {"snoozed": True},
    {"snoozed": True, "team": "team-1"},
]  # fmt: skip
NEW_FILTERS = {
    "status": "open,pending",
    "assigned_agent_id": "none",
    "team": "none",
    "tag": [rows.FREQUENT_TAG],
    "order_id": str(MIDDLES[0]),
    "payment_id": str(MIDDLES[0]),
    "shipment_id": str(MIDDLES[0]),
    "updated_after": RECENTLY,
    "due_before": SOON,
}
# SQLite reads all cases of a status or a tag for these.
READ_IN_FULL_ON_SQLITE = (
    {"sort": "updated", "status": "closed"},
    {"tag": [rows.FREQUENT_TAG], "sort": "updated"},
    {"tag": [rows.RARE_TAG, rows.FREQUENT_TAG]},
)
SORTS = ("newest", "updated", "waiting", "due")
PRINCIPALS = [
    SYSTEM,
    Principal("agent", "agent", "agent-1", frozenset({"team-1"})),
    Principal("c", "customer", "customer-1"),
]


@pytest.fixture(scope="module", autouse=True)
def rare_word():
    """Let one case in 200 have the rare word, at any number of cases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "RARE_CASES", FULL // 200)
        yield


def share(queries, principal, of):
    """Return the queries of a principal: all in the long form, and in the short form one of every `of`."""
    return queries if IS_LONG else queries[PRINCIPALS.index(principal) :: of]


def load_in_thirds(url, count):
    """Load cases into a database."""
    load(url, count, lambda *_: None, seq_of=lambda number: seq_of(number, count))


def seq_of(number, count):
    """Return the seq of one of `count` cases, which are numbered from 1."""
    size = -(-count // len(MIDDLES))
    third, place = divmod(number - 1, size)
    return MIDDLES[third] - size // 2 + place


@pytest.fixture(scope="module")
def postgres_urls(postgres_cluster, built_once):
    """URLs of two databases with SMALL and FULL cases."""
    names = {f"cases_{count}": count for count in (SMALL, FULL)}

    def build(folder):
        with running_postgres(folder, postgres_cluster) as server:
            for name, count in names.items():
                server.create_database(MIGRATED, name)
                in_thread(load_in_thirds, server.url(name), count)

    with copied_postgres(built_once("postgres-scale", build)) as server:
        yield [server.url(name) for name in names]


@pytest.fixture(scope="module")
def sqlite_path(sqlite_template, built_once, tmp_path_factory):
    """The file of a database with FULL cases."""

    def build(folder):
        path = shutil.copy(sqlite_template, folder / "cases.db")
        load_in_thirds(f"sqlite:///{path}", FULL)

    folder = tmp_path_factory.mktemp("scale")
    yield shutil.copy(built_once("sqlite-scale", build) / "cases.db", folder)
    shutil.rmtree(folder)


@pytest.fixture
async def full_databases(sqlite_path, postgres_urls):
    """The databases with FULL cases, by kind."""
    opened = {"sqlite": create_database(f"sqlite:///{sqlite_path}"), "postgresql": create_database(postgres_urls[1])}
    for database in opened.values():
        await database.open()
    yield opened
    for database in opened.values():
        await database.close()


class StoredCases:
    """Every case, newest first, and which of them match a search."""

    def __init__(self):
        newest_first = (rows.case(seq_of(number, FULL), FULL) for number in range(FULL, 0, -1))
        self.cases = [{**case, "snoozed": case["snoozed_until"] is not None} for case in newest_first]
        self._documents = [
            (case["id"], [words for _, words in rows.documents(case, list(rows.messages(case["seq"])))])
            for case in self.cases
        ]
        self._found = {}
        self._seen_by = {}

    def seen_by(self, principal):
        """Return the cases that a principal may see."""
        if principal.name not in self._seen_by:
            self._seen_by[principal.name] = [case for case in self.cases if may_see(principal, case)]
        return self._seen_by[principal.name]

    def matching(self, q):
        """Return the ids of the cases with a document that matches."""
        if q not in self._found:
            words = parse_search_query(q)
            self._found[q] = {
                id_ for id_, documents in self._documents if any(matches_query(each, words) for each in documents)
            }
        return self._found[q]


@pytest.fixture(scope="module")
def stored():
    """The cases of a database with FULL cases."""
    return StoredCases()


def case_query(query, limit=50):
    """Return the query of a list by the names of columns. Times are text, as clients send them."""
    sent = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in query.items()}
    return CaseQuery.model_validate({**sent, "limit": limit}, by_name=True, by_alias=False)


def matches(case, name, value):
    """Return whether a case matches one filter."""
    if name == "tag":
        return set(value) <= set(json.loads(case["tags"]))
    if name in ("order_id", "payment_id", "shipment_id"):
        return name == "order_id" and case["seq"] == int(value)
    if name == "updated_after":
        return case["updated_at"] > value
    if name == "due_before":
        return case["sla_due_at"] is not None and case["sla_due_at"] < value
    if name == "status":
        return case["status"] in value.split(",")
    return case[name] == (None if value == "none" else value)


def expected(stored, query, principal):
    """Return the ids that a search of every case finds."""
    found = stored.matching(query["q"]) if "q" in query else None
    filters = {name: value for name, value in query.items() if name not in ("q", "sort")}
    cases = [
        case
        for case in stored.seen_by(principal)
        if all(matches(case, *each) for each in filters.items()) and (found is None or case["id"] in found)
    ]
    if query.get("sort") == "updated":
        cases.sort(key=lambda case: (case["updated_at"], case["seq"]), reverse=True)
    if principal.role == "customer" and "due_before" in query:
        cases = [case for case in cases if case["sla_policy"] == 1]  # whose clocks are public
    if query.get("sort") == "due":
        cases = timed_first(cases, "sla_due_at", lambda case: principal.role != "customer" or case["sla_policy"] == 1)
    if query.get("sort") == "waiting":
        cases = timed_first(cases, "waiting_since", lambda case: case["status"] in ("open", "pending"))
    return [case["id"] for case in cases]


def timed_first(cases, name, is_sorted):
    """Return the cases that have a time, in its order, then the others, newest first."""
    timed = [case for case in cases if case[name] and is_sorted(case)]
    placed = {case["id"] for case in timed}
    others = [case for case in cases if case["id"] not in placed]
    return sorted(timed, key=lambda case: (case[name], case["seq"])) + sorted(others, key=lambda case: -case["seq"])


def may_see(principal, case):
    """Return what `Principal.may_see` returns, for a row."""
    return principal.may_see(SimpleNamespace(**case))


@pytest.mark.parametrize("principal", PRINCIPALS, ids=lambda principal: principal.role)
async def test_pages_and_counts_are_those_of_a_search_of_every_case(full_databases, stored, principal):
    """Each query has every matching case once and in order on its first pages and its last one, and counts them."""
    for query in share(QUERIES, principal, len(PRINCIPALS)):
        ids = expected(stored, query, principal)
        last_ids = set(ids[-60:])
        oldest = {case["id"]: case["seq"] for case in stored.cases[-9000:] if case["id"] in last_ids}
        for name, database in full_databases.items():
            assert await first_pages(database, query, principal) == (ids[:160], len(ids) > 160), (name, query)
            if "sort" not in query and len(oldest) > 10:
                after = max(oldest.values())
                page = await case_list.find_cases(database, case_query(query, 200), CasePlace(after), principal)
                last = [id_ for id_ in ids if oldest.get(id_, after) < after]
                assert [case.id for _, case in page.cases] == last, (name, query)
            for most in (1001, 3):
                number = await case_list.count_cases(database, case_query(query), principal, most)
                assert number == min(len(ids), most), (name, query)


async def first_pages(database, query, principal):
    """Return the ids of the first four pages of 40 cases, and whether more follow. Each page says so, too."""
    found, after = [], None
    for _ in range(4):
        page = await case_list.find_cases(database, case_query(query, 40), after, principal)
        found += [case.id for _, case in page.cases]
        if not page.has_more:
            return found, False
        assert len(page.cases) == 40, query
        after = page.cases[-1][0]
    return found, True


class Recorded(Exception):
    """A statement was recorded instead of run."""


def statement(query, principal=SYSTEM, *, counts=False, after=None, limit=50):
    """Return the statement of a page of at most `limit` cases, or of a count, with its parameters."""
    run = []

    class Recorder:
        async def fetch_all(self, *statement):
            run.append(statement)
            raise Recorded

    if counts:
        call = case_list.count_cases(Recorder(), case_query(query), principal, 1001)
    else:
        call = case_list.find_cases(Recorder(), case_query(query, limit), after, principal)
    with pytest.raises(Recorded):
        call.send(None)
    return run[0]


class Explain(sa.sql.expression.Executable, sa.sql.expression.ClauseElement):
    """A statement that returns the plan of another."""

    inherit_cache = False

    def __init__(self, statement, options):
        self.statement = statement
        self.options = options


@compiles(Explain)
def _(element, compiler, **kw):
    return f"EXPLAIN {element.options} {compiler.process(element.statement, **kw)}"


async def plan_of(database, statement, parameters=None, *, runs=True):
    """Return PostgreSQL's plan of a statement as JSON. If the statement `runs`, the plan has what it read."""
    options = "(ANALYZE, BUFFERS, FORMAT JSON)" if runs else "(FORMAT JSON)"
    (row,) = await database.fetch_all(Explain(statement, options), parameters)
    return json.loads(row[0])[0]["Plan"]


def nodes(plan):
    """Yield each node of a plan."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def read_in_full(plan):
    """Return the tables that a plan reads as a whole."""
    return {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}


def indexes(plan):
    """Return the indexes that a plan reads."""
    return {node["Index Name"] for node in nodes(plan) if "Index Name" in node}


def buffers(plan):
    """Return the number of buffers that a plan read."""
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.fixture
async def postgres_databases(postgres_urls):
    """The databases with SMALL and FULL cases."""
    opened = [create_database(url) for url in postgres_urls]
    for database in opened:
        await database.open()
    yield opened
    for database in opened:
        await database.close()


@pytest.fixture
def full(postgres_databases):
    """The database with FULL cases on PostgreSQL."""
    return postgres_databases[1]


@pytest.fixture
def full_sqlite(sqlite_path):
    """A connection to the database with FULL cases on SQLite."""
    engine = sa.create_engine(f"sqlite+pysqlite:///{sqlite_path}")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def sqlite_plan(connection, statement, parameters=None):
    """Return the steps of SQLite's plan."""
    explained = connection.execute(Explain(statement, "QUERY PLAN"), parameters or {})
    return [detail for *_, detail in explained.cursor.fetchall()]


def sqlite_steps(connection, statement, parameters):
    """Run a statement, and return the steps of SQLite's virtual machine, in tens."""
    steps, raw = itertools.count(), connection.connection.driver_connection
    raw.set_progress_handler(lambda: next(steps) < 0, 10)
    connection.execute(statement, with_padded_lists(statement, parameters)).all()
    raw.set_progress_handler(None, 0)
    return 10 * next(steps)


@pytest.mark.parametrize("counts", [False, True], ids=["page", "count"])
def test_lists_on_sqlite_read_few_rows(full_sqlite, counts):
    """A page of one case reads less than a quarter of the cases, and a count ends at 1,001 matches."""
    most = max(2 * FULL, 25 * 1001) if counts else 2 * FULL
    for query in QUERIES:
        if "q" not in query and query not in READ_IN_FULL_ON_SQLITE:
            steps = sqlite_steps(full_sqlite, *statement(query, counts=counts, limit=1))
            assert 0 < steps < most, query


@pytest.mark.parametrize("principal", PRINCIPALS, ids=lambda principal: principal.role)
async def test_no_combination_of_filters_reads_a_whole_table(full, principal):
    """Each set of filters, with a search or without, has a plan that uses indexes."""
    sizes = range(len(FILTERS) + 1)
    combinations = [names for size in sizes for names in itertools.combinations(FILTERS, size)]
    for names in share(combinations, principal, 18):
        query = {name: FILTERS[name] for name in names}
        assert not read_in_full(await plan_of(full, *statement(query, principal), runs=False)), names


async def test_a_search_uses_the_index_right_after_a_bulk_load(postgres_server, postgres_template):
    """Before the first vacuum PostgreSQL has no statistics of the rows."""
    url = postgres_server.url(postgres_server.create_database(postgres_template))
    await asyncio.to_thread(load, url, 5_000, lambda *_: None, analyze=False)
    database = create_database(url)
    await database.open()
    for q in (rows.RARE, rows.ABSENT, rows.VOCABULARY[7]):
        assert not read_in_full(await plan_of(database, *statement({"q": q}))), q
    await database.close()


def sorted_pairs(principal):
    """Return queries with each filter alone, with a principal's share of two filters, and with none, in each sort."""
    filters = [{name: value} for each in (FILTERS, NEW_FILTERS) for name, value in each.items()]
    pairs = [one | other for one, other in itertools.combinations(filters, 2) if one.keys() != other.keys()]
    return [query | {"sort": sort} for sort in SORTS for query in ({}, *filters, *share(pairs, principal, 18))]


@pytest.mark.parametrize("principal", PRINCIPALS, ids=lambda principal: principal.role)
async def test_no_sort_of_two_filters_reads_a_whole_table(full, principal):
    """Each filter, and each two, has a plan that uses indexes in each sort."""
    for query in sorted_pairs(principal):
        # Most entries of the table of tags are of one tag, so that it is read as a whole.
        assert read_in_full(await plan_of(full, *statement(query, principal), runs=False)) <= {"ticket_tags"}, query


@pytest.mark.parametrize("counts", [False, True], ids=["page", "count"])
async def test_many_cases_cost_as_much_as_few(postgres_databases, counts):
    """A page, or a count, of four times as many cases takes at most twice the buffers, or few."""
    for query in QUERIES:
        if "q" in query and not IS_LONG:
            continue
        page = statement(query, counts=counts)
        few, many = [buffers(await plan_of(database, *page)) for database in postgres_databases]
        # A count ends at 1,001 matches; each is found one by one, with ten to eleven buffers.
        assert many <= max(2 * few, 11 * 1001 if counts else 4500), query


async def test_waiting_cases_of_one_value_are_found_by_an_index(full):
    """The page does not read the other waiting cases, which are many in a backlog.

    Only active cases are in the order of waiting, so that the newest closed cases come first.
    """
    for column, value in WAITING_BY:
        plan = await plan_of(full, *statement({"sort": "waiting", column: value}))
        assert f"ix_tickets_{column}_waiting_since_seq" in indexes(plan), value
    closed = await plan_of(full, *statement({"sort": "waiting", "status": "closed,resolved"}))
    assert not [name for name in indexes(closed) if "waiting" in name]


async def test_active_cases_without_a_time_are_found_by_an_index(full):
    """The page behind the last case with a time does not read the cases with one."""
    behind_times = CasePlace(1 << 40, rows.START + timedelta(days=36_500))
    for sort, index in (("waiting", "ix_tickets_without_wait"), ("due", "ix_tickets_without_due_time")):
        for status in ("open", "pending"):
            query = {"sort": sort, "status": status}
            plan = await plan_of(full, *statement(query, after=behind_times))
            assert (index in indexes(plan), buffers(plan) < 1200) == (True, True), query


@pytest.mark.parametrize(
    ("read", "parameters", "most"),
    [
        (clock_rows.CASES_DUE, {"now": SOON, "count": 200}, 400),
        (clock_rows.CASES_DUE, {"now": rows.START, "count": 200}, 10),
        (gauges.OLDEST_CLOCKS, {}, 40),
        (gauges.CLOCK_COUNTS.select, {}, 10),
        (gauges.OLDEST_WAITING, {}, 10),
    ],
    ids=["due clocks", "no due clock", "oldest clocks", "running clocks", "longest wait"],
)
async def test_gauges_and_due_clocks_are_read_by_an_index(full, read, parameters, most):
    """Replicas read them every few seconds, however many cases have clocks, or customers wait."""
    plan = await plan_of(full, read, parameters)
    assert read_in_full(plan) <= {"clock_counts"}
    assert buffers(plan) < most


async def test_the_directory_reads_the_first_entries_of_an_index_for_each_person(postgres_databases, full_sqlite):
    """Counters have the numbers of cases. Nothing grows with the cases that people have."""
    page = PAGE_OF_AGENTS, {"after": 0, "one_more": 51, "soon": SOON}
    small, full = [await plan_of(database, *page) for database in postgres_databases]
    assert read_in_full(small) | read_in_full(full) <= {"agents", "agent_counts"}
    assert buffers(full) < 2 * buffers(small)
    details = sqlite_plan(full_sqlite, *page)
    assert any("ix_tickets_assigned_agent_id_sla_due_at_seq" in detail for detail in details)
    assert not [detail for detail in details if detail.startswith("SCAN tickets")]


async def test_a_workload_is_counted_without_reading_the_cases(full, full_sqlite):
    """An index has all that the count needs."""
    count = case_list.COUNT_BY_STATUS, {"agent_id": "agent-1"}
    scans = [node["Node Type"] for node in nodes(await plan_of(full, *count)) if "Relation Name" in node]
    assert scans == ["Index Only Scan"]
    (detail,) = sqlite_plan(full_sqlite, *count)
    assert "SEARCH tickets USING COVERING INDEX ix_tickets_assigned_agent_id_status_seq_synthetic_channel" in detail
