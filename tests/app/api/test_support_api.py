"""The case API that clients rely on, and the metrics that each call changes."""

from datetime import datetime
from uuid import UUID

import pytest

from support_service.cases.model.case import CaseSummary
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from tests.support.calls import add_message, expect_json, expect_problem, open_case, read_case, upload

CASES_CREATED = "support_ticket_created_total"
MESSAGES_ADDED = "support_conversation_added_total"
STATUS_CHANGES = "support_ticket_status_changed_total"
# What every answer with a case has: the fields of the model, without fields of the service and of some answers only.
CASE_FIELDS = {field.alias for field in CaseSummary.model_fields.values() if not (field.exclude or field.exclude_if)}
DETAIL_FIELDS = CASE_FIELDS | {
    *("waitingSince", "messages", "moreMessages", "timeline", "attachments", "links", "timelineSources"),
    *("moreCaseEvents", "sla"),
}
MESSAGE_FIELDS = {
    *("id", "ticketId", "authorType", "authorId", "message", "attachmentUri", "attachmentIds", "sentiment"),
    *("metadata", "visibility", "externalId", "sentAt", "createdAt"),
}
NEW_CASE = {
    "subject": "Đơn hàng ORD-1",
    "description": "It is late.\nVery late.",
    "customerId": "customer-1",
    "channel": "email",
    "priority": "high",
    "assignedAgentId": "agent-1",
    "team": "returns",
    "context": [{"type": "order", "orderId": "ORD-1", "nested": {"a": [1, 2.5, None, True]}}],
    "tags": ["late", "vip"],
    "externalId": "<1@mail.example>",
    "sentAt": "2026-05-12T08:30:00.000000Z",
}


async def test_case_is_opened_as_sent(client, metric_changes):
    """The case is at its Location and counts once under its channel."""
    async with client.post("/support/cases", json=NEW_CASE) as response:
        assert response.status == 201
        assert response.content_type == "application/json"
        case = await response.json()
        assert response.headers["Location"] == f"/support/cases/{case['id']}"
    assert case.keys() == DETAIL_FIELDS
    assert {name: case[name] for name in NEW_CASE} == NEW_CASE
    assert (case["status"], case["messages"], case["attachments"]) == ("open", [], [])
    assert case["timelineSources"].keys() == {*UPSTREAM_SERVICES}
    assert UUID(case["id"])
    assert datetime.fromisoformat(case["createdAt"]).tzinfo
    assert await expect_json(client.get(response.headers["Location"])) == case | {"timeline": []}
    assert metric_changes.nonzero(CASES_CREATED) == {"email": 1}
    assert metric_changes.nonzero(MESSAGES_ADDED) == {}


async def test_case_is_opened_with_a_first_message(client, metric_changes):
    """The message is in the response and counts by its author."""
    first = {"authorType": "customer", "message": "Where is it?", "sentiment": "negative", "metadata": {"k": [1]}}
    case = await open_case(client, initialMessage=first)
    (message,) = case["messages"]
    assert message.keys() == MESSAGE_FIELDS
    assert {name: message[name] for name in first} == first
    assert (message["ticketId"], message["attachmentUri"]) == (case["id"], None)
    assert await read_case(client, case) == case | {"timeline": []}
    assert metric_changes.nonzero(MESSAGES_ADDED) == {"customer": 1}


async def test_case_needs_only_subject_and_channel(client):
    """The other fields have defaults, also if they are null."""
    nulls = dict.fromkeys(("description", "customerId", "priority", "context", "tags", "initialMessage"))
    for fields in ({}, nulls):
        case = await open_case(client, **fields)
        assert (case["priority"], case["context"], case["tags"], case["messages"]) == ("normal", [], [], [])
        assert {case[name] for name in ("description", "customerId", "assignedAgentId")} == {None}


async def test_requests_of_the_previous_service_are_accepted(client):
    """Unknown fields are neither refused nor stored, `medium` is `normal`, and one object of a context is a list."""
    sent = {"priority": "medium", "customerId": "medium", "context": {"type": "order", "id": 7}}
    first = {"authorType": "bot", "message": "Hi", "old": 1}
    case = await open_case(client, legacy=True, initialMessage=first, **sent)
    assert case.keys() == DETAIL_FIELDS
    assert (case["priority"], case["context"]) == ("normal", [{"type": "order", "id": 7}])
    assert (await add_message(client, case, legacy={"a": 1})).keys() == MESSAGE_FIELDS
    change = {"priority": "medium", "context": {"type": "note"}}
    changed = await expect_json(client.patch(f"/support/cases/{case['id']}", json=change))
    assert (changed["priority"], changed["context"]) == ("normal", [{"type": "note"}])
    listed = await expect_json(client.get("/support/cases?priority=medium&customerId=medium"))
    assert [item["id"] for item in listed["items"]] == [case["id"]]


async def test_message_is_added_to_the_conversation(client, metric_changes):
    """It is the last message, sets the time of the last change, and counts by its author."""
    case = await open_case(client)
    await add_message(client, case, "One", authorType="bot")
    message = await add_message(client, case, "Two", attachmentUri="https://x/y", sentiment="ok", metadata={"a": 1})
    assert (message["authorType"], message["message"], message["ticketId"]) == ("agent", "Two", case["id"])
    detail = await read_case(client, case)
    assert [each["message"] for each in detail["messages"]] == ["One", "Two"]
    assert detail["messages"][1] == message
    assert detail["updatedAt"] == message["createdAt"]
    assert metric_changes.nonzero(MESSAGES_ADDED) == {"bot": 1, "agent": 1}


