"""The case list with 40,000 cases, on both databases: its results, its plans and how its cost grows.

Costs are counted, not timed: pages of PostgreSQL's buffers, and steps of SQLite's virtual machine.
"""

import asyncio
import itertools
import shutil

import pytest
import sqlalchemy as sa
from benchmarks.scale import rows
from benchmarks.scale.load import load
from sqlalchemy.ext.compiler import compiles

from support_service import database as databases
from support_service.cases.model.requests import CaseQuery
from support_service.cases.store import case_list
from support_service.core.domain.principals import SYSTEM, Principal
from support_service.core.search_words import matches_query, search_query
from tests.support.sessions import in_thread

SMALL, FULL = 10_000, 40_000
FILTERS = {
    "status": "open",
    "priority": "urgent",
    "team": "team-1",
    "channel": "email",
    "assigned_agent_id": "agent-1",
    "customer_id": "customer-1",
    "q": rows.RARE,
}
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
    {"team": "nobody"},
    {"channel": "fax"},
    {"status": "open", "priority": "urgent"},
    {"team": "nobody", "status": "open"},
]  # fmt: skip
PRINCIPALS = [
    SYSTEM,
    Principal("agent", "agent", "agent-1", frozenset({"team-1"})),
    Principal("c", "customer", "customer-1"),
]


@pytest.fixture(scope="module")
def postgres_urls(postgres_server, postgres_template):
    """URLs of two databases with SMALL and FULL cases."""
    urls = [postgres_server.url(postgres_server.create_database(postgres_template)) for _ in range(2)]
    for url, count in zip(urls, (SMALL, FULL), strict=True):
        in_thread(load, url, count, lambda *_: None)
    return urls


@pytest.fixture(scope="module")
def sqlite_paths(sqlite_template, tmp_path_factory):
    """Files of two databases with SMALL and FULL cases."""
    folder = tmp_path_factory.mktemp("scale")
    paths = [folder / f"{count}.db" for count in (SMALL, FULL)]
    for path, count in zip(paths, (SMALL, FULL), strict=True):
        shutil.copy(sqlite_template, path)
        load(f"sqlite:///{path}", count, lambda *_: None)
    return paths


@pytest.fixture(params=["sqlite", "postgresql"])
async def full_database(request):
    """The database with FULL cases."""
    if request.param == "sqlite":
        url = f"sqlite:///{request.getfixturevalue('sqlite_paths')[1]}"
    else:
        url = request.getfixturevalue("postgres_urls")[1]
    database = databases.connect(url)
    await database.open()
    yield database
    await database.close()


@pytest.fixture(scope="module")
def stored():
    """Every case, newest first, with the words of each of its documents."""
    cases = [rows.case(seq, FULL) for seq in range(FULL, 0, -1)]
    return [(case, [words for _, words in rows.documents(case, list(rows.messages(case["seq"])))]) for case in cases]


def case_query(query, limit=50):
    """Return the query of a list by the names of columns."""
    return CaseQuery.model_validate({**query, "limit": limit}, by_name=True, by_alias=False)


def expected(stored, query, principal):
    """Return the ids that a search of every case finds."""
    words = search_query(query["q"]) if "q" in query else None
    filters = {name: value for name, value in query.items() if name != "q"}
    return [
        case["id"]
        for case, documents in stored
        if all(case[name] == value for name, value in filters.items())
        and (words is None or any(matches_query(document, words) for document in documents))
        and may_see(principal, case)
    ]


def may_see(principal, case):
    """Return what `Principal.may_see` returns, for a row."""
    owner = {name: case[name] for name in ("customer_id", "assigned_agent_id", "team")}
    return principal.may_see(type("Owner", (), owner))


@pytest.mark.parametrize("principal", PRINCIPALS, ids=lambda principal: principal.role)
@pytest.mark.parametrize("query", QUERIES, ids=str)
async def test_pages_hold_every_matching_case_once_and_in_order(full_database, stored, query, principal):
    """The first pages, and the last one, are those of a search that looks at every case."""
    ids = expected(stored, query, principal)
    found, after = [], None
    for _ in range(4):
        page = await case_list.find(full_database, case_query(query, 40), after, principal)
        found += [case.id for _, case in page.cases]
        assert page.more == (len(found) < len(ids))
        if not page.more:
            break
        after = page.cases[-1][0]
    assert found == ids[: len(found)]
    oldest = {case["id"]: case["seq"] for case, _ in stored[-9000:] if case["id"] in ids[-60:]}
    if len(oldest) > 10:
        after = max(oldest.values())
        page = await case_list.find(full_database, case_query(query, 200), after, principal)
        assert [case.id for _, case in page.cases] == [id_ for id_ in ids if oldest.get(id_, after) < after]


@pytest.mark.parametrize("principal", PRINCIPALS, ids=lambda principal: principal.role)
@pytest.mark.parametrize("query", QUERIES, ids=str)
async def test_count_is_the_number_of_matching_cases(full_database, stored, query, principal):
    """Up to the most that are counted."""
    number = len(expected(stored, query, principal))
    for most in (1001, 3):
        assert await case_list.count(full_database, case_query(query), principal, most) == min(number, most)


class Recorded(Exception):
    """A statement was recorded instead of run."""


