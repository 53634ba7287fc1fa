"""Reports over HTTP: what happened, who may read what of it, and a row for each case."""

import csv
import io
import json
from datetime import date, timedelta
from itertools import pairwise

import pytest
import pytest_asyncio
import sqlalchemy as sa

from support_service.api import reports as routes
from support_service.client import NoAnswer, SupportClient
from support_service.core.clock import utc_now
from support_service.core.errors import Unavailable
from support_service.platform.database.tables import report_changes, tickets
from support_service.reports import case_report
from tests.support.calls import add_message, eventually, expect_json, expect_problem, open_case, read_detail
from tests.support.each import each_row
from tests.support.service import service_of
from tests.support.service_levels import move_due_times

REPORTS, CASES = "/support/reports", "/support/reports/cases"
NOTHING = {"count": 0, "median": None, "p90": None}
NO_BREACH = {"firstResponse": 0, "nextResponse": 0, "resolution": 0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(make_shared_client, shared_constants):
    """A client of a service that looks for breaches, and adds to the counters, often."""
    shared_constants("cases.clocks.breaches", INTERVAL=0.02)
    shared_constants("reports.counters", ADD_INTERVAL=0.02, MIN_OCCURRENCES=1)
    return await make_shared_client()


async def report(client, **query):
    return (await expect_json(client.get(REPORTS, params=query)))["items"]


async def set_status(client, case, *statuses):
    for status in statuses:
        await expect_json(client.post(f"/support/cases/{case['id']}/status?status={status}"))


async def counted(client):
    """Wait until every occurrence is in the counters."""

    async def none_waits():
        return not await service_of(client).database.fetch_all(report_changes.select())

    await eventually(none_waits)


async def move_to(client, case, day):
    """Let a case have been opened on another day."""
    at = utc_now().replace(year=day.year, month=day.month, day=day.day)
    async with service_of(client).database.transaction() as tx:
        await tx.execute(tickets.update().where(tickets.c.id == case["id"]).values(created_at=at))


async def test_report_counts_what_happened(client):
    """The same before and after the occurrences are in the counters."""
    request = client.put("/support/sla-policies/all", json={"targets": {"firstResponse": "PT1H", "resolution": "PT8H"}})
    await expect_json(request, 201)
    case = await open_case(client, assignedAgentId="ann", team="returns")
    await move_due_times(client, hours=0, targets=("firstResponse",))
    await open_case(client, channel="chat")
    await add_message(client, case, authorType="agent")
    await set_status(client, case, "resolved", "open", "closed")
    today = case["createdAt"][:10]

    async def read():
        rows = await report(client, by="day,agent")
        return rows if any(row["breaches"]["firstResponse"] for row in rows) else None

    rows = await eventually(read)
    nobody, ann = rows
    numbers = {"opened": 1, "solved": 0, "reopened": 0, "breaches": NO_BREACH}
    times = dict.fromkeys(("firstAnswer", "resolution"), NOTHING)
    assert nobody == {"day": today, **dict.fromkeys(("team", "agent", "channel")), **numbers, **times}
    assert (ann["agent"], ann["opened"], ann["solved"], ann["reopened"]) == ("ann", 1, 2, 1)
    assert ann["firstAnswer"]["count"] == 1
    assert ann["firstAnswer"]["p90"] == ann["firstAnswer"]["median"] >= 1
    assert ann["resolution"]["count"] == 2
    assert ann["breaches"] == NO_BREACH | {"firstResponse": 1}
    await counted(client)
    assert await report(client, by="day,agent") == rows
    assert [row["channel"] for row in await report(client, by="channel")] == ["chat", "email"]
    assert [row["opened"] for row in await report(client, by="team", agent="none")] == [1]
    assert await report(client, team="returns") == [{**ann, "agent": None}]
    assert await report(client, channel="fax") == []
    assert await report(client, to="2020-01-31") == []


async def test_undone_merge_of_a_resolved_case_counts_nothing(client):
    """The case has its status back in one change: nobody has reopened it or solved it again."""
    case, original = await open_case(client), await open_case(client)
    await set_status(client, case, "resolved")
    await expect_json(client.post(f"/support/cases/{case['id']}/merge", json={"into": original["id"]}))
    (link,) = (await read_detail(client, case))["links"]
    await expect_json(client.delete(f"/support/cases/{case['id']}/links/{link['id']}"), 204)
    timeline = (await read_detail(client, case))["timeline"]
    statuses = [each["changes"]["status"] for each in timeline if "status" in each.get("changes", {})]
    assert statuses[1:] == [["open", "resolved"], ["resolved", "closed"], ["closed", "resolved"]]
    await counted(client)
    (row,) = await report(client)
    assert (row["solved"], row["reopened"]) == (1, 0)


async def test_pages_of_a_report_by_days(client):
    """The cursor leads to the next day; the rows belong to one page."""
    for number in range(5):
        await open_case(client, assignedAgentId=f"agent-{number % 3}")
    async with service_of(client).database.transaction() as tx:
        for number, row in enumerate(await tx.fetch_all(report_changes.select())):
            moved = report_changes.update().where(report_changes.c.seq == row.seq)
            await tx.execute(moved.values(at=row.at - timedelta(days=number)))
    whole = await report(client, by="day,agent")
    assert [row["day"] for row in whole] == sorted(row["day"] for row in whole)
    assert sum(row["opened"] for row in whole) == 5
    query, rows = {"by": "day,agent", "limit": "1"}, []
    while True:
        page = await expect_json(client.get(REPORTS, params=query))
        rows += page["items"]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
    assert rows == whole


A_WRONG_QUESTION_IS_REFUSED = [
    ({"by": "hour"}, "by"),
    ({"by": "day,team,agent"}, "by"),
    ({"by": "day,day"}, ""),
    ({"from": "2026-02-30"}, "from"),
    ({"from": "2026-02-02", "to": "2026-02-01"}, ""),
    ({"to": "0001-01-05"}, "to"),
    ({"from": "0001-01-01", "by": "team"}, "from"),
    ({"from": "2026-02-02", "to": "9999-12-31"}, "to"),
    ({"limit": "0"}, "limit"),
    ({"cursor": "abc"}, "cursor"),
]


@each_row("query, field", A_WRONG_QUESTION_IS_REFUSED)
async def test_a_wrong_question_is_refused(client, query, field):
    """The error names the field."""
    async with client.get(REPORTS, params=query) as response:
        problem = await response.json()
    assert (response.status, problem["code"]) == (422, "invalid_request")
    assert problem["errors"][0]["field"].startswith(field)


async def test_agents_read_their_own_reports_and_those_of_their_teams(desk):
    """Supervisors and analysts read all; customers and services none."""
    await desk.open_case(assignedAgentId="agent-1", team="billing")
    await desk.open_case(assignedAgentId="agent-2", team="billing")
    await desk.open_case(assignedAgentId="agent-2", team="returns")

    async def rows(name, query=""):
        items = (await desk.send("GET", f"{REPORTS}?by=agent,team{query}", name))["items"]
        return {(row["agent"], row["team"]) for row in items}

    everything = {("agent-1", "billing"), ("agent-2", "billing"), ("agent-2", "returns")}
    assert await rows("supervisor") == await rows("analyst") == everything
    assert await rows("lan") == await rows("lan", "&agent=agent-1") == {("agent-1", "billing")}
    assert await rows("lan", "&team=billing") == {("agent-1", "billing")}  # not a team of hers: her own cases
    assert await rows("lan", "&team=returns&agent=agent-1") == set()
    page = await desk.send("GET", f"{REPORTS}?by=team&team=returns", "lan")
    assert [(row["team"], row["opened"]) for row in page["items"]] == [("returns", 1)]  # a colleague's, in the sum
    colleagues = [("lan", "&team=returns"), ("lan", "&team=returns&agent=agent-2"), ("lan", "&agent=agent-2")]
    colleagues += [("minh", "&team=billing&agent=agent-1"), ("lan", "&agent=none")]
    for name, query in (*colleagues, ("ann", ""), ("service", "")):
        await desk.send("GET", f"{REPORTS}?by=agent{query}", name, status=(403,))
    for name in ("lan", "ann", "service"):
        await desk.send("GET", CASES, name, status=(403,))


async def read_cases(client, **query):
    """Return the text of the report with a row for each case."""
    async with client.get(CASES, params=query) as response:
        assert response.status == 200, await response.text()
        return response.content_type, await response.text()


async def test_each_case_has_a_row(client, monkeypatch):
    """In the order of the openings, as JSON Lines and as CSV, whatever the size of the pages and the times of cases."""
    monkeypatch.setattr(case_report, "PAGE_SIZE", 2)
    cases = [await open_case(client, team="returns") for _ in range(5)]
    await open_case(client, channel="synthetic")
    first = cases[0]
    await add_message(client, first, authorType="customer")
    await add_message(client, first, authorType="agent")
    await set_status(client, first, "closed", "open", "closed")
    kind, text = await read_cases(client)
    rows = [json.loads(line) for line in text.splitlines()]
    assert kind == "application/x-ndjson"
    assert [row["id"] for row in rows] == [case["id"] for case in cases]
    assert all(earlier["openedAt"] < later["openedAt"] for earlier, later in pairwise(rows))
    answer, resolution = rows[0].pop("firstAnswerSeconds"), rows[0].pop("resolutionSeconds")
    assert 0 < answer < resolution
    fields = {"channel": "email", "team": "returns", "agent": None, "priority": "normal", "status": "closed"}
    numbers = {"reopened": 1, "messages": 2, "breaches": 0}
    assert rows[0] == {"id": first["id"], "openedAt": first["createdAt"], **fields, **numbers}
    assert (rows[1]["firstAnswerSeconds"], rows[1]["resolutionSeconds"], rows[1]["messages"]) == (None, None, 0)
    kind, text = await read_cases(client, format="csv")
    table = list(csv.DictReader(io.StringIO(text)))
    assert kind == "text/csv"
    assert list(table[0]) == list(case_report.COLUMNS)
    assert [row["id"] for row in table] == [case["id"] for case in cases]
    assert (table[0]["openedAt"], table[0]["agent"], table[0]["reopened"]) == (first["createdAt"], "", "1")
    async with service_of(client).database.transaction() as tx:  # a page ends between cases of the same time
        await tx.execute(
            tickets.update().values(created_at=sa.select(sa.func.min(tickets.c.created_at)).scalar_subquery())
        )
    _, text = await read_cases(client)
    assert [json.loads(line)["id"] for line in text.splitlines()] == [case["id"] for case in cases]


async def test_rows_are_of_cases_that_were_opened_on_the_days(client):
    """The first and the last day are included."""
    cases = [await open_case(client) for _ in range(4)]
    for number, case in enumerate(cases):
        await move_to(client, case, date(2026, 3, 9 + number))
    _, text = await read_cases(client, **{"from": "2026-03-10", "to": "2026-03-11"})
    assert [json.loads(line)["id"] for line in text.splitlines()] == [case["id"] for case in cases[1:3]]
    assert await read_cases(client, **{"from": "2026-03-13", "to": "2026-03-14"}) == ("application/x-ndjson", "")


async def test_texts_of_customers_do_no_harm(client):
    """A spreadsheet that opens the file runs no formula. An unknown channel, which may name a person, is `other`."""
    await open_case(client, team="=1+1", channel="Ann Lee, 0900000000")
    _, text = await read_cases(client, format="csv")
    assert next(csv.DictReader(io.StringIO(text)))["team"] == "'=1+1"
    async with client.head(CASES, params={"format": "csv"}) as response:
        assert (response.status, response.content_type) == (200, "text/csv")
    await expect_problem(client.get(CASES, params={"format": "xls"}), 422, "invalid_request")
    await counted(client)
    assert [row["channel"] for row in await report(client, by="channel")] == ["other"]
    assert [row["opened"] for row in await report(client, channel="other")] == [1]


async def test_analysts_get_no_private_channel(desk):
    """Supervisors do."""
    await desk.open_case(channel="Ann Lee")
    texts = {}
    for name in ("supervisor", "analyst"):
        headers = {"Authorization": f"Bearer {desk.tokens[name]}"}
        async with desk.client.get(CASES, headers=headers) as response:
            texts[name] = json.loads(await response.text())["channel"]
    assert texts == {"supervisor": "Ann Lee", "analyst": "other"}


async def test_a_part_of_the_rows_does_not_pass_for_the_whole(client, monkeypatch):
    """The connection is aborted, and the client of the API raises an error."""
    monkeypatch.setattr(case_report, "PAGE_SIZE", 1)
    for _ in range(3):
        await open_case(client)
    pages = case_report.read_pages

    async def break_down(*arguments):
        async for page in pages(*arguments):
            yield page
            raise Unavailable("database_unavailable", "The database is away.")

    async with SupportClient(str(client.make_url("/"))) as api:
        assert b"".join([block async for block in api.export_report(format="csv")]).count(b"\r\n") == 4
        monkeypatch.setattr(routes, "read_pages", break_down)
        with pytest.raises(NoAnswer):
            assert [block async for block in api.export_report()]
