"""The event commands: list, replay and drop dead letters, list and replay webhook deliveries."""

import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from redis.asyncio import Redis

from support_service.commands.events import DEAD_LETTER_PAGE
from support_service.platform.database.tables import published_events
from tests.support.calls import eventually, open_case
from tests.support.events.fixtures import outbox_is_empty, send_inbound, shipment_event, wait_for_events
from tests.support.events.inbound import SENTENCE, about, wait_for_messages
from tests.support.process import running
from tests.support.service import service_of

pytestmark = pytest.mark.usefixtures("processes")


async def run(tmp_path, *arguments, **variables):
    """Run a command; return its status, output and errors."""
    async with running("events", *arguments, cwd=tmp_path, **variables) as process:
        return await process.wait_for_exit(90)


async def command(tmp_path, *arguments, **variables):
    """Run a command that must succeed; return its output."""
    status, out, errors = await run(tmp_path, *arguments, **variables)
    assert status == 0, errors
    return out


async def test_dead_letters_are_listed_and_replayed(make_client, redis, tmp_path):
    """A dead letter is listed with its reason. A replayed one takes effect once its cause is fixed."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url, SUPPORT_EVENTS_CLAIM_AFTER="0.05")
    case = await open_case(client, **about("order", "order-456"))
    variables = {"SUPPORT_REDIS_URL": redis.url}
    async with Redis.from_url(redis.url) as stream:
        await send_inbound(stream, b"{")
        await stream.xadd(
            "support.inbound.dead", {"event": json.dumps(shipment_event()), "reason": "why", "tries": 5, "at": "then"}
        )

        async def both_are_dead_letters():
            return await stream.xlen("support.inbound.dead") >= 2

        await eventually(both_are_dead_letters)
    listed = [json.loads(line) for line in (await command(tmp_path, "dead-letters", "list", **variables)).splitlines()]
    assert {letter["event"] for letter in listed} == {"{", json.dumps(shipment_event())}
    assert all(letter["reason"] and letter["id"] and letter["at"] and letter["tries"] for letter in listed)
    (wanted,) = (letter["id"] for letter in listed if letter["reason"] == "why")
    assert "Replayed 1 " in await command(tmp_path, "dead-letters", "replay", wanted, **variables)
    await wait_for_messages(client, case, [SENTENCE])
    assert "Replayed 1 " in await command(tmp_path, "dead-letters", "replay", **variables)


async def test_dead_letters_are_dropped(redis, tmp_path):
    """An unreadable event is dropped by its id, and the others stay."""
    variables = {"SUPPORT_REDIS_URL": redis.url}
    async with Redis.from_url(redis.url) as stream:
        for event in ("{", "another"):
            await stream.xadd("support.inbound.dead", {"event": event, "reason": "why", "tries": 1, "at": "then"})
    listed = [json.loads(line) for line in (await command(tmp_path, "dead-letters", "list", **variables)).splitlines()]
    (unreadable,) = (letter["id"] for letter in listed if letter["event"] == "{")
    assert "Dropped 1 " in await command(tmp_path, "dead-letters", "drop", unreadable, **variables)
    (left,) = (await command(tmp_path, "dead-letters", "list", **variables)).splitlines()
    assert json.loads(left)["event"] == "another"


@pytest.mark.parametrize(("action", "done"), [("drop", "Dropped"), ("replay", "Replayed")])
async def test_unknown_dead_letter_is_named(redis, tmp_path, action, done):
    """The status is 2. What the command does to the other dead letters is done."""
    async with Redis.from_url(redis.url) as stream:
        letter = await stream.xadd("support.inbound.dead", {"event": "{", "reason": "why", "tries": 1, "at": "then"})
        ids = ["1-0", letter.decode(), letter.decode(), "2-0"]
        status, out, errors = await run(tmp_path, "dead-letters", action, *ids, SUPPORT_REDIS_URL=redis.url)
        assert await stream.xlen("support.inbound.dead") == 0
    assert (status, out) == (2, f"{done} 1 dead letters.\n")
    assert errors == "support-service: There is no dead letter 1-0, 2-0: the list has the ids\n"


async def test_published_events_are_published_again(make_client, redis, tmp_path, database_url):
    """With the same ids, by the running service; the audit log says so. A dry run only counts."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    await open_case(client)
    variables = {"SUPPORT_DATABASE_URL": database_url}
    async with Redis.from_url(redis.url) as stream:
        before = await wait_for_events(stream, 1)
        await eventually(lambda: outbox_is_empty(service_of(client).database))
        told = json.loads(await command(tmp_path, "republish", "--since", "10m", "--dry-run", **variables))
        assert (told["events"], told["dryRun"]) == (1, True)
        told = json.loads(await command(tmp_path, "republish", "--since", "10m", **variables))
        assert (told["events"], told["dryRun"]) == (1, False)
        assert await wait_for_events(stream, 2) == before * 2
    async with client.get("/support/audit?action=events.republished") as response:
        (entry,) = (await response.json())["items"]
    assert entry["changes"]["events"] == [None, 1]
    repeated = sa.select(published_events.c.seq).where(published_events.c.publication > 1)
    await eventually(lambda: service_of(client).database.fetch_one(repeated))
    now = datetime.now(UTC).isoformat()
    told = json.loads(await command(tmp_path, "republish", "--since", now, **variables))
    assert told["events"] == 0


