"""Links between cases as clients add, see and remove them."""

import pytest

from tests.support.calls import add_message, expect_json, expect_problem, open_case, read_case, upload
from tests.support.each import each_row
from tests.support.links import FOREIGN, OWN, add_link, link_request


async def remove_link(client, case, link, **sent):
    """Remove a link of a case; return the new ETag of the case."""
    async with client.delete(f"/support/cases/{case['id']}/links/{link['id']}", **sent) as response:
        assert response.status == 204, await response.text()
        return response.headers["ETag"]


async def read_etag(client, case):
    async with client.get(f"/support/cases/{case['id']}") as response:
        return response.headers["ETag"]


@pytest.fixture
async def replicas(make_client):
    """Two replicas of the service on one database."""
    return await make_client(), await make_client()


@each_row("kind, inverse", [("related", "related"), ("parent-of", "child-of"), ("duplicate-of", "duplicated-by")])
async def test_link_is_seen_from_both_cases(replicas, kind, inverse):
    """On every replica, also on one that keeps both cases; a second request gets the link that is there."""
    client, reader = replicas
    case, other = await open_case(client), await open_case(client)
    assert [(await read_case(reader, each))["links"] for each in (case, other)] == [[], []]
    link = await add_link(client, case, other, kind)
    assert link.keys() == {"id", "kind", "caseId", "createdAt"}
    assert (link["kind"], link["caseId"]) == (kind, other["id"])
    seen = link | {"kind": inverse, "caseId": case["id"]}
    for query in ({}, {"includeTimeline": "true"}, {"messagesLimit": "1"}, {"includeLinked": "true"}):
        assert (await read_case(reader, case, **query))["links"] == [link]
        assert (await read_case(reader, other, **query))["links"] == [seen]
    assert await add_link(client, case, other, kind, status=200) == link
    await remove_link(client, other, link)
    for each in (case, other):
        found = await read_case(reader, each)
        assert (found["links"], found["status"]) == ([], "open")
    path = f"/support/cases/{case['id']}/links/{link['id']}"
    await expect_problem(client.delete(path), 404, "link_not_found")


async def test_link_needs_another_case(client):
    """That exists, and a kind that is known."""
    case, other = await open_case(client), await open_case(client)
    path = f"/support/cases/{case['id']}/links"

    async def expect(status, code, **body):
        return await expect_problem(client.post(path, json=body), status, code)

    problem = await expect(422, "invalid_request", kind="related", caseId=case["id"])
    assert [each["field"] for each in problem["errors"]] == ["caseId"]
    await expect(422, "invalid_request", kind="child-of", caseId=other["id"])
    await expect(422, "invalid_request", caseId=other["id"])
    for unknown in ("nobody", "đ", "a\tb"):
        await expect(404, "case_not_found", kind="related", caseId=unknown)
    body = {"kind": "related", "caseId": other["id"]}
    await expect_problem(client.post("/support/cases/nobody/links", json=body), 404, "case_not_found")
    for link_id in ("nobody", "%C4%91"):
        await expect_problem(client.delete(f"{path}/{link_id}"), 404, "link_not_found")
    await expect_problem(client.delete("/support/cases/nobody/links/x"), 404, "case_not_found")
    third = await open_case(client)
    foreign = await add_link(client, other, third)
    await expect_problem(client.delete(f"{path}/{foreign['id']}"), 404, "link_not_found")
    assert (await read_case(client, case))["links"] == []
    await add_link(client, case, other, "parent-of")
    body = {"kind": "parent-of", "caseId": case["id"]}
    response = await client.post(f"/support/cases/{other['id']}/links", json=body)
    await expect_problem(response, 409, "link_cycle")


async def test_link_is_added_once_and_to_the_expected_version(client, metric_changes):
    """A repeat with the same key gets the first answer. The closing and the reopening are counted like any other."""
    case, other = await open_case(client), await open_case(client)
    etag = await read_etag(client, case)
    headers = {"If-Match": etag, "Idempotency-Key": "a"}
    link = await add_link(client, case, other, "duplicate-of", headers=headers)
    assert await add_link(client, case, other, "duplicate-of", headers=headers) == link
    path = f"/support/cases/{case['id']}/links/{link['id']}"
    await expect_problem(client.delete(path, headers={"If-Match": etag}), 412, "case_changed")
    for _ in range(2):
        headers = {"If-Match": '"3"', "Idempotency-Key": "b"}  # the link and the closing are a version each
        assert await remove_link(client, case, link, headers=headers) == '"5"'  # so are the removal and the opening
    assert await read_etag(client, case) == '"5"'
    assert (await read_case(client, case))["status"] == "open"
    assert metric_changes.nonzero("support_ticket_status_changed_total") == {"closed": 1, "open": 1}
    assert metric_changes.total("support_ticket_resolution_seconds_count") == 1


