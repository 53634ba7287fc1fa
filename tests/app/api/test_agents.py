"""The directory of the people who work on cases over HTTP."""

from urllib.parse import unquote

import pytest

from support_service.core.clock import utc_now
from support_service.desk.agent_models import MAX_AT_RISK
from support_service.platform.database.tables import agents, messages, tickets
from tests.support.access.fixtures import AUDIENCE, ISSUER
from tests.support.calls import add_message, expect_json, expect_problem, open_case, read_case
from tests.support.each import each_row
from tests.support.service import service_of
from tests.support.service_levels import move_due_times

AGENTS = "/support/agents"
LINH = {"displayName": "Linh Trần", "teams": ["returns", "billing", "returns"], "role": "agent"}


async def put(client, agent_id, status=200, headers=(), **fields):
    """Change or add a person; return the person, and the ETag."""
    async with client.put(f"{AGENTS}/{agent_id}", json=fields, headers=dict(headers)) as response:
        assert response.status == status, await response.text()
        return await response.json(), response.headers["ETag"]


async def list_page(client, **query):
    return await expect_json(client.get(AGENTS, params=query))


async def test_person_is_added_and_changed(client):
    """Fields that are not sent stay, null clears one, and a change that changes nothing keeps the version.

    Teams are sorted, each once.
    """
    added, first = await put(client, "agent-7", 201, **LINH)
    expected = {"id": "agent-7", "displayName": "Linh Trần", "teams": ["billing", "returns"], "role": "agent"}
    assert expected.items() <= added.items()
    assert added["away"] is False
    changed, second = await put(client, "agent-7", displayName="  Linh T. ", headers={"If-Match": first})
    assert changed == added | {"displayName": "Linh T.", "updatedAt": changed["updatedAt"]}
    assert await put(client, "agent-7", displayName="Linh T.") == (changed, second)
    stale = await client.put(f"{AGENTS}/agent-7", json={"away": True}, headers={"If-Match": first})
    await expect_problem(stale, 412, "agent_changed")
    cleared, _ = await put(client, "agent-7", displayName=None, role=None)
    assert (cleared["displayName"], cleared["role"], cleared["teams"]) == (None, None, ["billing", "returns"])


@each_row("agent_id", ["anna@example.org", "Đặng Lan", "a/b", "x" * 128])
async def test_any_id_of_a_person_can_be_in_the_directory(client, agent_id):
    """Providers give ids of any form. One that no case can be assigned to is refused."""
    path = agent_id.replace("/", "%2F")
    async with client.put(f"{AGENTS}/{path}", json={}) as response:
        assert (response.status, (await response.json())["id"]) == (201, agent_id)
        assert unquote(response.headers["Location"].removeprefix(f"{AGENTS}/")) == agent_id
        assert response.headers["Location"].isascii()
    assert [each["id"] for each in (await list_page(client))["items"]] == [agent_id]
    await expect_json(client.delete(f"{AGENTS}/{path}"), 204)
    for wrong in ("x" * 129, "none", "%20"):
        await expect_problem(client.put(f"{AGENTS}/{wrong}", json={}), 422, "invalid_request")


async def test_directory_has_at_most_5000_people(client):
    """People who are in it can still be changed."""
    now = utc_now()
    row = {"teams": [], "away": False, "name_from_claims": False, "version": 1, "created_at": now, "updated_at": now}
    async with service_of(client).database.transaction() as tx:
        await tx.execute(agents.insert(), [row | {"id": f"person-{number}"} for number in range(4999)])
    await put(client, "the-last-one", 201)
    await expect_problem(await client.put(f"{AGENTS}/one-more", json={}), 409, "too_many_agents")
    await put(client, "person-0", 200, away=True)


WRONG_FIELDS = {
    "displayName": ["", " ", "a\nb", "x" * 129],
    "teams": [None, ["x"] * 65],
    "teams.0": [[""], ["none"], [" "]],
    "role": ["customer"],
    "away": ["maybe"],
}


