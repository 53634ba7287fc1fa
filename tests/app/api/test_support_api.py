"""The API of cases as clients rely on it, and the metrics that each call moves."""

from datetime import datetime
from uuid import UUID

import pytest

from tests.conftest import both_databases
from tests.support.calls import add_message, expect_problem, open_case, read_case

pytestmark = both_databases
CREATED = "support_ticket_created_total"
SAID = "support_conversation_added_total"
CHANGED = "support_ticket_status_changed_total"
TICKET = {
    "id",
    "subject",
    "description",
    "customerId",
    "status",
    "priority",
    "channel",
    "assignedAgentId",
    "team",
    "context",
    "tags",
    "createdAt",
    "updatedAt",
}
DETAIL = TICKET | {"messages", "timeline", "attachments", "timelineSources"}
MESSAGE = {
    "id",
    "ticketId",
    "authorType",
    "message",
    "attachmentUri",
    "sentiment",
    "metadata",
    "visibility",
    "createdAt",
}
NEW = {
    "subject": "Đơn hàng ORD-1",
    "description": "It is late.\nVery late.",
    "customerId": "customer-1",
    "channel": "email",
    "priority": "high",
    "assignedAgentId": "agent-1",
    "team": "returns",
    "context": [{"type": "order", "orderId": "ORD-1", "nested": {"a": [1, 2.5, None, True]}}],
    "tags": ["late", "vip"],
}


async def test_open_a_case(client, metrics):
    """A case is opened as sent, is at its Location, and counts once by its channel."""
    async with client.post("/support/cases", json=NEW) as response:
        assert response.status == 201
        assert response.content_type == "application/json"
        case = await response.json()
        assert response.headers["Location"] == f"/support/cases/{case['id']}"
    assert case.keys() == DETAIL
    assert {name: case[name] for name in NEW} == NEW
    assert (case["status"], case["messages"], case["timeline"], case["attachments"]) == ("open", [], [], [])
    assert case["timelineSources"].keys() == {"order", "payment", "fulfillment"}
    assert UUID(case["id"])
    assert datetime.fromisoformat(case["createdAt"]).tzinfo
    async with client.get(response.headers["Location"]) as again:
        assert await again.json() == case
    assert metrics.nonzero(CREATED) == {"email": 1}
    assert metrics.nonzero(SAID) == {}


async def test_open_a_case_with_its_first_message(client, metrics):
    """The first message is in the answer, and counts by its author like any other."""
    first = {"authorType": "customer", "message": "Where is it?", "sentiment": "negative", "metadata": {"k": [1]}}
    case = await open_case(client, initialMessage=first)
    (message,) = case["messages"]
    assert message.keys() == MESSAGE
    assert {name: message[name] for name in first} == first
    assert (message["ticketId"], message["attachmentUri"]) == (case["id"], None)
    assert await read_case(client, case) == case
    assert metrics.nonzero(SAID) == {"customer": 1}


async def test_the_least_that_a_case_needs(client):
    """Subject and channel suffice; the rest has its defaults."""
    case = await open_case(client)
    assert (case["priority"], case["context"], case["tags"]) == ("normal", [], [])
    assert {case[name] for name in ("description", "customerId", "assignedAgentId")} == {None}


async def test_null_counts_as_left_out(client):
    """A field that a client sends as null has its default."""
    nothing = dict.fromkeys(("description", "customerId", "priority", "context", "tags", "initialMessage"))
    case = await open_case(client, **nothing)
    assert (case["priority"], case["context"], case["tags"], case["messages"]) == ("normal", [], [], [])


async def test_medium_is_read_as_normal(client):
    """The old service's priority `medium` is `normal`, in a case, in a change and in a filter."""
    case = await open_case(client, priority="medium")
    assert case["priority"] == "normal"
    async with client.patch(f"/support/cases/{case['id']}", json={"priority": "medium"}) as response:
        assert (await response.json())["priority"] == "normal"
    async with client.get("/support/cases?priority=medium") as response:
        assert [item["id"] for item in (await response.json())["items"]] == [case["id"]]


async def test_a_single_context_object_is_a_list_of_one(client):
    """Context may be one object, as clients of the old service send it."""
    case = await open_case(client, context={"type": "order", "id": 7})
    assert case["context"] == [{"type": "order", "id": 7}]
    async with client.patch(f"/support/cases/{case['id']}", json={"context": {"type": "note"}}) as response:
        assert (await response.json())["context"] == [{"type": "note"}]


async def test_unknown_fields_are_ignored(client):
    """Fields that nobody knows are not refused and not kept."""
    case = await open_case(client, legacy=True, initialMessage={"authorType": "bot", "message": "Hi", "old": 1})
    assert case.keys() == DETAIL
    message = await add_message(client, case, legacy={"a": 1})
    assert message.keys() == MESSAGE


