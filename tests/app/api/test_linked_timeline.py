"""One timeline of a case and its duplicates."""

import asyncio

import pytest

from tests.support.access.principals import Principals
from tests.support.calls import (
    add_message,
    eventually,
    expect_json,
    expect_problem,
    open_case,
    read_case,
    refresh,
    upload,
)
from tests.support.links import FOREIGN, OWN, add_link, link_request
from tests.support.service import own_client

client = own_client

BOTH = {"includeTimeline": "true", "includeLinked": "true"}
MESSAGE = {"authorType": "customer", "message": "Where is it?"}


async def open_duplicates(client, *contexts, **fields):
    """Open a case with each context; link all as duplicates of the first one. Return all."""
    original, *duplicates = [await open_case(client, context=context, **fields) for context in contexts]
    for duplicate in duplicates:
        await add_link(client, duplicate, original, "duplicate-of")
    return original, *duplicates


def order(name):
    return [{"type": "order", "orderId": name}]


def calls_of_order(orders, name):
    """Return how often an order was asked for."""
    return orders.count(f"/orders/{name}")


async def test_case_and_its_duplicates_have_one_timeline(shared_client):
    """Context, changes, messages and files of all are in the order of time, and each entry names its case.

    The timeline of one case names none, also that of a duplicate.
    """
    note = {"type": "note", "timestamp": "2026-01-01T00:00:00Z", "ticketId": "forged"}
    original, one, two = [
        await open_case(shared_client, context=context, initialMessage=MESSAGE) for context in ([], [note], [])
    ]
    for case in (two, original, one):
        await add_message(shared_client, case, case["id"])
        await upload(shared_client, case, filename=f"{case['id']}.txt")
    for case in (one, two):
        await add_link(shared_client, case, original, "duplicate-of")
    found = await read_case(shared_client, original, **BOTH)
    timeline = found["timeline"]
    assert timeline[0] == note | {"ticketId": one["id"], "origin": "context"}
    assert [each["timestamp"] for each in timeline] == sorted(each["timestamp"] for each in timeline)
    assert await read_case(shared_client, original, includeTimeline="true") == found
    assert await refresh(shared_client, original) == found
    for case in (original, one, two):
        of_case = [entry for entry in timeline if entry["ticketId"] == case["id"]]
        if case is not original:
            alone = await read_case(shared_client, case, includeTimeline="true")
            assert {entry.get("ticketId") for entry in alone["timeline"]} <= {None, "forged"}
            assert of_case == [entry | {"ticketId": case["id"]} for entry in alone["timeline"]]
        assert {entry["type"] for entry in of_case} >= {"conversation", "attachment", "case-event"}
    linked = await read_case(shared_client, original, includeLinked="true")
    assert found == linked | {"timeline": timeline, "timelineSources": found["timelineSources"]}
    assert found["moreCaseEvents"] is False


@pytest.mark.usefixtures("upstream_services")
async def test_object_of_several_cases_is_asked_for_once(client, orders):
    """Its entries are there once, with the first case that names it; other objects are with their own case."""
    for name in ("ORD-1", "ORD-2"):
        orders.add(name, "order.created")
    original, _, other = await open_duplicates(client, order("ORD-1"), order("ORD-1"), order("ORD-2"))
    timeline = (await read_case(client, original, **BOTH))["timeline"]
    found = {(each["type"], each["ticketId"]) for each in timeline if each.get("source") == "order-service"}
    assert found == {(kind, case["id"]) for kind in ("order", "order-event") for case in (original, other)}
    assert sum(each.get("source") == "order-service" for each in timeline) == 4
    assert [calls_of_order(orders, name) for name in ("ORD-1", "ORD-2")] == [1, 1]
    again = await read_case(client, original, **BOTH)
    assert (again["timeline"], again["timelineSources"]["order"]["status"]) == (timeline, "cached")
    assert [calls_of_order(orders, name) for name in ("ORD-1", "ORD-2")] == [1, 1]


async def test_one_linked_timeline_leaves_half_of_the_connections_free(
    make_client, upstream_services, orders, monkeypatch
):
    """However many duplicates it has: it calls a source as little at a time as the timeline of one case."""
    monkeypatch.setattr("support_service.service.SOURCE_CONNECTIONS", 4)
    client = await make_client()
    original, *_ = await open_duplicates(client, *(order(f"ORD-{number}") for number in range(5)))
    release = orders.hang()
    reading = [asyncio.create_task(read_case(client, original, **BOTH))]
    await eventually(lambda: orders.waiting == 2)
    other = await open_case(client, context=[*order("ORD-8"), *order("ORD-9")])
    reading.append(asyncio.create_task(read_case(client, other, includeTimeline="true")))
    await eventually(lambda: orders.waiting == 4)
    assert [call for call in orders.calls if "ORD-8" in call or "ORD-9" in call]
    assert len(orders.calls) == 4
    release.set()
    assert {each["timelineSources"]["order"]["status"] for each in await asyncio.gather(*reading)} == {"fresh"}