@each_row("named, value", [(named, value) for named, values in WRONG_FIELDS.items() for value in values])
async def test_wrong_fields_are_named(client, named, value):
    refused = client.put(f"{AGENTS}/agent-7", json={named.partition(".")[0]: value})
    problem = await expect_problem(refused, 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == [named]


async def test_removed_person_is_unknown(client):
    """Each change is audited."""
    await put(client, "agent-7", 201, **LINH)
    assert service_of(client).agents.known.names_of(["agent-7", "agent-8"]) == {"agent-7": "Linh Trần"}
    assert [*service_of(client).agents.known.ids_of_team("billing")] == ["agent-7"]
    await put(client, "agent-7", away=True)
    await expect_json(client.delete(f"{AGENTS}/agent-7"), 204)
    assert service_of(client).agents.known.names_of(["agent-7"]) == {}
    await expect_problem(client.delete(f"{AGENTS}/agent-7"), 404, "agent_not_found")
    entries = (await expect_json(client.get("/support/audit", params={"limit": 3})))["items"]
    assert [each["action"] for each in entries] == ["agent.deleted", "agent.changed", "agent.created"]
    before, after = entries[1]["changes"]["agent-7"]
    assert (before["away"], after["away"], after["displayName"]) == (False, True, "Linh Trần")


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


async def read(client, agent_id):
    """Return a person, and the ETag."""
    async with client.get(f"{AGENTS}/{agent_id}") as response:
        assert response.status == 200, await response.text()
        return await response.json(), response.headers["ETag"]


NUMBERS = ("open", "pending", "atRisk", "oldestWait")


async def test_numbers_are_those_of_the_cases(client):
    """Cases that are settled, synthetic, or of others do not count; what is at risk counts up to a limit."""
    policy = {"targets": {"resolution": "PT8H"}}
    await expect_json(client.put("/support/sla-policies/all", json=policy), 201)
    for agent_id in ("a", "b", "c"):
        await put(client, agent_id, 201)
    cases = [await open_case(client, assignedAgentId="a") for _ in range(4)]
    await open_case(client, assignedAgentId="b", description="Help")
    await open_case(client, assignedAgentId="a", channel="synthetic", description="Help")
    await add_message(client, cases[1])
    waiting = (await read_case(client, cases[1]))["waitingSince"]
    await add_message(client, cases[2])
    for case, status in ((cases[0], "pending"), (cases[3], "resolved")):
        await expect_json(client.post(f"/support/cases/{case['id']}/status?status={status}"))

    listed = {each["id"]: [each[name] for name in NUMBERS] for each in (await list_page(client))["items"]}
    assert listed["a"] == [2, 1, 0, waiting]
    assert listed["b"][:3] == [1, 0, 0]
    assert listed["c"] == [0, 0, 0, None]
    assert [(await read(client, "a"))[0][name] for name in NUMBERS] == listed["a"]
    await move_due_times(client, -1)  # an hour ahead
    at_risk = (await read(client, "a"))[0]["atRisk"]
    assert at_risk == (await list_page(client))["items"][0]["atRisk"] in (2, 3)  # the pending one, if it is not paused


async def test_number_at_risk_is_bounded(client):
    """The count ends at a limit, whatever the agent has."""
    await expect_json(client.put("/support/sla-policies/all", json={"targets": {"resolution": "PT1H"}}), 201)
    await put(client, "a", 201)
    for _ in range(MAX_AT_RISK + 1):
        await open_case(client, assignedAgentId="a")
    agent, _ = await read(client, "a")
    assert (agent["open"], agent["atRisk"]) == (MAX_AT_RISK + 1, MAX_AT_RISK)


async def test_agents_get_the_numbers_of_their_own_cases(desk):
    """Of colleagues they get the names, and whether they are here."""
    for agent_id in ("agent-1", "agent-2"):
        await desk.send("PUT", f"{AGENTS}/{agent_id}", json=LINH)
    await desk.open_case(assignedAgentId="agent-1")
    own, other = (await desk.send("GET", AGENTS, "lan"))["items"]
    assert [own[name] for name in NUMBERS] == [1, 0, 0, None]
    assert [other[name] for name in NUMBERS] == [None] * 4
    assert other["displayName"] == "Linh Trần"
    assert [(await desk.send("GET", f"{AGENTS}/agent-2", "lan"))[name] for name in NUMBERS] == [None] * 4


async def test_version_of_a_read_entry_is_valid_in_if_match(client):
    """It matches no cached answer, because the numbers change without the entry."""
    await put(client, "a", 201)
    _, first = await read(client, "a")
    _, second = await read(client, "a")
    assert first != second
    await put(client, "a", away=True, headers={"If-Match": second})
    refused = await client.put(f"{AGENTS}/a", json={"away": False}, headers={"If-Match": second})
    await expect_problem(refused, 412, "agent_changed")
    await expect_problem(client.get(f"{AGENTS}/unknown"), 404, "agent_not_found")


@pytest.fixture
async def send(make_client, issuer):
    """A function that sends a request of a person with some claims to a service whose callers have JWTs."""
    client = await make_client(
        SUPPORT_AUTH="jwt",
        SUPPORT_JWT_KEYS=issuer.jwks_location,
        SUPPORT_JWT_ISSUER=ISSUER,
        SUPPORT_JWT_AUDIENCE=AUDIENCE,
    )

    async def send_with(method="GET", path=AGENTS, json=None, **claims):
        claims = {"sub": "agent-7", "role": "agent", "teams": ["returns"]} | claims
        headers = {"Authorization": f"Bearer {issuer.sign(**claims)}"}
        async with client.request(method, path, headers=headers, json=json) as response:
            assert response.status < 300, await response.text()
            await service_of(client).agents.store_claims()
            return await response.json()

    return send_with


async def entries(send):
    """Return (name, teams) of each person in the directory."""
    return {each["id"]: (each["displayName"], each["teams"]) for each in (await send())["items"]}


BOSS = {"sub": "boss", "role": "supervisor", "teams": []}


async def test_claims_fill_the_directory(send):
    """The name comes from `name`, else from `preferred_username`; teams and role follow the claims.

    The reserved id `none` stands for cases without an agent, and does not stop others.
    """
    await send(sub="none", name="Nobody")
    await send(name="Linh Trần")
    assert await entries(send) == {"agent-7": ("Linh Trần", ["returns"])}
    await send(name="Linh T.", teams=["billing"])
    await send(sub="agent-8", preferred_username="minh", name=None)
    await send(sub="agent-9")
    await send(sub="ann", role="customer", name="Ann", path="/support/me")
    assert await entries(send) == {"agent-7": ("Linh T.", ["billing"]), "agent-8": ("minh", ["returns"])}
    assert [each["role"] for each in (await send())["items"]] == ["agent", "agent"]


async def test_name_that_a_supervisor_has_set_stays(send):
    """The claims still say role and teams, do not touch who is away, and name who has no name or lost it."""
    await send("PUT", f"{AGENTS}/agent-7", {"teams": ["returns"], "role": "agent"}, **BOSS)
    await send(name="L. Tran")
    assert await entries(send) == {"agent-7": ("L. Tran", ["returns"])}
    await send("PUT", f"{AGENTS}/agent-7", {"displayName": "Linh", "away": True}, **BOSS)
    await send(name="Linh Tran", teams=["billing"])
    assert await entries(send) == {"agent-7": ("Linh", ["billing"])}
    assert (await send(path=f"{AGENTS}/agent-7"))["away"]
    await send("PUT", f"{AGENTS}/agent-7", {"displayName": None}, **BOSS)
    await send(name="Linh T.", teams=["billing"])
    assert await entries(send) == {"agent-7": ("Linh T.", ["billing"])}


async def test_claims_are_stored_only_if_they_change_something(send):
    """Two tokens of one person in turn do not change the entry to and fro."""
    for _ in range(3):
        await send(name="Linh")
        await send(name="Linh", teams=["billing"])
    changes = [each["action"] for each in (await send(path="/support/audit", **BOSS))["items"]]
    assert changes == ["agent.changed", "agent.created"]


async def test_names_are_beside_the_ids_for_staff(desk):
    """Of the agent of a case, of the authors and of the viewers. Customers and analysts get none."""
    for agent_id, name in (("agent-1", "Lan"), ("agent-2", "Minh"), ("supervisor", "Boss")):
        await desk.send("PUT", f"{AGENTS}/{agent_id}", json={"displayName": name})
    first = {"authorType": "agent", "message": "Hello"}
    case = await desk.open_case(customerId="customer-1", assignedAgentId="agent-1", initialMessage=first)
    assert case["names"] == {"agent-1": "Lan", "supervisor": "Boss"}
    path = f"/support/cases/{case['id']}"
    for query in ("", "?includeTimeline=true", "?messagesLimit=1", "?includeLinked=true"):
        for name, names in (("lan", case["names"]), ("ann", None), ("analyst", None)):
            assert (await desk.send("GET", path + query, name)).get("names") == names
    for name, names in (("lan", {"agent-1": "Lan"}), ("ann", None), ("analyst", None)):
        page = await desk.send("GET", "/support/cases", name)
        assert len(page["items"]) == 1
        assert page.get("names") == names
    await desk.send("PUT", f"{path}/presence", "lan", json={"state": "viewing"})
    await desk.change(case, assignedAgentId="agent-2", team="returns")
    names = {"agent-1": "Lan", "agent-2": "Minh", "supervisor": "Boss"}
    assert (await desk.send("GET", path))["names"] == names
    assert (await desk.send("GET", "/support/cases"))["names"] == {"agent-1": "Lan", "agent-2": "Minh"}
    assert (await desk.send("POST", f"{path}/close"))["names"] == {"agent-2": "Minh", "supervisor": "Boss"}


async def test_etag_of_a_case_changes_with_a_name(client):
    """A client that has the case gets 304 until a name in it is another one; the tag stays valid in If-Match.

    Without a name, answers are as before.
    """
    case = await open_case(client, assignedAgentId="agent-1")
    assert "names" not in {**case, **(await read_case(client, case))}
    assert (await expect_json(client.get("/support/cases"))).keys() == {"items", "nextCursor"}
    await put(client, "agent-1", 201, displayName="Lan")
    path = f"/support/cases/{case['id']}"
    async with client.get(path) as response:
        tag = response.headers["ETag"]
    await expect_json(client.get(path, headers={"If-None-Match": tag}), 304)
    await put(client, "agent-1", displayName="Lan Anh")
    async with client.get(path, headers={"If-None-Match": tag}) as response:
        assert response.status == 200
        assert (await response.json())["names"] == {"agent-1": "Lan Anh"}
        assert response.headers["ETag"] != tag
    await expect_json(client.delete(f"{AGENTS}/agent-1"), 204)
    assert "names" not in await expect_json(client.get(path))
    await expect_json(client.patch(path, json={"priority": "high"}, headers={"If-Match": tag}))


async def test_answers_of_writes_have_names_and_the_tag_of_a_read(client):
    """Opening, splitting and closing: the tag is that of the case with these names, and matches no other ones."""
    await put(client, "agent-1", 201, displayName="Lan")
    await expect_json(client.put("/support/customers/c-1", json={"name": "Anna"}), 201)
    new = {"subject": "A", "channel": "email", "assignedAgentId": "agent-1"}
    message = {"authorType": "customer", "message": "Two parcels"}
    writes = [("/support/cases", new, None)]
    case = await open_case(client, customerId="c-1", assignedAgentId="agent-1", initialMessage=message)
    await add_message(client, case)
    split = {"messageIds": [case["messages"][0]["id"]], "subject": "The other parcel"}
    writes.append((f"/support/cases/{case['id']}/split", split, "Anna"))
    writes.append((f"/support/cases/{case['id']}/close", {}, "Anna"))
    written = []
    for path, body, customer in writes:
        async with client.post(path, json=body) as response:
            answer = await response.json()
            assert (answer["names"], answer.get("customerName")) == ({"agent-1": "Lan"}, customer)
            written.append((f"/support/cases/{answer['id']}", {"If-None-Match": response.headers["ETag"]}))
    for status in (304, 200):
        for path, known in written:
            await expect_json(client.get(path, headers=known), status)
        await put(client, "agent-1", displayName="Lan Anh")


async def test_ids_of_authors_are_found_whatever_they_contain(client):
    """Quotation marks and texts that look like a message do not confuse the search for the ids."""
    strange = 'a"b\\c'
    await put(client, "a%22b%5Cc", 201, displayName="Strange")
    await put(client, "x", 201, displayName="Not here")
    text = 'he said "authorId":"x" and \\"authorId\\": \\"x\\"'
    case = await open_case(client, initialMessage={"authorType": "agent", "message": text})
    await add_message(client, case, text, metadata={"note": text})
    assert "names" not in await read_case(client, case)
    service = service_of(client)
    async with service.database.transaction() as tx:
        await tx.execute(messages.update().values(author_id=strange))
        await tx.execute(tickets.update().values(version=tickets.c.version + 1))
    assert (await read_case(client, case))["names"] == {strange: "Strange"}