def statement(query, principal, *, counts=False):
    """Return the statement of a page, or of a count, with its parameters."""
    run = []

    class Recorder:
        async def fetch_all(self, *statement):
            run.append(statement)
            raise Recorded

    if counts:
        call = case_list.count(Recorder(), case_query(query), principal, 1001)
    else:
        call = case_list.find(Recorder(), case_query(query), None, principal)
    with pytest.raises(Recorded):
        call.send(None)
    return run[0]


class Explain(sa.sql.expression.Executable, sa.sql.expression.ClauseElement):
    """A statement that returns the plan of another, with what it read."""

    inherit_cache = False

    def __init__(self, statement):
        self.statement = statement


@compiles(Explain)
def _(element, compiler, **kw):
    return f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiler.process(element.statement, **kw)}"


async def plan_of(database, query, principal=SYSTEM, *, counts=False):
    """Return PostgreSQL's plan of a page, or of a count, as JSON."""
    page, parameters = statement(query, principal, counts=counts)
    (row,) = await database.fetch_all(Explain(page), parameters)
    (plan,) = next(iter(row._mapping.values()))
    return plan["Plan"]


def nodes(plan):
    """Yield each node of a plan."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def buffers(plan):
    """Return the number of buffers that a plan read."""
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.fixture
async def postgres_databases(postgres_urls):
    """The databases with SMALL and FULL cases."""
    opened = [databases.connect(url) for url in postgres_urls]
    for database in opened:
        await database.open()
    yield opened
    for database in opened:
        await database.close()


@pytest.mark.parametrize("principal", PRINCIPALS, ids=lambda principal: principal.role)
async def test_no_combination_of_filters_reads_a_whole_table(postgres_databases, principal):
    """Each set of filters, with a search or without, has a plan that uses indexes."""
    _, full = postgres_databases
    for size in range(len(FILTERS) + 1):
        for names in itertools.combinations(FILTERS, size):
            plan = await plan_of(full, {name: FILTERS[name] for name in names}, principal)
            read = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
            assert not read, f"{names}: {read}"


async def test_a_search_uses_the_index_right_after_a_bulk_load(postgres_server, postgres_template):
    """Before the first vacuum PostgreSQL has no statistics of the rows."""
    url = postgres_server.url(postgres_server.create_database(postgres_template))
    await asyncio.to_thread(load, url, 5_000, lambda *_: None, analyze=False)
    database = databases.connect(url)
    await database.open()
    for q in (rows.RARE, rows.ABSENT, rows.VOCABULARY[7]):
        plan = await plan_of(database, {"q": q})
        read = {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"}
        assert not read, f"{q}: {read}"
    await database.close()


@pytest.mark.parametrize("counts", [False, True], ids=["page", "count"])
@pytest.mark.parametrize("query", QUERIES, ids=str)
async def test_postgresql_reads_as_much_with_many_cases_as_with_few(postgres_databases, query, counts):
    """A page, or a count, of four times as many cases takes at most twice the buffers, or few."""
    few, many = [buffers(await plan_of(database, query, counts=counts)) for database in postgres_databases]
    assert many <= max(2 * few, 10_000 if counts else 4000)


async def test_a_workload_is_counted_without_reading_the_cases(postgres_databases):
    """An index has all that the count needs."""
    _, full = postgres_databases
    (row,) = await full.fetch_all(Explain(case_list.WORKLOAD), {"agent_id": "agent-1"})
    (plan,) = next(iter(row._mapping.values()))
    scans = [node["Node Type"] for node in nodes(plan["Plan"]) if "Relation Name" in node]
    assert scans == ["Index Only Scan"]


def test_a_workload_of_sqlite_is_counted_in_an_index(sqlite_paths):
    """The index has all that the count needs."""
    engine = sa.create_engine(f"sqlite+pysqlite:///{sqlite_paths[1]}")
    with engine.connect() as connection:
        explained = f"EXPLAIN QUERY PLAN {case_list.WORKLOAD.compile(dialect=engine.dialect)}"
        (step,) = connection.exec_driver_sql(explained, ("agent-1",)).all()
    engine.dispose()
    assert (
        "SEARCH tickets USING COVERING INDEX ix_tickets_assigned_agent_id_status_seq_synthetic_channel" in step.detail
    )


def steps(path, query, *, counts):
    """Return the number of steps of SQLite's virtual machine for a page or a count, in thousands."""
    count = 0

    def step():
        nonlocal count
        count += 1

    engine = sa.create_engine(f"sqlite+pysqlite:///{path}")
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        raw.create_function("words_match", 2, matches_query, deterministic=True)
        page, parameters = statement(query, SYSTEM, counts=counts)
        raw.set_progress_handler(step, 1000)
        connection.execute(page, parameters).all()
    engine.dispose()
    return count


@pytest.mark.parametrize("counts", [False, True], ids=["page", "count"])
@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_sqlite_does_as_much_with_many_cases_as_with_few(sqlite_paths, query, counts):
    """A page, or a count, of four times as many cases takes at most twice the steps, or few."""
    few, many = (steps(path, query, counts=counts) for path in sqlite_paths)
    assert many <= max(2 * few, 1000 if counts else 200)
