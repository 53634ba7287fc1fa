"""Saved views of the list of cases."""

import itertools
from datetime import timedelta

import pytest_asyncio

from support_service.cases.model.requests import CaseFilters, CaseQuery
from support_service.core.clock import format_time, utc_now
from support_service.platform.database.tables import tickets, views
from tests.support.calls import add_message, expect_json, expect_problem, list_cases, open_case
from tests.support.each import each_row
from tests.support.service import service_of

VIEWS = "/support/views"


NUMBERS = itertools.count(1)


async def save(client, name=None, query=None, **fields):
    body = {"name": name or f"View {next(NUMBERS)}", "query": {"status": "open"} if query is None else query} | fields
    return await expect_json(client.post(VIEWS, json=body), 201)


async def read(client, path=VIEWS, **query):
    """Return the JSON of a view, or of a page of views."""
    return await expect_json(client.get(path, params=query))


async def test_view_is_saved_read_changed_and_deleted(client):
    """A view without a team belongs to the caller. Its query is replaced as a whole."""
    query = {"status": ["pending", "OPEN"], "priority": "medium", "customer_id": "c", "q": "", "team": None, "tag": []}
    async with client.post(VIEWS, json={"name": "Mine", "query": query}) as response:
        assert response.status == 201
        saved = await response.json()
        assert (response.headers["ETag"], response.headers["Location"]) == ('"1"', f"{VIEWS}/{saved['id']}")
    assert saved.keys() == {"id", "name", "owner", "team", "query", "createdAt", "updatedAt"}
    assert (saved["name"], saved["owner"], saved["team"]) == ("Mine", "anyone", None)
    assert saved["query"] == {"status": "open,pending", "priority": "normal", "customerId": "c"}
    path = f"{VIEWS}/{saved['id']}"
    assert await read(client, path) == saved | {"count": 0, "more": False, "late": 0, "moreLate": False}
    assert await read(client) == {
        "items": [saved | {"count": 0, "more": False, "late": 0, "moreLate": False}],
        "nextCursor": None,
    }
    async with client.patch(path, json={"query": {"channel": "email"}, "team": "returns"}) as response:
        assert (response.status, response.headers["ETag"]) == (200, '"2"')
        changed = await response.json()
    expected = {"query": {"channel": "email"}, "team": "returns", "owner": None, "updatedAt": changed["updatedAt"]}
    assert changed == saved | expected
    assert changed["updatedAt"] > saved["updatedAt"]
    await expect_json(client.delete(path), 204)
    for method in ("GET", "DELETE"):
        await expect_problem(client.request(method, path), 404, "view_not_found")
    await expect_problem(client.patch(path, json={"name": "x"}), 404, "view_not_found")
    await expect_problem(client.get(f"{VIEWS}/%00"), 404, "view_not_found")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client_of_four_cases(make_shared_client):
    client = await make_shared_client()
    asked = await open_case(
        client, customerId="c-1", tags=["late", "vip"], context=[{"type": "order", "orderId": "ORD-1"}]
    )
    await add_message(client, asked, authorType="customer")
    await open_case(client, customerId="c-2", channel="chat", subject="A letter")
    await open_case(client, customerId="c-2")
    await open_case(client, channel="synthetic")
    return client


COUNT_IS_THE_NUMBER_OF = [
    ({}, 3),
    ({"status": "open,pending"}, 3),
    ({"channel": "chat", "customerId": "c-2"}, 1),
    ({"q": "parc", "customerId": "c-2"}, 1),
    ({"q": "?!"}, 0),
    ({"channel": "synthetic"}, 1),
    ({"tag": ["late", "vip"], "team": "none"}, 1),
    ({"sort": "waiting", "status": "pending,closed"}, 0),
    ({"orderId": "ORD-1", "q": "parcel", "sort": "updated"}, 1),
    ({"assignedAgentId": "none", "updatedAfter": "2026-01-01T07:00:00+07:00"}, 3),
]


