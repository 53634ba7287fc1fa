"""After a restore of the database, no version of the undone time is given again."""

import pytest

from support_service.cases.restore import record_restore
from support_service.platform.database.shared import read_version_base
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.calls import add_message, eventually, expect_json, expect_problem, open_case
from tests.support.service import own_client
from tests.support.stream import follow

client = own_client


def number_of(response):
    """Return the number in the ETag of a response."""
    return int(response.headers["ETag"].strip('"').partition(".")[0])


@pytest.fixture
async def base(database):
    """The base of versions of a database that was restored twice."""
    first = await record_restore(database, SYSTEM_ORIGIN)
    second = await record_restore(database, SYSTEM_ORIGIN)
    assert await read_version_base(database) == second.version_base > first.version_base
    return second.version_base


async def test_versions_of_cases_begin_at_the_restore(base, client):
    """In ETags, in If-Match, in a conflict, and in events."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}"
    async with client.get(path) as response:
        assert response.headers["ETag"] == f'"{base + 1}"'
    for undone in ('"1"', '"2"', f'"{base - 1}"'):
        await expect_json(client.get(path, headers={"If-None-Match": undone}))
        changed = await client.patch(path, json={"subject": "B"}, headers={"If-Match": undone})
        await expect_problem(changed, 412, "case_changed")
    async with client.patch(path, json={"subject": "B"}, headers={"If-Match": f'"{base + 1}"'}) as response:
        assert response.headers["ETag"] == f'"{base + 2}"'
    await expect_json(client.get(path, headers={"If-None-Match": f'"{base + 2}"'}), 304)
    message = {"authorType": "agent", "message": "Hello"}
    refused = await client.post(f"{path}/messages", json=message, headers={"If-Match": f'"{base + 1}"'})
    problem = await expect_problem(refused, 412, "case_changed")
    assert (problem["currentVersion"], problem["messages"]) == (base + 2, [])
    await add_message(client, case)
    async with client.get(path, params={"messagesLimit": "1"}) as response:
        assert number_of(response) == base + 3


async def test_versions_of_views_begin_at_the_restore(base, client):
    """In ETags and in If-Match."""
    async with client.post("/support/views", json={"name": "Mine", "query": {}}) as response:
        assert number_of(response) == base + 1
        path = response.headers["Location"]
    for tag, status in (('"1"', 412), (f'"{base + 1}"', 200)):
        await expect_json(client.patch(path, json={"name": "All"}, headers={"If-Match": tag}), status)
    async with client.get(path) as response:
        assert number_of(response) == base + 2


async def test_versions_of_macros_and_overrides_are_times(base, client):
    """They never repeat, and have no base."""
    tags = []
    for text in ("One", "Two"):
        async with client.put("/support/macros/hello", json={"text": text}) as response:
            tags.append(response.headers["ETag"])
    first, tag = tags
    assert int(tag.strip('"')) > int(first.strip('"')) + 1
    for sent, status in ((first, 412), (tag, 200)):
        request = client.put("/support/macros/hello", json={"text": "Three"}, headers={"If-Match": sent})
        await expect_json(request, status)
    override = {"reason": "slow", "duration": "PT5M"}
    async with client.put("/support/overrides/payment", json=override) as response:
        version = (await response.json())["version"]
    await expect_json(client.delete("/support/overrides/payment", headers={"If-Match": f'"{version}"'}), 204)


async def test_events_have_the_versions_of_etags(base, client):
    """Also the stream of changes: its followers compare them with what they have."""
    async with follow(client) as stream:
        case = await open_case(client)
        await add_message(client, case)
        await eventually(lambda: len(stream.changes) == 2)
        assert [change.data["version"] for change in stream.changes] == [base + 1, base + 2]
