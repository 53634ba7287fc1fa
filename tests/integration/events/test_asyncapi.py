"""The description of events agrees with the events that are received and published."""

import json
import re

import pytest

from support_service.cases.model.published import PAYLOAD_BY_EVENT_TYPE
from support_service.events.consumer import INBOUND_TYPE_LABELS
from support_service.events.inbound_events import MODEL_BY_TYPE
from support_service.events.relay import PUBLISHED_TYPE_LABELS
from tests.support.calls import add_message, expect_json, open_case
from tests.support.events.fixtures import wait_for_events


@pytest.fixture
async def document(client):
    async with client.get("/asyncapi.json") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        return await response.json()


def follow(document, reference):
    for part in reference.removeprefix("#/").split("/"):
        document = document[part]
    return document


async def test_document_describes_published_and_inbound_events(document):
    """Every type is a message of channels and operations, and every reference resolves."""
    assert document["asyncapi"] == "3.0.0"
    assert (
        set(document["components"]["messages"])
        == {*PAYLOAD_BY_EVENT_TYPE, *MODEL_BY_TYPE}
        == {*PUBLISHED_TYPE_LABELS, *INBOUND_TYPE_LABELS} - {"other"}
    )
    for reference in re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)):
        follow(document, reference)
    for operation in document["operations"].values():
        channel = follow(document, operation["channel"]["$ref"])
        named = {follow(document, each["$ref"])["$ref"] for each in operation["messages"]}
        assert named == {each["$ref"] for each in channel["messages"].values()}
        kinds = set(channel["messages"])
        assert kinds == set(PAYLOAD_BY_EVENT_TYPE if operation["action"] == "send" else MODEL_BY_TYPE)


async def test_document_names_the_configured_streams(make_client):
    client = await make_client(SUPPORT_EVENTS_STREAM="told", SUPPORT_EVENTS_INBOUND_STREAM="heard")
    async with client.get("/asyncapi.json") as response:
        channels = (await response.json())["channels"]
    assert (channels["out"]["address"], channels["in"]["address"]) == ("told", "heard")


async def test_published_events_match_the_document(client, document, stream):
    """An event has exactly the described attributes, and its data the fields of its schema."""
    case = await open_case(client)
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}
    hello = {"authorType": "agent", "message": "Hello"}
    await (await client.post(f"/support/cases/{case['id']}/messages", json=hello, headers=headers)).read()
    events = await wait_for_events(stream, 2)
    assert events[1].items() >= headers.items()
    events[0] |= headers  # which an event without a trace lacks
    for event in events:
        payload = document["components"]["messages"][event["type"]]["payload"]
        assert set(event) == set(payload["properties"]) >= set(payload["required"])
        for name, rule in payload["properties"].items():
            assert event[name] == rule.get("const", event[name])
        schema = follow(document, payload["properties"]["data"]["$ref"])
        assert set(schema["required"]) - {"initialMessage"} <= set(event["data"]) <= set(schema["properties"])
        ticket = follow(document, schema["properties"]["ticket"]["$ref"])
        assert set(event["data"]["ticket"]) == set(ticket["properties"])


async def test_events_say_what_the_sender_calls_a_case_and_when_it_was_sent(client, document, stream):
    """In camelCase, in the case and in its messages; a repeat of the request publishes nothing."""
    named = {"externalId": "<1@mail.example>", "sentAt": "2026-05-12T15:30:00+07:00"}
    hello = {"authorType": "customer", "message": "Hello"}
    case = await open_case(client, initialMessage=hello, **named)
    message = await add_message(client, case, **named)
    path = f"/support/cases/{case['id']}"
    for url, sent in (("/support/cases", {"subject": "B", "channel": "email"}), (f"{path}/messages", hello)):
        await expect_json(client.post(url, json=sent | named))
    await expect_json(client.post(f"{path}/close"))
    opened, added, *closed = [event["data"] for event in await wait_for_events(stream, 4)]
    changes = [None, "conversation.added", "status.changed", None]
    assert [each.get("changeType") for each in (opened, added, *closed)] == changes
    sent_at = {"sentAt": "2026-05-12T08:30:00.000000Z"}
    for each in (opened["ticket"], added["ticket"], added["conversation"], closed[1]["ticket"]):
        assert named | sent_at == {name: each[name] for name in named}
    assert opened["initialMessage"]["sentAt"] == sent_at["sentAt"]
    assert opened["initialMessage"]["externalId"] is None
    assert added["conversation"] == message
    for name in ("Message", "Ticket"):
        schema = document["components"]["schemas"][name]["properties"]
        assert "date-time" in json.dumps(schema["sentAt"])
        assert schema["externalId"]