@each_row("query, count", COUNT_IS_THE_NUMBER_OF)
async def test_count_is_the_number_of_cases_that_the_list_has(client_of_four_cases, query, count):
    """Synthetic cases count only if the query asks for their channel."""
    client = client_of_four_cases
    view = await save(client, query=query)
    found = await read(client, f"{VIEWS}/{view['id']}")
    assert (found["count"], found["more"]) == (count, False)
    assert len((await list_cases(client, **query))["items"]) == count


async def test_count_ends_at_its_limit(make_client, constants):
    """`more` tells that there are more cases than the number says."""
    constants("api.views", MAX_COUNT=2)
    client = await make_client()
    counts = []
    for query in ({}, {"q": "parcel"}):
        await save(client, str(query), query)
    for _ in range(3):
        await open_case(client)
        counts.append([(item["count"], item["more"]) for item in (await read(client))["items"]])
    assert counts == [[(1, False)] * 2, [(2, False)] * 2, [(2, True)] * 2]


def test_every_filter_of_the_list_may_be_saved():
    """A new filter belongs to `CaseFilters`; only what selects a page stays outside."""
    assert CaseQuery.model_fields.keys() - CaseFilters.model_fields.keys() == {"limit", "cursor"}


WRONG_VIEW_IS_REFUSED = [
    ({"query": {"limit": 5, "cursor": "x", "colour": "red"}}, {"query.limit", "query.cursor", "query.colour"}),
    ({"query": {"status": "lost", "customerId": "c" * 37}}, {"query.status", "query.customerId"}),
    ({"query": {"status": ["open", 5], "sort": "due-date"}}, {"query.status", "query.sort"}),
    ({"query": {"tag": "vip", "updatedAfter": "yesterday"}}, {"query.tag", "query.updatedAfter"}),
    ({"query": {"customer_id": "a", "customerId": "b"}}, {"query.customerId"}),
    ({"query": "status=open"}, {"query"}),
    ({"query": None, "name": " "}, {"query", "name"}),
    ({"name": "n" * 256, "team": ""}, {"name", "team"}),
    ({"team": "none"}, {"team"}),
]


@each_row("body, fields", WRONG_VIEW_IS_REFUSED)
async def test_wrong_view_is_refused(shared_client, body, fields):
    """The errors name the fields, also in a change; nothing is stored."""
    new = {"name": "Mine", "query": {}} | body
    before = (await read(shared_client))["items"]
    problem = await expect_problem(shared_client.post(VIEWS, json=new), 422, "invalid_request")
    assert {error["field"] for error in problem["errors"]} == fields
    saved = await save(shared_client)
    path = f"{VIEWS}/{saved['id']}"
    problem = await expect_problem(shared_client.patch(path, json=body), 422, "invalid_request")
    assert {error["field"] for error in problem["errors"]} == fields
    stored, *others = (await read(shared_client))["items"]
    assert stored.items() >= saved.items()
    assert others == before


async def test_change_of_an_older_version_is_refused(shared_client):
    """The tag of a view with its count is valid in If-Match too, and yields no 304: the count may have changed."""
    saved = await save(shared_client)
    path = f"{VIEWS}/{saved['id']}"
    async with shared_client.get(path) as response:
        tag = response.headers["ETag"]
    await expect_json(shared_client.get(path, headers={"If-None-Match": tag}))
    async with shared_client.patch(path, json={"name": "B"}, headers={"If-Match": tag}) as response:
        assert (response.status, response.headers["ETag"]) == (200, '"2"')
    for old in (tag, '"1"', 'W/"2"'):
        for method, sent in (("PATCH", {"json": {"name": "C"}}), ("DELETE", {})):
            refused = await shared_client.request(method, path, headers={"If-Match": old}, **sent)
            await expect_problem(refused, 412, "view_changed")
    await expect_json(shared_client.delete(path, headers={"If-Match": '"1", "2"'}), 204)


async def test_agent_may_repeat_a_creation(shared_principals):
    """The stored answer is about no case, so it does not depend on which cases the agent sees."""
    sent = {"json": {"name": "A", "query": {}}, "headers": {"Idempotency-Key": "k"}}
    first, again = [await shared_principals.read_json("agent", "POST", VIEWS, **sent) for _ in range(2)]
    assert first == again


async def names(principals, name):
    return {item["name"] for item in (await principals.read_json(name, "GET", VIEWS))["items"]}


