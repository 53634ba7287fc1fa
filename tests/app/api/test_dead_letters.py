"""Dead letters by the API: listed, replayed and dropped, on both brokers."""

import pytest
import sqlalchemy as sa
from redis.asyncio import Redis

from support_service.platform.database.tables import audit_log
from tests.support.calls import eventually, expect_json, expect_problem
from tests.support.events.dead_letters import give_up, waiting_events
from tests.support.service import service_of

LETTERS = "/support/dead-letters"


@pytest.fixture(params=["in-process", "redis"])
async def client(request, make_client):
    """A client of a service on each broker that consumes no events."""
    variables = {"SUPPORT_EVENTS_CONSUME": "false"}
    if request.param == "redis":
        variables["SUPPORT_REDIS_URL"] = request.getfixturevalue("redis").url
    return await make_client(**variables)


async def page(client, **query):
    """Return a page of dead letters."""
    return await expect_json(client.get(LETTERS, params=query))


async def audited(client):
    """Return the actions of the audit log."""
    rows = await service_of(client).database.fetch_all(sa.select(audit_log.c.action, audit_log.c.changes))
    return [(row.action, row.changes) for row in rows]


async def test_dead_letters_are_listed_in_pages(client):
    """Oldest first; a page begins after the last one, also when that was replayed meanwhile."""
    assert await page(client) == {"items": [], "nextCursor": None}
    await give_up(client, "1", "2", "x" * 2001)
    first = await page(client, limit="2")
    assert [each["event"] for each in first["items"]] == ["1", "2"]
    assert {(each["reason"], each["tries"], each["truncated"]) for each in first["items"]} == {("no good", 5, False)}
    await expect_json(client.delete(f"{LETTERS}/{first['items'][1]['id']}"), 204)
    last = await page(client, cursor=first["nextCursor"])
    assert [(each["event"], each["truncated"]) for each in last["items"]] == [("x" * 2000, True)]
    assert last["nextCursor"] is None


async def test_dead_letter_is_replayed_once(client):
    """It goes back to its stream and is recorded; a repeat with the same key changes nothing."""
    await give_up(client, "1", "2")
    one, two = (each["id"] for each in (await page(client))["items"])
    for _ in range(2):
        await expect_json(client.post(f"{LETTERS}/{one}/replay", headers={"Idempotency-Key": "k"}), 204)
    assert await waiting_events(client) == 1
    assert [each["id"] for each in (await page(client))["items"]] == [two]
    await expect_problem(client.post(f"{LETTERS}/{one}/replay"), 404, "dead_letter_not_found")
    assert await audited(client) == [("dead-letter.replayed", f'{{"deadLetterId":["{one}",null]}}')]


async def test_dead_letter_is_dropped(client):
    await give_up(client, "1")
    ((letter,), _) = (await page(client)).values()
    await expect_json(client.delete(f"{LETTERS}/{letter['id']}"), 204)
    assert (await page(client))["items"] == []
    assert await waiting_events(client) == 0
    await expect_problem(client.delete(f"{LETTERS}/{letter['id']}"), 404, "dead_letter_not_found")
    assert await audited(client) == [("dead-letter.dropped", f'{{"deadLetterId":["{letter["id"]}",null]}}')]


async def test_malformed_id_is_not_found(client, subtests):
    await give_up(client, "1")
    for letter in ("1", "abc", "-", "1-0-0", "9" * 20 + "-0", "%00"):
        with subtests.test(letter):
            await expect_problem(client.delete(f"{LETTERS}/{letter}"), 404, "dead_letter_not_found")
            await expect_problem(client.get(LETTERS, params={"cursor": letter}), 422, "invalid_request")


async def test_unreachable_redis_is_reported(make_client, redis):
    """Reading and changing are refused with a code of their own, and nothing is recorded."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    async with Redis.from_url(redis.url) as stream:
        await stream.xadd("support.inbound.dead", {"event": "x", "reason": "why", "tries": 1, "at": "then"})
    assert (await page(client))["items"][0]["at"] == "then"
    redis.kill()

    async def refused():
        async with client.get(LETTERS) as response:
            return response.status == 503

    await eventually(refused)
    await expect_problem(client.get(LETTERS), 503, "broker_unavailable")
    await expect_problem(client.delete(f"{LETTERS}/1-0"), 503, "broker_unavailable")
    assert await audited(client) == []
