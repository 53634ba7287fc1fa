"""The description of events is what comes in and goes out."""

import json
import re

import pytest
from redis.asyncio import Redis

from support_service.cases.events import PAYLOADS
from support_service.events.inbound_events import MODEL_BY_TYPE
from support_service.telemetry.instruments.events import EVENTS_IN, EVENTS_OUT
from tests.support.calls import add_message, open_case
from tests.support.events.fixtures import wait_for_events


@pytest.fixture
def environment(environment, redis):
    """A service with Redis."""
    return environment | {"SUPPORT_REDIS_URL": redis.url}


@pytest.fixture
async def document(client):
    """The document as clients get it."""
    async with client.get("/asyncapi.json") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        return await response.json()


def follow(document, reference):
    """What a reference leads to; fails where it leads nowhere."""
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


async def test_both_directions_are_described(document):
    """Every type that goes out or comes in is a message of channels and operations, and every reference leads on."""
    assert document["asyncapi"] == "3.0.0"
    assert (
        set(document["components"]["messages"]) == {*PAYLOADS, *MODEL_BY_TYPE} == {*EVENTS_OUT, *EVENTS_IN} - {"other"}
    )
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)):
        follow(document, reference)
    for operation in document["operations"].values():
        channel = follow(document, operation["channel"]["$ref"])
        named = {follow(document, each["$ref"])["$ref"] for each in operation["messages"]}
        assert named == {each["$ref"] for each in channel["messages"].values()}
        kinds = set(channel["messages"])
        assert kinds == set(PAYLOADS if operation["action"] == "send" else MODEL_BY_TYPE)


async def test_the_streams_are_those_of_the_settings(make_client):
    """Who reads the description finds the streams by it."""
    client = await make_client(SUPPORT_EVENTS_STREAM="told", SUPPORT_EVENTS_INBOUND_STREAM="heard")
    async with client.get("/asyncapi.json") as response:
        channels = (await response.json())["channels"]
    assert (channels["out"]["address"], channels["in"]["address"]) == ("told", "heard")


async def test_what_is_published_is_as_described(client, document, redis):
    """An event has the attributes that are described, no more, and its data the fields of its schema."""
    case = await open_case(client)
    await add_message(client, case)
    async with Redis.from_url(redis.url) as stream:
        events = await wait_for_events(stream, 2)
    for event in events:
        payload = document["components"]["messages"][event["type"]]["payload"]
        assert set(event) == set(payload["properties"]) >= set(payload["required"])
        for name, rule in payload["properties"].items():
            assert event[name] == rule.get("const", event[name])
        schema = follow(document, payload["properties"]["data"]["$ref"])
        assert set(schema["required"]) - {"initialMessage"} <= set(event["data"]) <= set(schema["properties"])
        ticket = follow(document, schema["properties"]["ticket"]["$ref"])
        assert set(event["data"]["ticket"]) == set(ticket["properties"])