async def saved_by(principals, name, title, **fields):
    body = {"name": title, "query": {"status": "open"}} | fields
    return await principals.read_json(name, "POST", VIEWS, json=body)


async def test_view_is_seen_by_its_user_or_its_team(principals):
    """For everyone else it does not exist. Supervisors see the views of every team, and no others."""
    mine = await saved_by(principals, "agent", "mine")
    shared = await saved_by(principals, "agent", "shared", team="returns")
    assert (mine["owner"], mine["team"], shared["owner"], shared["team"]) == ("agent-1", None, None, "returns")
    await saved_by(principals, "supervisor", "boss")
    await saved_by(principals, "supervisor", "of billing", team="billing")
    await saved_by(principals, "analyst", "analysis")
    assert await names(principals, "agent") == {"mine", "shared"}
    assert await names(principals, "other-agent") == {"of billing"}
    assert await names(principals, "supervisor") == {"boss", "shared", "of billing"}
    assert await names(principals, "analyst") == {"analysis"}
    for view, strangers in ((mine, ("other-agent", "supervisor", "analyst")), (shared, ("other-agent", "analyst"))):
        for stranger in strangers:
            for method, sent in (("GET", {}), ("PATCH", {"json": {"name": "x"}}), ("DELETE", {})):
                refused = await principals.request(stranger, method, f"{VIEWS}/{view['id']}", **sent)
                await expect_problem(refused, 404, "view_not_found")
    path = f"{VIEWS}/{shared['id']}"
    assert (await principals.read_json("supervisor", "PATCH", path, json={"name": "renamed"}))["team"] == "returns"
    for name, team in (("agent", "billing"), ("analyst", "returns")):
        refused = await principals.request(name, "POST", VIEWS, json={"name": "x", "query": {}, "team": team})
        problem = await expect_problem(refused, 403, "permission_missing")
        assert "'views:share'" in problem["detail"]
    assert (await principals.read_json("agent", "PATCH", path, json={"team": None}))["owner"] == "agent-1"
    assert await names(principals, "supervisor") == {"boss", "of billing"}


async def test_count_is_of_the_cases_that_the_caller_may_see(principals):
    """A shared view has another number for each."""
    for owner in ({"assignedAgentId": "agent-1"}, {"team": "returns"}, {"team": "billing"}, {}):
        new = {"subject": "A parcel", "channel": "email", **owner}
        await principals.read_json("supervisor", "POST", "/support/cases", json=new)
    shared = await saved_by(principals, "agent", "shared", team="returns")
    for name, count in (("agent", 3), ("supervisor", 4)):
        found = await principals.read_json(name, "GET", f"{VIEWS}/{shared['id']}")
        assert found["count"] == count


async def test_late_cases_are_counted(client):
    """Of each view, with the same statement; not of a search."""
    cases = [await open_case(client, subject=f"A parcel {number}") for number in range(4)]
    due = {cases[0]["id"]: timedelta(hours=-1), cases[1]["id"]: timedelta(hours=1), cases[2]["id"]: timedelta(hours=-2)}
    async with service_of(client).database.transaction() as tx:
        for case_id, until in due.items():
            at = utc_now() + until
            await tx.execute(tickets.update().where(tickets.c.id == case_id).values(sla_due_at=at))
    await client.post(f"/support/cases/{cases[2]['id']}/status?status=pending")
    expected = {
        "open": ({"status": "open"}, 3, 1),
        "both": ({"status": "open,pending", "sort": "due"}, 4, 2),
        "soon": ({"dueWithin": "PT2H"}, 3, 2),
        "later": ({"dueBefore": (utc_now() - timedelta(minutes=90)).isoformat()}, 1, 1),
        "search": ({"q": "parcel"}, 4, None),
    }
    for name, (query, *_) in expected.items():
        await save(client, name, query)
    found = {view["name"]: (view["count"], view["late"], view["moreLate"]) for view in (await read(client))["items"]}
    assert found == {name: (count, late, False) for name, (_, count, late) in expected.items()}