async def test_event_of_a_dead_letter_does_not_control_the_terminal(redis, tmp_path):
    """Letters of any script are printed as they are."""
    event = "đơn \x9b31m\x7f\u202e"
    async with Redis.from_url(redis.url) as stream:
        await stream.xadd("support.inbound.dead", {"event": event, "reason": "why", "tries": 1, "at": "then"})
    (line,) = (await command(tmp_path, "dead-letters", "list", SUPPORT_REDIS_URL=redis.url)).splitlines()
    assert line.isprintable()
    assert "đơn" in line
    assert json.loads(line)["event"] == event


async def test_more_dead_letters_than_a_page_are_listed_and_replayed(redis, tmp_path):
    variables = {"SUPPORT_REDIS_URL": redis.url}
    letters = 2 * DEAD_LETTER_PAGE + 1
    async with Redis.from_url(redis.url) as stream:
        for number in range(letters):
            letter = {"event": str(number), "reason": "why", "tries": 5, "at": "then"}
            await stream.xadd("support.inbound.dead", letter)
        listed = await command(tmp_path, "dead-letters", "list", **variables)
        assert [json.loads(line)["event"] for line in listed.splitlines()] == list(map(str, range(letters)))
        assert f"Replayed {letters} " in await command(tmp_path, "dead-letters", "replay", **variables)
        assert await stream.xlen("support.inbound.dead") == 0
        assert await stream.xlen("support.inbound") == letters


async def test_dead_letter_of_another_program_is_listed_and_replayed(redis, tmp_path):
    """It is listed with the fields that it has, and goes back unchanged."""
    variables = {"SUPPORT_REDIS_URL": redis.url}
    async with Redis.from_url(redis.url) as stream:
        await stream.xadd("support.inbound.dead", {"event": "x", "tries": "many"})
        await stream.xadd("support.inbound.dead", {"data": "y"})
        listed = (await command(tmp_path, "dead-letters", "list", **variables)).splitlines()
        assert [json.loads(line)["event"] for line in listed] == ["x", ""]
        assert "Replayed 2 " in await command(tmp_path, "dead-letters", "replay", **variables)
        assert [fields for _, fields in await stream.xrange("support.inbound")] == [{b"event": b"x"}, {b"data": b"y"}]
        assert "Replayed 0 " in await command(tmp_path, "dead-letters", "replay", **variables)


async def test_webhook_deliveries_are_listed_and_replayed(make_client, environment, tmp_path):
    """A delivery to an unreachable endpoint is pending with its reason. A replay sends it again."""
    hooks = [{"name": "gone", "url": "http://127.0.0.1:1/hook", "secret": "whsec_" + "c2VjcmV0" * 4}]
    client = await make_client(SUPPORT_WEBHOOKS=json.dumps(hooks))
    await open_case(client)
    url = {"SUPPORT_DATABASE_URL": environment["SUPPORT_DATABASE_URL"]}

    async def tried():
        listed = await command(tmp_path, "webhooks", "list", "--state", "pending", **url)
        first = json.loads(listed.splitlines()[0]) if listed else {"tries": 0}
        return first if first["tries"] else None

    delivery = await eventually(tried, 90)
    assert (delivery["endpoint"], delivery["type"]) == ("gone", "support.case.opened.v1")
    assert "refused" in delivery["reason"] or "Cannot connect" in delivery["reason"]
    assert "1 deliveries" in await command(tmp_path, "webhooks", "replay", str(delivery["id"]), **url)
    status, out, errors = await run(tmp_path, "webhooks", "replay", "123456", str(delivery["id"]), **url)
    assert (status, out) == (2, "Scheduled 1 deliveries again.\n")
    assert errors == "support-service: There is no webhook delivery 123456: the list has the ids\n"
    assert (await command(tmp_path, "webhooks", "list", "--state", "failed", **url)) == ""
    assert "0 deliveries" in await command(tmp_path, "webhooks", "replay", **url)
