"""Requests in the style of other clients: snake_case names, other cases of letters, and times with offsets."""

import re

from tests.support.calls import (
    add_message,
    eventually,
    expect_json,
    expect_problem,
    list_cases,
    open_case,
    read_case,
    read_detail,
    upload,
)
from tests.support.each import each_row

CASE = {"subject": "A", "channel": "email"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?P<offset>.*)")


async def test_names_of_fields_in_snake_case_are_accepted(client):
    """They are accepted at every level and in every request, and answers stay in camelCase."""
    message = {"author_type": "agent", "message": "Hi", "attachment_uri": "https://x/y", "metadata": {"order_id": 7}}
    case = await open_case(client, customer_id="c", assigned_agent_id="a", initial_message=message)
    assert (case["customerId"], case["assignedAgentId"]) == ("c", "a")
    (first,) = case["messages"]
    assert (first["authorType"], first["attachmentUri"], first["metadata"]) == ("agent", "https://x/y", {"order_id": 7})
    path = f"/support/cases/{case['id']}"
    assert (await expect_json(client.patch(path, json={"assigned_agent_id": None})))["assignedAgentId"] is None
    assert (
        await expect_json(
            client.post(f"{path}/status?status=pending&assigned_agent_id=b", json={"assignedAgentId": "c"})
        )
    )["assignedAgentId"] == "b"
    closed = await expect_json(client.post(f"{path}/close", json={"message": "Bye", "author_type": "bot"}))
    assert closed["messages"][-1]["authorType"] == "bot"
    await open_case(client)
    assert [each["id"] for each in (await list_cases(client, customer_id="c"))["items"]] == [case["id"]]
    types = [entry["type"] for entry in (await expect_json(client.get(f"{path}?include_timeline=true")))["timeline"]]
    assert types.count("conversation") == 2


async def test_field_with_two_values_is_refused(client):
    """No value is chosen silently. One value under two names is accepted: some clients send both while they migrate."""
    first = {"message": "x", "authorType": "bot", "author_type": "agent"}
    for body, field in (
        ({"customerId": "a", "customer_id": "b"}, "customerId"),
        ({"initialMessage": first}, "initialMessage.authorType"),
        ({"initial_message": first}, "initialMessage.authorType"),
    ):
        problem = await expect_problem(client.post("/support/cases", json=CASE | body), 422, "invalid_request")
        assert [error["field"] for error in problem["errors"]] == [field]
    problem = await expect_problem(client.get("/support/cases?customer_id=a&customerId=b"), 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == ["customerId"]
    assert (await open_case(client, customerId="a", customer_id="a"))["customerId"] == "a"


CONTEXT_ENTRY_WITH_TWO_VALUES = [
    {"type": "order", "orderId": 1, "order_id": 2},
    {"type": "order", "orderId": "1", "order_id": ""},
    {"type": "payment", "paymentId": "p", "payment_id": "q"},
    {"type": "payment", "paymentId": "p", "orderId": "1", "order_id": "2"},
    {"type": "shipment", "trackingNumber": "1", "tracking_number": "2"},
]


@each_row("entry", CONTEXT_ENTRY_WITH_TWO_VALUES)
async def test_context_entry_with_two_values_of_an_id_is_refused(client, entry):
    """No value is chosen silently, neither for a new case nor for a change."""
    context = [{"type": "note"}, entry]
    response = await client.post("/support/cases", json=CASE | {"context": context})
    problem = await expect_problem(response, 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == ["context.1"]
    case = await open_case(client)
    response = await client.patch(f"/support/cases/{case['id']}", json={"context": context})
    await expect_problem(response, 422, "invalid_request")


async def test_context_entry_with_one_value_of_an_id_is_accepted(client):
    """Null is no value, and an entry that refers to no service may have any members."""
    context = [
        {"type": "order", "orderId": 1, "order_id": "1"},
        {"type": "order", "orderId": None, "order_id": 2},
        {"type": "note", "orderId": 1, "order_id": 2},
        {"orderId": 1, "order_id": 2},
    ]
    assert (await open_case(client, context=context))["context"] == context


async def test_words_are_accepted_in_any_case(client):
    """Status, priority and author type may be in upper case and between spaces, also in queries."""
    message = {"authorType": " Agent ", "message": "Hi"}
    case = await open_case(client, priority=" URGENT", initialMessage=message)
    assert (case["priority"], case["messages"][0]["authorType"]) == ("urgent", "agent")
    path = f"/support/cases/{case['id']}"
    changed = await expect_json(client.patch(path, json={"priority": "Medium", "status": "PENDING"}))
    assert (changed["priority"], changed["status"]) == ("normal", "pending")
    assert (await expect_json(client.post(f"{path}/status", params={"status": " Resolved "})))["status"] == "resolved"
    found = await list_cases(client, status="RESOLVED ", priority="Normal")
    assert [each["id"] for each in found["items"]] == [case["id"]]
    closed = await expect_json(client.post(f"{path}/close", json={"message": "Bye", "authorType": "BOT"}))
    assert closed["messages"][-1]["authorType"] == "bot"
    await expect_problem(client.get("/support/cases?status=shut"), 422, "invalid_request")


async def test_context_with_names_in_snake_case_is_linked(upstream_services, make_client, orders):
    """It is stored as sent, and the timeline has the order."""
    orders.add("ORD-1", "placed")
    client = await make_client()
    case = await open_case(client, context=[{"type": "order", "order_id": "ORD-1"}])
    assert case["context"] == [{"type": "order", "order_id": "ORD-1"}]
    timeline = (await read_detail(client, case))["timeline"]
    assert [entry["type"] for entry in timeline if "orderId" in entry] == ["order"]


def times_with_other_offsets(value, path=""):
    """Return the times in a JSON document that do not end in Z, with their paths."""
    if isinstance(value, dict):
        return [each for key, child in value.items() for each in times_with_other_offsets(child, f"{path}.{key}")]
    if isinstance(value, list):
        return [each for child in value for each in times_with_other_offsets(child, path)]
    found = TIME.fullmatch(value) if isinstance(value, str) else None
    return [(path, value)] if found and found["offset"] != "Z" else []


async def test_every_time_ends_in_z(upstream_services, make_client, orders):
    """Times in answers end in Z, whatever offset a source or an event has."""
    orders.add("ORD-1", "placed", at="2026-01-01T07:00:00+07:00")
    client = await make_client()
    case = await open_case(client, context={"type": "order", "orderId": "ORD-1"})
    await add_message(client, case)
    await upload(client, case)
    event = {
        "eventType": "order.status.changed.v1",
        "payload": {"orderId": "ORD-1", "status": "paid", "occurredAt": "2026-01-01T09:00:00+02:00"},
    }
    await expect_json(client.post("/support/events", json=event), 202)

    async def noted():
        return len((await read_case(client, case))["messages"]) == 2

    await eventually(noted)
    path = f"/support/cases/{case['id']}"
    for url in (f"{path}?includeTimeline=true", "/support/cases", f"{path}/attachments", f"{path}/audit"):
        assert times_with_other_offsets(await expect_json(client.get(url))) == [], url