@pytest.mark.parametrize("how", ["query", "json", "both"])
async def test_status_and_agent_are_set_by_query_or_body(client, metric_changes, how):
    """The query overrides the body. A repeated request counts once."""
    case = await open_case(client)
    sent = {"status": "pending", "assignedAgentId": "agent-2"}
    query = {"json": {}, "query": sent, "both": sent}[how]
    body = {"json": sent, "query": None, "both": {"status": "closed"}}[how]
    for _ in range(2):
        changed = await expect_json(client.post(f"/support/cases/{case['id']}/status", params=query, json=body))
    assert changed.keys() == CASE_FIELDS
    assert (changed["status"], changed["assignedAgentId"]) == ("pending", "agent-2")
    assert metric_changes.nonzero(STATUS_CHANGES) == {"pending": 1}


async def test_unknown_status_is_refused(client, metric_changes):
    """The response is 422, names the field, and adds no metric series."""
    case = await open_case(client)
    response = await client.post(f"/support/cases/{case['id']}/status", params={"status": "lost"})
    problem = await expect_problem(response, 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == ["status"]
    await expect_problem(client.post(f"/support/cases/{case['id']}/status"), 422, "invalid_request")
    assert metric_changes.nonzero(STATUS_CHANGES) == {}


async def test_only_the_sent_fields_change(client, metric_changes):
    """Repeating the change modifies nothing, not even the time of the last change."""
    case = await open_case(client, description="old", tags=["a"])
    change = {"subject": "New", "description": None, "priority": "urgent", "assignedAgentId": "agent-3"}
    change |= {"context": [{"type": "note"}], "tags": ["b"], "status": "resolved"}
    changed = await expect_json(client.patch(f"/support/cases/{case['id']}", json=change))
    assert changed.keys() == CASE_FIELDS
    assert {name: changed[name] for name in change} == change
    assert changed["updatedAt"] > case["updatedAt"]
    assert await expect_json(client.patch(f"/support/cases/{case['id']}", json=change)) == changed
    assert await expect_json(client.patch(f"/support/cases/{case['id']}", json={})) == changed
    assert metric_changes.nonzero(STATUS_CHANGES) == {"resolved": 1}
    assert metric_changes.nonzero(CASES_CREATED) == {"email": 1}


async def test_case_is_closed_with_an_optional_message(client, metric_changes):
    """A second closing may add a message and an agent, and does not count as a status change."""
    case = await open_case(client)
    detail = await expect_json(client.post(f"/support/cases/{case['id']}/close"))
    assert detail.keys() == DETAIL_FIELDS
    assert detail["status"] == "closed"
    closing = {"message": "Solved", "authorType": "bot", "sentiment": "positive", "assignedAgentId": "agent-4"}
    detail = await expect_json(client.post(f"/support/cases/{case['id']}/close", json=closing))
    assert (detail["status"], detail["assignedAgentId"]) == ("closed", "agent-4")
    assert [(each["authorType"], each["message"]) for each in detail["messages"]] == [("bot", "Solved")]
    assert metric_changes.nonzero(STATUS_CHANGES) == {"closed": 1}
    assert metric_changes.nonzero(MESSAGES_ADDED) == {"bot": 1}


@pytest.mark.usefixtures("upstream_services")
async def test_opened_and_closed_case_has_its_own_entries_as_timeline(make_client, orders, payments, shipments):
    """No service is asked, which `timelineSources` says. A GET without `includeTimeline` has no timeline."""
    client = await make_client()
    context = [{"type": "order", "orderId": "ORD-1"}, {"type": "note", "timestamp": "2026-01-01T00:00:00Z"}]
    opened = await open_case(client, context=context, initialMessage={"authorType": "customer", "message": "Late"})
    assert [entry["type"] for entry in opened["timeline"]] == ["note", "order", "case-event", "conversation"]
    file = await upload(client, opened, filename="a.txt")
    closed = await expect_json(client.post(f"/support/cases/{opened['id']}/close", json={"message": "Bye"}))
    assert [entry.get("message") or entry.get("uri") or entry.get("action") for entry in closed["timeline"]] == [
        *(None, None, "case.opened", "Late"),
        *("attachment.added", file["uri"], "Bye", "case.closed"),
    ]
    for case in (opened, closed):
        sources = {(each["status"], each["reason"]) for each in case["timelineSources"].values()}
        assert sources == {("none", "timeline not requested")}
    assert orders.calls + payments.calls + shipments.calls == []
    assert (await read_case(client, opened))["timeline"] == []


async def test_workload_counts_the_cases_of_an_agent_by_status(client):
    """An unknown agent has no cases."""
    for status in ("open", "open", "pending", "closed"):
        case = await open_case(client, assignedAgentId="agent-5")
        await client.post(f"/support/cases/{case['id']}/status", params={"status": status})
    await open_case(client, assignedAgentId="agent-6")
    for agent, numbers in (("agent-5", (2, 1, 0, 1)), ("nobody/here", (0, 0, 0, 0))):
        found = await expect_json(client.get(f"/support/agents/{agent.replace('/', '%2F')}/workload"))
        expected = dict(zip(("open", "pending", "resolved", "closed"), numbers, strict=True))
        assert found == {"agentId": agent, **expected}


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