async def test_each_duplicate_of_a_timeline_costs_a_request(make_client):
    """A caller who owes requests gets 429 before the sources are asked."""
    client = await make_client(SUPPORT_RATE_LIMIT="20/h")
    original, *_ = await open_duplicates(client, *[[]] * 5)  # nine requests
    await read_case(client, original, **BOTH)  # five
    await read_case(client, original, includeTimeline="true")
    await read_case(client, original)
    path = f"/support/cases/{original['id']}"
    await expect_problem(client.get(path), 429, "rate_limited")


async def test_linked_cases_cost_what_is_read(tmp_path, make_client):
    """Analysts get masked answers, which are short, and pay for the long conversations that are read for them."""
    path = tmp_path / "tokens.json"
    callers = Principals(None, path)
    for role in ("supervisor", "analyst"):
        callers.add(role, role)
    tokens = {"SUPPORT_AUTH": "token", "SUPPORT_TOKENS_FILE": str(path)}
    callers.client = await make_client(**tokens, SUPPORT_RATE_LIMIT="14/h")
    case = await callers.read_json("supervisor", "POST", "/support/cases", json={"subject": "Long", "channel": "chat"})
    path = f"/support/cases/{case['id']}"
    for _ in range(5):
        await callers.read_json(
            "supervisor", "POST", f"{path}/messages", json={"authorType": "agent", "message": "x" * 65_000}
        )
    for _ in range(3):  # each costs 5 requests of 14: one, and 4 for 256 KiB
        assert len(str(await callers.read_json("analyst", "GET", f"{path}?includeLinked=true"))) < 64 * 1024
    await expect_problem(callers.request("analyst", "GET", "/support/me"), 429, "rate_limited")


async def test_linked_timeline_has_what_the_caller_may_see(principals, open_owned):
    """Customers get no notes and files of agents and no cases of others, and analysts masked entries."""
    personal = {"type": "note", "text": "Lan, 0901234567", "timestamp": "2026-01-01T00:00:00Z"}
    original, mine, foreign = [await open_owned(**owner, context=[personal]) for owner in (OWN, OWN, FOREIGN)]
    cases = (original, mine, foreign)
    for case in cases:
        for visibility in ("public", "internal"):
            message = {"authorType": "agent", "message": "secret", "visibility": visibility}
            path = f"/support/cases/{case['id']}/messages"
            await principals.read_json("supervisor", "POST", path, json=message)
    for duplicate in (mine, foreign):
        await expect_json(link_request(principals, "supervisor", duplicate, original, "duplicate-of"), 201)
    path = f"/support/cases/{original['id']}?includeTimeline=true&includeLinked=true"
    for reader, expected in {"supervisor": cases, "agent": cases, "customer": cases[:2], "analyst": cases}.items():
        found = await principals.read_json(reader, "GET", path)
        timeline, texts = found["timeline"], [each["message"] for each in found["messages"]]
        assert texts == {"customer": ["secret"] * 2, "analyst": ["[masked]"] * 6}.get(reader, ["secret"] * 6)
        assert {each["ticketId"] for each in timeline} == {each["id"] for each in expected}, reader
        messages = [each for each in timeline if each["type"] == "conversation"]
        assert len(messages) == len(expected) * (1 if reader == "customer" else 2), reader
        assert all(("actor" in each) == (reader in {"supervisor", "agent"}) for each in timeline if "action" in each)
        for each in expected[1:]:
            if reader == "agent" and each is foreign:  # which is not theirs to read alone
                continue
            alone_path = f"/support/cases/{each['id']}?includeTimeline=true"
            alone = (await principals.read_json(reader, "GET", alone_path))["timeline"]
            of_case = [entry for entry in timeline if entry["ticketId"] == each["id"]]
            assert of_case == [entry | {"ticketId": each["id"]} for entry in alone], reader
        if reader == "analyst":
            assert "secret" not in str(timeline)
            assert "0901234567" not in str(timeline)
    for reader in ("other-customer", "other-agent"):
        await expect_problem(principals.request(reader, "GET", path), 404, "case_not_found")
