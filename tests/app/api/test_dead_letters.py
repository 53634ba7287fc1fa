"""Dead letters by the API: listed, replayed and dropped."""

import pytest
import sqlalchemy as sa

from support_service.platform.database.tables import audit_log
from tests.support.calls import expect_json, expect_problem
from tests.support.events.dead_letters import give_up, waiting_events
from tests.support.service import service_of

LETTERS = "/support/dead-letters"


@pytest.fixture
async def client(make_client, no_consumer):
    """A client of a service that consumes no events."""
    return await make_client()


async def test_dead_letters_are_listed_replayed_and_dropped(client):
    """Oldest first. A page begins after the last one, also when that is gone. A repeat with the key changes nothing."""

    async def page(**query):
        found = await expect_json(client.get(LETTERS, params=query))
        return found["items"], found["nextCursor"]

    assert await page() == ([], None)
    await give_up(client, "1", "2", "x" * 2001)
    (one, two), cursor = await page(limit="2")
    assert [each["event"] for each in (one, two)] == ["1", "2"]
    assert {(each["reason"], each["tries"], each["truncated"]) for each in (one, two)} == {("no good", 5, False)}
    await expect_json(client.delete(f"{LETTERS}/{two['id']}"), 204)
    assert await waiting_events(client) == 0
    ((last,), end) = await page(cursor=cursor)
    assert (last["event"], last["truncated"], end) == ("x" * 2000, True, None)
    replay = f"{LETTERS}/{one['id']}/replay"
    for _ in range(2):
        await expect_json(client.post(replay, headers={"Idempotency-Key": "k"}), 204)
    assert await waiting_events(client) == 1
    assert await page() == ([last], None)
    await expect_problem(client.post(replay), 404, "dead_letter_not_found")
    for gone in (two["id"], "1", "abc", "-", "1-0-0", "9" * 20 + "-0", "%00"):
        await expect_problem(client.delete(f"{LETTERS}/{gone}"), 404, "dead_letter_not_found")
        if gone != two["id"]:
            await expect_problem(client.get(LETTERS, params={"cursor": gone}), 422, "invalid_request")
    rows = await service_of(client).database.fetch_all(sa.select(audit_log.c.action, audit_log.c.changes))
    assert [(row.action, row.changes) for row in rows] == [
        (f"dead-letter.{action}", f'{{"deadLetterId":["{each["id"]}",null]}}')
        for action, each in (("dropped", two), ("replayed", one))
    ]