async def test_add_a_message(client, metrics):
    """A message is answered with 200, is last in the case, touches it, and counts by its author."""
    case = await open_case(client)
    await add_message(client, case, "One", authorType="bot")
    message = await add_message(client, case, "Two", attachmentUri="https://x/y", sentiment="ok", metadata={"a": 1})
    assert (message["authorType"], message["message"], message["ticketId"]) == ("agent", "Two", case["id"])
    detail = await read_case(client, case)
    assert [said["message"] for said in detail["messages"]] == ["One", "Two"]
    assert detail["messages"][1] == message
    assert detail["updatedAt"] == message["createdAt"]
    assert metrics.nonzero(SAID) == {"bot": 1, "agent": 1}


@pytest.mark.parametrize("how", ["query", "json", "both"])
async def test_set_a_status(client, metrics, how):
    """A status and an agent are set by query or by JSON, the query has the last word, and the change counts once."""
    case = await open_case(client)
    sent = {"status": "pending", "assignedAgentId": "agent-2"}
    query = {"json": {}, "query": sent, "both": sent}[how]
    body = {"json": sent, "query": None, "both": {"status": "closed"}}[how]
    for _ in range(2):
        async with client.post(f"/support/cases/{case['id']}/status", params=query, json=body) as response:
            assert response.status == 200
            ticket = await response.json()
    assert ticket.keys() == TICKET
    assert (ticket["status"], ticket["assignedAgentId"]) == ("pending", "agent-2")
    assert metrics.nonzero(CHANGED) == {"pending": 1}


async def test_an_unknown_status_is_refused(client, metrics):
    """A status that nobody knows is 422, names its field, and makes no series."""
    case = await open_case(client)
    response = await client.post(f"/support/cases/{case['id']}/status", params={"status": "lost"})
    problem = await expect_problem(response, 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == ["status"]
    await expect_problem(await client.post(f"/support/cases/{case['id']}/status"), 422, "invalid_request")
    assert metrics.nonzero(CHANGED) == {}


async def test_change_a_case(client, metrics):
    """Only the fields sent change; the same values again change nothing, not even the time of the last change."""
    case = await open_case(client, description="old", tags=["a"])
    change = {"subject": "New", "description": None, "priority": "urgent", "assignedAgentId": "agent-3"}
    change |= {"context": [{"type": "note"}], "tags": ["b"], "status": "resolved"}
    async with client.patch(f"/support/cases/{case['id']}", json=change) as response:
        assert response.status == 200
        ticket = await response.json()
    assert ticket.keys() == TICKET
    assert {name: ticket[name] for name in change} == change
    assert ticket["updatedAt"] > case["updatedAt"]
    async with client.patch(f"/support/cases/{case['id']}", json=change) as response:
        assert await response.json() == ticket
    async with client.patch(f"/support/cases/{case['id']}", json={}) as response:
        assert await response.json() == ticket
    assert metrics.nonzero(CHANGED) == {"resolved": 1}
    assert metrics.nonzero(CREATED) == {"email": 1}


async def test_close_a_case(client, metrics):
    """Closing takes a last message and an agent, answers the detail, and counts once though it is done twice."""
    case = await open_case(client)
    async with client.post(f"/support/cases/{case['id']}/close") as response:
        assert response.status == 200
        detail = await response.json()
    assert detail.keys() == DETAIL
    assert detail["status"] == "closed"
    closing = {"message": "Solved", "authorType": "bot", "sentiment": "positive", "assignedAgentId": "agent-4"}
    async with client.post(f"/support/cases/{case['id']}/close", json=closing) as response:
        detail = await response.json()
    assert (detail["status"], detail["assignedAgentId"]) == ("closed", "agent-4")
    assert [(said["authorType"], said["message"]) for said in detail["messages"]] == [("bot", "Solved")]
    assert metrics.nonzero(CHANGED) == {"closed": 1}
    assert metrics.nonzero(SAID) == {"bot": 1}


async def test_an_agents_workload(client):
    """An agent's cases are counted by status; an agent nobody knows has none."""
    for status in ("open", "open", "pending", "closed"):
        case = await open_case(client, assignedAgentId="agent-5")
        await client.post(f"/support/cases/{case['id']}/status", params={"status": status})
    await open_case(client, assignedAgentId="agent-6")
    async with client.get("/support/agents/agent-5/workload") as response:
        assert response.status == 200
        assert await response.json() == {"agentId": "agent-5", "open": 2, "pending": 1, "resolved": 0, "closed": 1}
    async with client.get("/support/agents/nobody%2Fhere/workload") as response:
        assert await response.json() == {"agentId": "nobody/here", "open": 0, "pending": 0, "resolved": 0, "closed": 0}