async def test_only_staff_who_see_both_cases_link_them(principals, open_owned):
    """For all others a case that they don't see does not exist, and nothing changes."""
    mine, another, foreign = await open_owned(**OWN), await open_owned(**OWN), await open_owned(**FOREIGN)
    for role in ("customer", "analyst", "service"):
        await expect_problem(await link_request(principals, role, mine, another), 403, "permission_missing")
    for one, other in ((mine, foreign), (foreign, mine)):
        problem = await expect_problem(await link_request(principals, "agent", one, other), 404, "case_not_found")
        assert foreign["id"] in problem["detail"]
    await expect_json(link_request(principals, "agent", mine, another), 201)
    async with link_request(principals, "supervisor", mine, foreign) as response:
        link = await response.json()
    for case in (mine, foreign):
        path = f"/support/cases/{case['id']}/links/{link['id']}"
        await expect_problem(principals.request("agent", "DELETE", path), 404, "case_not_found")
        await expect_problem(principals.request("customer", "DELETE", path), 403, "permission_missing")
    detail = await principals.read_json("agent", "GET", f"/support/cases/{mine['id']}")
    assert [each["caseId"] for each in detail["links"]] == [another["id"], foreign["id"]]


async def test_customer_sees_duplicates_among_their_own_cases(principals, open_owned):
    """Other links change nothing that the customer sees."""
    mine, another, foreign, nobodys = [await open_owned(**owner) for owner in (OWN, OWN, FOREIGN, {})]
    path = f"/support/cases/{mine['id']}"

    async def seen():
        async with principals.request("customer", "GET", path) as response:
            case = await response.json()
            version = response.headers["ETag"].replace("+", ".").partition(".")[0]  # a tag of merged cases is unique
            return version, case["updatedAt"], case["links"]

    async def link(case, other, kind):
        return await expect_json(link_request(principals, "supervisor", case, other, kind), 201)

    before = await seen()
    hidden = [
        await link(mine, another, "related"),
        await link(mine, another, "parent-of"),
        await link(foreign, mine, "duplicate-of"),
        await link(nobodys, mine, "duplicate-of"),
    ]
    assert await seen() == before
    shown = await link(another, mine, "duplicate-of")
    version, at, links = await seen()
    assert links == [shown | {"kind": "duplicated-by", "caseId": another["id"]}]
    assert (version != before[0], at > before[1]) == (True, True)
    analyst = await principals.read_json("analyst", "GET", path)
    assert [each["id"] for each in analyst["links"]] == [each["id"] for each in (*hidden, shown)]

    async def remove(link):
        await expect_json(principals.request("supervisor", "DELETE", f"{path}/links/{link['id']}"), 204)

    for each in hidden:
        await remove(each)
    assert await seen() == (version, at, links)
    await remove(shown)
    assert (await seen())[2] == []


async def test_case_is_read_with_its_duplicates(client):
    """As one: messages and files of all in the order of time. Each names its case, and its file can be downloaded."""
    original, one, two = [await open_case(client) for _ in range(3)]
    messages = [await add_message(client, case, str(case is one)) for case in (one, original, two, one, original)]
    files = [await upload(client, case, filename="a.txt") for case in (two, original, one)]
    for duplicate in (one, two):
        await add_link(client, duplicate, original, "duplicate-of")
    related = await open_case(client, initialMessage={"authorType": "agent", "message": "Not this one"})
    await add_link(client, related, original)
    found = await read_case(client, original)
    assert (found["messages"], found["attachments"]) == (messages, files)
    assert await read_case(client, original, includeLinked="true") == found
    assert await expect_json(client.get(f"/support/cases/{original['id']}/attachments")) == files
    for file in found["attachments"]:
        await expect_json(client.get(file["uri"]))
    for query in ({}, {"includeLinked": "true"}):
        assert (await read_case(client, one, **query))["messages"] == [messages[0], messages[3]]
    path = f"/support/cases/{original['id']}"
    etags = []
    for query in ("", "?messagesLimit=2", "?includeLinked=true", "?includeTimeline=true"):
        async with client.get(f"{path}{query}", headers={"If-None-Match": "*"}) as response:
            assert response.status == 200
            etags.append(response.headers["ETag"])
    assert len(set(etags)) == 4
    for more in ("messagesLimit=1", f"messagesAfter={messages[1]['id']}"):
        await expect_problem(client.get(f"{path}?includeLinked=true&{more}"), 422, "invalid_request")
    await expect_problem(client.get("/support/cases/nobody?includeLinked=true"), 404, "case_not_found")
