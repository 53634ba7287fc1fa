"""A conversation that is read in parts."""

import pytest

from tests.support.calls import add_message, expect_json, expect_problem, open_case, read_case, upload


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


async def pages(client, case, limit):
    """Read a case in parts; return the messages of each part."""
    found, query = [], {"messagesLimit": str(limit)}
    while True:
        part = await read_case(client, case, **query)
        found.append(part["messages"])
        if not part["moreMessages"]:
            return found
        query["messagesAfter"] = part["messages"][-1]["id"]


async def test_parts_together_are_the_conversation(client):
    """Each part is as long as asked for, except the last; everything but the messages is as in the whole case."""
    case = await open_case(client)
    await upload(client, case)
    sent = [await add_message(client, case, str(number)) for number in range(6)]
    assert await pages(client, case, 4) == [sent[:4], sent[4:]]
    assert await pages(client, case, 3) == [sent[:3], sent[3:]]
    assert await pages(client, case, 200) == [sent]
    whole = await read_case(client, case)
    part = await read_case(client, case, messagesAfter=sent[0]["id"], messagesLimit="1")
    assert part == whole | {"messages": [sent[1]], "moreMessages": True}
    assert (whole["messages"], whole["moreMessages"]) == (sent, False)
    rest = await read_case(client, case, messagesAfter=sent[-1]["id"])
    assert (rest["messages"], rest["moreMessages"]) == ([], False)


async def test_part_has_a_tag_and_a_start_in_its_case(client):
    """A part that is unchanged is not sent again. A timeline is not read in parts."""
    case, other = await open_case(client), await open_case(client)
    message, path = await add_message(client, other), f"/support/cases/{case['id']}"
    async with client.get(f"{path}?messagesLimit=1") as response:
        etag = response.headers["ETag"]
    await expect_json(client.get(f"{path}?messagesLimit=1", headers={"If-None-Match": etag}), 304)
    for wrong in (
        {"messagesAfter": message["id"]},
        {"messagesAfter": "nobody"},
        {"messagesAfter": "m-1", "includeTimeline": "true"},
        {"messagesLimit": "1", "includeTimeline": "true"},
    ):
        await expect_problem(client.get(path, params=wrong), 422, "invalid_request")