async def test_views_that_everyone_has_are_counted(principals):
    """With the query of their cases. An agent has the views of its teams, an analyst none of its own."""
    new = {"subject": "A parcel", "channel": "email"}
    await principals.read_json("supervisor", "PUT", "/support/agents/agent-1", json={"displayName": "Lan"})
    for owner in ({"assignedAgentId": "agent-1"}, {"assignedAgentId": "agent-1"}, {"team": "returns"}, {}, {}):
        case = await principals.read_json("supervisor", "POST", "/support/cases", json=new | owner)
    note = {"authorType": "agent", "message": "Can you help, @agent-1?", "visibility": "internal"}
    await principals.read_json("supervisor", "POST", f"/support/cases/{case['id']}/messages", json=note)
    own = await principals.read_json("agent", "GET", "/support/cases?assignedAgentId=agent-1")
    snooze = {"status": "pending", "until": format_time(utc_now() + timedelta(hours=1))}
    await principals.read_json("agent", "POST", f"/support/cases/{own['items'][0]['id']}/status", json=snooze)

    async def counted(name):
        items = (await principals.read_json(name, "GET", f"{VIEWS}/counts"))["items"]
        for view in items:
            query = {name: {True: "true", False: "false"}.get(value, value) for name, value in view["query"].items()}
            page = await principals.read_json(name, "GET", "/support/cases", params=query)
            assert len(page["items"]) == view["count"], view
        return {view["id"]: (view["count"], view["more"], view["late"], view["moreLate"]) for view in items}

    numbers = {"mine": 1, "mentioned": 1, "snoozed": 1, "unassigned": 3, "team:returns": 1, "at-risk": 0}
    assert await counted("agent") == {name: (count, False, 0, False) for name, count in numbers.items()}
    assert list(await counted("analyst")) == ["unassigned", "at-risk"]
    boss = await counted("supervisor")
    none = dict.fromkeys(("mine", "mentioned", "snoozed", "at-risk"), 0)
    assert {name: count for name, (count, *_) in boss.items()} == none | {"unassigned": 3}


async def test_customers_do_not_learn_who_is_mentioned_in_notes(principals):
    """The filter lists nothing for them."""
    await principals.read_json("supervisor", "PUT", "/support/agents/agent-1", json={"displayName": "Lan"})
    new = {"subject": "A", "channel": "email", "customerId": "customer-1", "team": "returns"}
    case = await principals.read_json("supervisor", "POST", "/support/cases", json=new)
    note = {"authorType": "agent", "message": "@agent-1", "visibility": "internal"}
    await principals.read_json("supervisor", "POST", f"/support/cases/{case['id']}/messages", json=note)
    for name, number in (("customer", 0), ("agent", 1), ("other-agent", 0), ("supervisor", 1)):
        page = await principals.read_json(name, "GET", "/support/cases?mentionedAgentId=agent-1")
        assert len(page["items"]) == number, name


async def test_analyst_counts_nothing_by_masked_data(principals):
    """Neither a new view nor one of an earlier role tells how many cases a customer has."""
    await principals.read_json(
        "supervisor", "POST", "/support/cases", json={"subject": "A", "channel": "email", "customerId": "c"}
    )
    view = await saved_by(principals, "analyst", "analysis")
    for query in ({"customerId": "c"}, {"q": "parcel"}, {"orderId": "1"}, {"tag": ["Ann Smith"]}):
        for method, path in (("POST", VIEWS), ("PATCH", f"{VIEWS}/{view['id']}")):
            refused = await principals.request("analyst", method, path, json={"name": "x", "query": query})
            problem = await expect_problem(refused, 403, "permission_missing")
            assert "'cases:search'" in problem["detail"]
    assert (await principals.read_json("analyst", "GET", f"{VIEWS}/{view['id']}"))["count"] == 1
    for stored in ({"customerId": "c"}, {"filterOfALaterRelease": "x"}):
        async with service_of(principals.client).database.transaction() as tx:
            await tx.execute(views.update().where(views.c.id == view["id"]).values(query=stored))
        found = await principals.read_json("analyst", "GET", f"{VIEWS}/{view['id']}")
        assert (found["query"], found["count"], found["more"]) == (stored, None, False)
