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


@pytest.fixture
def run(tmp_path, redis):
    """Run an events command; return its status, output and errors."""

    async def run(*arguments, **variables):
        variables = {"SUPPORT_REDIS_URL": redis.url} | variables
        async with running("events", *arguments, cwd=tmp_path, **variables) as process:
            return await process.wait_for_exit(90)

    return run


@pytest.fixture
def command(run):
    """Run a command that must succeed; return the lines of its output."""

    async def command(*arguments, **variables):
        status, out, errors = await run(*arguments, **variables)
        assert status == 0, errors
        return out.splitlines()

    return command


@pytest.fixture
async def stream(redis):
    async with Redis.from_url(redis.url) as stream:
        yield stream


async def add_dead_letter(stream, event, **fields):
    letter = {"event": event, "reason": "why", "tries": 1, "at": "then"} | fields
    return (await stream.xadd("support.inbound.dead", letter)).decode()


async def test_dead_letters_are_listed_and_replayed(make_client, redis, stream, command, monkeypatch):
    """A dead letter is listed with its reason. A replayed one takes effect once its cause is fixed."""
    monkeypatch.setattr("support_service.service.CLAIM_AFTER", 0.05)
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    case = await open_case(client, **about("order", "order-456"))
    await send_inbound(stream, b"{")
    wanted = await add_dead_letter(stream, json.dumps(shipment_event()))

    async def both_are_dead_letters():
        return await stream.xlen("support.inbound.dead") >= 2

    await eventually(both_are_dead_letters)
    listed = [json.loads(line) for line in await command("dead-letters", "list")]
    assert {letter["event"] for letter in listed} == {"{", json.dumps(shipment_event())}
    assert all(letter["reason"] and letter["id"] and letter["at"] and letter["tries"] for letter in listed)
    assert [letter["reason"] for letter in listed if letter["id"] == wanted] == ["why"]
    assert "Replayed 1 " in (await command("dead-letters", "replay", wanted))[0]
    await wait_for_messages(client, case, [SENTENCE])
    assert "Replayed 1 " in (await command("dead-letters", "replay"))[0]


async def test_dead_letters_are_dropped_and_unknown_ones_named(stream, run, command):
    """The others stay. The status is 2 for an unknown id, and what the command does to other dead letters is done."""
    for action, done in (("drop", "Dropped"), ("replay", "Replayed")):
        letter, other = await add_dead_letter(stream, "{"), await add_dead_letter(stream, "another")
        status, out, errors = await run("dead-letters", action, "1-0", letter, letter, "2-0")
        assert (status, out) == (2, f"{done} 1 dead letters.\n")
        assert errors == "support-service: There is no dead letter 1-0, 2-0: the list has the ids\n"
        (left,) = await command("dead-letters", "list")
        assert (json.loads(left)["id"], json.loads(left)["event"]) == (other, "another")
        assert await command("dead-letters", "drop", other) == ["Dropped 1 dead letters."]


async def test_dead_letter_of_another_program_is_listed_and_replayed(stream, command):
    """With the fields that it has. Letters of any script are printed as they are, and control no terminal."""
    event = "đơn \x9b31m\x7f\u202e"
    for letter in ({"event": event, "tries": "many"}, {"data": "y"}):
        await stream.xadd("support.inbound.dead", letter)
    lines = await command("dead-letters", "list")
    assert [json.loads(line)["event"] for line in lines] == [event, ""]
    assert (lines[0].isprintable(), "đơn" in lines[0]) == (True, True)
    assert "Replayed 2 " in (await command("dead-letters", "replay"))[0]
    back = [fields for _, fields in await stream.xrange("support.inbound")]
    assert back == [{b"event": event.encode()}, {b"data": b"y"}]
    assert "Replayed 0 " in (await command("dead-letters", "replay"))[0]


async def test_more_dead_letters_than_a_page_are_listed_and_replayed(stream, command):
    letters = 2 * DEAD_LETTER_PAGE + 1
    for number in range(letters):
        await add_dead_letter(stream, str(number))
    assert [json.loads(line)["event"] for line in await command("dead-letters", "list")] == [*map(str, range(letters))]
    assert f"Replayed {letters} " in (await command("dead-letters", "replay"))[0]
    assert (await stream.xlen("support.inbound.dead"), await stream.xlen("support.inbound")) == (0, letters)


async def test_published_events_are_published_again(make_client, redis, stream, command, database_url):
    """With the same ids, by the running service; the audit log says so. A dry run only counts."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    await open_case(client)

    async def republish(*options):
        (line,) = await command("republish", "--since", *options, SUPPORT_DATABASE_URL=database_url)
        return json.loads(line)

    before = await wait_for_events(stream, 1)
    await eventually(lambda: outbox_is_empty(service_of(client).database))
    for *options, is_dry in (("10m", "--dry-run", True), ("10m", False)):
        told = await republish(*options)
        assert (told["events"], told["dryRun"]) == (1, is_dry)
    assert await wait_for_events(stream, 2) == before * 2
    async with client.get("/support/audit?action=events.republished") as response:
        (entry,) = (await response.json())["items"]
    assert entry["changes"]["events"] == [None, 1]
    repeated = sa.select(published_events.c.seq).where(published_events.c.publication > 1)
    await eventually(lambda: service_of(client).database.fetch_now(repeated))
    assert (await republish(datetime.now(UTC).isoformat()))["events"] == 0


async def test_webhook_deliveries_are_listed_and_replayed(make_client, environment, run, command):
    """A delivery to an unreachable endpoint is pending with its reason. A replay sends it again."""
    hooks = [{"name": "gone", "url": "http://127.0.0.1:1/hook", "secret": "whsec_" + "c2VjcmV0" * 4}]
    client = await make_client(SUPPORT_WEBHOOKS=json.dumps(hooks))
    await open_case(client)
    url = {"SUPPORT_DATABASE_URL": environment["SUPPORT_DATABASE_URL"]}

    async def tried():
        listed = await command("webhooks", "list", "--state", "pending", **url)
        first = json.loads(listed[0]) if listed else {"tries": 0}
        return first if first["tries"] else None

    delivery = await eventually(tried, 90)
    assert (delivery["endpoint"], delivery["type"]) == ("gone", "support.case.opened.v1")
    assert "refused" in delivery["reason"] or "Cannot connect" in delivery["reason"]
    assert "1 deliveries" in (await command("webhooks", "replay", str(delivery["id"]), **url))[0]
    status, out, errors = await run("webhooks", "replay", "123456", str(delivery["id"]), **url)
    assert (status, out) == (2, "Scheduled 1 deliveries again.\n")
    assert errors == "support-service: There is no webhook delivery 123456: the list has the ids\n"
    assert (await command("webhooks", "list", "--state", "failed", **url)) == []
    assert "0 deliveries" in (await command("webhooks", "replay", **url))[0]
