"""The directory of the people who work on cases over HTTP."""

import pytest

from tests.support.calls import expect_problem
from tests.support.service import service_of
from tests.support.stream_desk import open_desk

AGENTS = "/support/agents"
LINH = {"displayName": "Linh Trần", "teams": ["returns", "billing", "returns"], "role": "agent"}


@pytest.fixture
async def desk(make_client, tmp_path):
    """A service with a caller of each kind."""
    return await open_desk(make_client, tmp_path / "tokens.json")


async def put(client, agent_id, status=200, headers=(), **fields):
    """Change or add a person; return the person, and the ETag."""
    async with client.put(f"{AGENTS}/{agent_id}", json=fields, headers=dict(headers)) as response:
        assert response.status == status, await response.text()
        return await response.json(), response.headers["ETag"]


async def list_page(client, **query):
    """Return a page of the directory."""
    async with client.get(AGENTS, params=query) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_person_is_added_and_changed(client):
    """Fields that are not sent stay; teams are sorted, each once. A change that changes nothing keeps the version."""
    added, first = await put(client, "agent-7", 201, **LINH)
    expected = {"id": "agent-7", "displayName": "Linh Trần", "teams": ["billing", "returns"], "role": "agent"}
    assert expected.items() <= added.items()
    assert added["away"] is False
    changed, second = await put(client, "agent-7", displayName="  Linh T. ", headers={"If-Match": first})
    assert changed == added | {"displayName": "Linh T.", "updatedAt": changed["updatedAt"]}
    assert await put(client, "agent-7", displayName="Linh T.") == (changed, second)
    stale = await client.put(f"{AGENTS}/agent-7", json={"away": True}, headers={"If-Match": first})
    await expect_problem(stale, 412, "agent_changed")


async def test_list_has_pages(client):
    ids = [f"agent-{number}" for number in range(5)]
    for each in ids:
        await put(client, each, 201)
    found, cursor = [], {}
    while cursor is not None:
        page = await list_page(client, limit=2, **cursor)
        found += [each["id"] for each in page["items"]]
        cursor = {"cursor": page["nextCursor"]} if page["nextCursor"] else None
    assert found == ids


@pytest.mark.parametrize("agent_id", ["anna@example.org", "Đặng Lan", "a/b", "x" * 128])
async def test_any_id_of_a_person_can_be_in_the_directory(client, agent_id):
    """Providers give ids of any form."""
    path = agent_id.replace("/", "%2F")
    assert (await put(client, path, 201))[0]["id"] == agent_id
    assert [each["id"] for each in (await list_page(client))["items"]] == [agent_id]
    async with client.delete(f"{AGENTS}/{path}") as response:
        assert response.status == 204


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"displayName": ""}, {"displayName"}),
        ({"displayName": " "}, {"displayName"}),
        ({"displayName": "a\nb"}, {"displayName"}),
        ({"displayName": "x" * 129}, {"displayName"}),
        ({"teams": [""]}, {"teams.0"}),
        ({"teams": ["x"] * 65}, {"teams"}),
        ({"role": "customer"}, {"role"}),
        ({"away": "maybe"}, {"away"}),
    ],
)
async def test_wrong_fields_are_named(client, change, named):
    async with client.put(f"{AGENTS}/agent-7", json=change) as response:
        problem = await expect_problem(response, 422, "invalid_request")
    assert {error["field"] for error in problem["errors"]} == named


async def test_too_long_id_is_refused(client):
    async with client.put(f"{AGENTS}/{'x' * 129}", json={}) as response:
        await expect_problem(response, 422, "invalid_request")


async def test_removed_person_is_unknown(client):
    await put(client, "agent-7", 201, **LINH)
    assert service_of(client).agents.known.names_of(["agent-7", "agent-8"]) == {"agent-7": "Linh Trần"}
    assert [*service_of(client).agents.known.ids_of_team("billing")] == ["agent-7"]
    async with client.delete(f"{AGENTS}/agent-7") as response:
        assert response.status == 204
    assert service_of(client).agents.known.names_of(["agent-7"]) == {}
    await expect_problem(await client.delete(f"{AGENTS}/agent-7"), 404, "agent_not_found")


async def test_agents_set_only_whether_they_are_away(desk):
    """Their own entry may not exist yet."""
    away = await desk.send("PUT", f"{AGENTS}/agent-1", "lan", json={"away": True})
    assert (away["away"], away["displayName"]) == (True, None)
    headers = {"Authorization": f"Bearer {desk.tokens['lan']}"}
    for agent_id, change in (("agent-2", {"away": True}), ("agent-1", {"displayName": "Boss"})):
        answer = await desk.client.put(f"{AGENTS}/{agent_id}", json=change, headers=headers)
        assert "directory:write-others" in (await expect_problem(answer, 403, "permission_missing"))["detail"]
    await desk.send("PUT", f"{AGENTS}/agent-1", json=LINH)
    listed = await desk.send("GET", AGENTS, "minh")
    assert [(each["displayName"], each["away"]) for each in listed["items"]] == [("Linh Trần", True)]


@pytest.mark.parametrize("name", ["analyst", "ann", "service"])
async def test_directory_is_for_staff(desk, name):
    """Names of staff are for staff."""
    await desk.send("GET", AGENTS, name, status=(403,))
    await desk.send("PUT", f"{AGENTS}/agent-1", name, status=(403,), json={"away": True})
    await desk.send("DELETE", f"{AGENTS}/agent-1", name, status=(403,))


async def test_changes_are_audited(client):
    await put(client, "agent-7", 201, displayName="Linh")
    await put(client, "agent-7", away=True)
    async with client.delete(f"{AGENTS}/agent-7") as response:
        assert response.status == 204
    async with client.get("/support/audit", params={"limit": 10}) as response:
        entries = (await response.json())["items"]
    assert [each["action"] for each in entries] == ["agent.deleted", "agent.changed", "agent.created"]
    before, after = entries[1]["changes"]["agent-7"]
    assert (before["away"], after["away"], after["displayName"]) == (False, True, "Linh")
