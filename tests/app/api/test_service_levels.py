"""Service levels over HTTP: policies, the clocks of cases, breaches, lists by due time. For roles see test_roles.py."""

from datetime import UTC, datetime, timedelta

import pytest_asyncio

from support_service.core.clock import utc_now
from support_service.core.domain.principals import SYSTEM
from tests.support.calls import (
    add_message,
    eventually,
    expect_json,
    expect_problem,
    list_cases,
    list_subjects,
    open_case,
    read_case,
)
from tests.support.service_levels import HOUR, move_due_times
from tests.support.timings import patient_timings

POLICIES = "/support/sla-policies"
TARGETS = {"firstResponse": "PT1H", "nextResponse": "PT2H", "resolution": "PT8H"}
KEY = {"Idempotency-Key": "policy-key-1"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(make_shared_client, shared_constants):
    """A client of a service that looks for breaches often."""
    shared_constants("cases.clocks.breaches", INTERVAL=0.02)
    return await make_shared_client(timings=patient_timings(max_policies=3))


async def put(client, name, status=200, headers=(), **fields):
    """Replace or create a policy; return it, and its ETag."""
    body = {"targets": TARGETS, **fields}
    async with client.put(f"{POLICIES}/{name}", json=body, headers=dict(headers)) as response:
        assert response.status == status, await response.text()
        return await response.json(), response.headers["ETag"]


async def set_status(client, case, status):
    await expect_json(client.post(f"/support/cases/{case['id']}/status?status={status}"))


async def states(client, case):
    return {target: clock["state"] for target, clock in ((await read_case(client, case))["sla"] or {}).items()}


async def audit_entries(client, case):
    """Return the entries of a case in the audit log that are about service levels."""
    return [
        entry
        for entry in (await expect_json(client.get(f"/support/cases/{case['id']}/audit")))["items"]
        if entry["action"] == "sla.breached"
    ]


def as_time(text):
    return datetime.fromisoformat(text).astimezone(UTC)


async def test_policy_is_created_replaced_and_deleted(client):
    """All fields are replaced; the same content leaves the version as it is."""
    match = {"priority": ["urgent"], "tag": ["vip"]}
    created, first = await put(client, "10-urgent", status=201, match=match, public=True)
    assert created["match"] == match
    assert (created["name"], created["public"], created["targets"]) == ("10-urgent", True, TARGETS)
    assert await put(client, "10-urgent", match=match, public=True) == (created, first)
    replaced, second = await put(client, "10-urgent", targets={"resolution": "P1D"})
    assert replaced["targets"] == {"resolution": "PT24H"}
    assert first != second
    await expect_json(client.get(f"{POLICIES}/10-urgent", headers={"If-None-Match": second}), 304)
    await put(client, "05-first", status=201)
    assert [each["name"] for each in (await expect_json(client.get(POLICIES)))["items"]] == ["05-first", "10-urgent"]
    stale = {"json": {"targets": TARGETS}, "headers": {"If-Match": first}}
    await expect_problem(client.put(f"{POLICIES}/10-urgent", **stale), 412, "sla_policy_changed")
    await expect_problem(client.delete(f"{POLICIES}/10-urgent", headers={"If-Match": first}), 412, "sla_policy_changed")
    assert (await client.delete(f"{POLICIES}/10-urgent", headers={"If-Match": second})).status == 204
    await expect_problem(client.get(f"{POLICIES}/10-urgent"), 404, "sla_policy_not_found")
    _, third = await put(client, "10-urgent", status=201)
    assert third not in (first, second)


async def test_limits_and_bad_input_of_policies(client):
    """Names, unknown members and the number of policies."""
    await expect_problem(client.put(f"{POLICIES}/a b", json={"targets": TARGETS}), 422, "invalid_request")
    unknown = {"targets": TARGETS, "match": {"priorities": ["high"]}}
    await expect_problem(client.put(f"{POLICIES}/a", json=unknown), 422, "invalid_request")
    await expect_problem(client.get(f"{POLICIES}/a b"), 404, "sla_policy_not_found")
    for name in "abc":
        await put(client, name, status=201)
    await expect_problem(client.put(f"{POLICIES}/d", json={"targets": TARGETS}), 409, "too_many_sla_policies")
    assert (await client.delete(f"{POLICIES}/a")).status == 204
    await put(client, "d", status=201, headers=KEY)
    await put(client, "d", status=201, headers=KEY)


async def test_case_has_the_clocks_of_the_first_policy_that_matches(client):
    """Later changes of policies apply to later cases."""
    before = await open_case(client, subject="Before")
    assert before["sla"] is None
    await put(client, "20-all", status=201)
    await put(client, "10-urgent", status=201, match={"priority": ["urgent"]}, targets={"firstResponse": "PT10M"})
    case = await open_case(client, subject="A")
    assert case["sla"].keys() == {"firstResponse", "resolution"}
    assert case["sla"]["firstResponse"]["state"] == "running"
    opened_at = as_time(case["createdAt"])
    shown = (await read_case(client, case))["sla"]
    assert as_time(shown["firstResponse"]["dueAt"]) == opened_at + HOUR
    assert as_time(shown["resolution"]["dueAt"]) == opened_at + 8 * HOUR
    urgent = await open_case(client, subject="B", priority="urgent")
    assert as_time(urgent["sla"]["firstResponse"]["dueAt"]) == as_time(urgent["createdAt"]) + timedelta(minutes=10)
    await put(client, "20-all", targets={"firstResponse": "PT5H"})
    await client.delete(f"{POLICIES}/10-urgent")
    assert (await read_case(client, case))["sla"]["firstResponse"]["dueAt"] == shown["firstResponse"]["dueAt"]
    assert await states(client, urgent) == {"firstResponse": "running"}
    listed = {each["subject"]: each["sla"] for each in (await list_cases(client))["items"]}
    assert listed["Before"] is None
    assert listed["A"]["resolution"]["dueAt"] == shown["resolution"]["dueAt"]


async def test_clocks_follow_the_case(client):
    """Answers end clocks, also an agent's last words; pending and resolving stop them, reopening resumes them."""
    await put(client, "all", status=201)
    case = await open_case(client, initialMessage={"authorType": "customer", "message": "Where is it?"})
    await add_message(client, case, visibility="internal")
    await add_message(client, case, authorType="bot")
    assert await states(client, case) == {"firstResponse": "running", "resolution": "running"}
    await add_message(client, case)
    assert await states(client, case) == {"firstResponse": "met", "resolution": "running"}
    await add_message(client, case, authorType="customer")
    await set_status(client, case, "pending")
    paused = (await read_case(client, case))["sla"]
    assert (paused["resolution"]["state"], paused["resolution"]["dueAt"]) == ("paused", None)
    assert paused["resolution"]["remaining"].startswith("PT7H59M")
    await set_status(client, case, "resolved")
    assert await states(client, case) == {"firstResponse": "met", "nextResponse": "paused", "resolution": "met"}
    assert await list_subjects(client, sort="due", dueWithin="P9D") == []
    await add_message(client, case, authorType="customer", message="Not solved")
    assert await states(client, case) == {"firstResponse": "met", "nextResponse": "running", "resolution": "running"}
    await add_message(client, case)
    await add_message(client, case, authorType="customer", message="And the other one?")
    closed = await expect_json(client.post(f"/support/cases/{case['id']}/close", json={"message": "Bye"}))
    assert {target: clock["state"] for target, clock in closed["sla"].items()} == dict.fromkeys(
        ("firstResponse", "nextResponse", "resolution"), "met"
    )


async def test_breach_is_reported_once(client, metric_changes):
    """In the audit log and in a counter, with the due time.

    `waiting` distinguishes an overdue answer from one that came too late.
    """
    await put(client, "all", status=201, targets={"firstResponse": "PT1H", "resolution": "PT4H"})
    case = await open_case(client)

    async def waiting():
        clocks = (await read_case(client, case))["sla"]
        return {target: (clock["state"], clock["waiting"]) for target, clock in clocks.items()}

    due_at = await move_due_times(client, 3, ["firstResponse"])
    (entry,) = await eventually(lambda: audit_entries(client, case))
    assert (entry["changes"]["target"], entry["actor"]) == ([None, "firstResponse"], SYSTEM.name)
    assert as_time(entry["changes"]["dueAt"][1]) == due_at
    assert await waiting() == {"firstResponse": ("breached", True), "resolution": ("running", True)}
    await add_message(client, case)
    assert len(await audit_entries(client, case)) == 1
    assert await waiting() == {"firstResponse": ("breached", False), "resolution": ("running", True)}
    late = (await read_case(client, case))["sla"]["firstResponse"]
    assert (as_time(late["dueAt"]), late["remaining"]) == (due_at, "PT0S")
    assert metric_changes.value("support_sla_breached_total", target="firstResponse") == 1
    await set_status(client, case, "pending")
    assert await waiting() == {"firstResponse": ("breached", False), "resolution": ("paused", False)}


async def test_late_answer_is_a_breach_although_nobody_looked(make_client, constants):
    """The transaction of the answer reports it, in the name of the service."""
    constants("cases.clocks.breaches", INTERVAL=1000)
    client = await make_client()
    await put(client, "all", status=201, targets={"firstResponse": "PT1H"})
    case = await open_case(client)
    await move_due_times(client, 3)
    assert await states(client, case) == {"firstResponse": "breached"}  # seen before it is reported
    assert await audit_entries(client, case) == []
    await add_message(client, case)
    (entry,) = await audit_entries(client, case)
    assert entry["actor"] == SYSTEM.name
    assert await states(client, case) == {"firstResponse": "breached"}


async def test_lists_by_due_time(client):
    """Overdue cases first; cases without a running clock come last, newest first."""
    await put(client, "10", status=201, match={"priority": ["urgent"]}, targets={"firstResponse": "PT10M"})
    await put(client, "20", status=201, match={"priority": ["high", "normal"]}, targets={"resolution": "PT5H"})
    for subject, priority in (("A", "high"), ("B", "urgent"), ("C", "low")):
        await open_case(client, subject=subject, priority=priority)
    await add_message(client, await open_case(client, subject="D", priority="urgent"))
    assert await list_subjects(client, sort="due") == ["B", "A", "D", "C"]
    page = await list_cases(client, sort="due", limit="1")
    assert await list_subjects(client, sort="due", limit="1", cursor=page["nextCursor"]) == ["A"]
    for within, found in (("PT30M", ["B"]), ("P1D", ["B", "A"]), ("PT0S", [])):
        assert await list_subjects(client, dueWithin=within) == found
    assert await list_subjects(client, dueBefore=(utc_now() + HOUR).isoformat().replace("+00:00", "Z")) == ["B"]
    await move_due_times(client, 1)
    assert await list_subjects(client, dueWithin="PT0S", sort="due") == ["A", "B"]
    view = {"name": "At risk", "query": {"dueWithin": "PT2H", "sort": "due"}}
    saved = await expect_json(client.post("/support/views", json=view), 201)
    assert saved["query"] == view["query"]
    assert (await expect_json(client.get(f"/support/views/{saved['id']}")))["count"] == 2


async def test_response_with_a_running_clock_is_never_taken_for_a_stored_one(client):
    """Its `remaining` changes with time; without a running clock the tag is that of the version."""
    await put(client, "all", status=201, targets={"firstResponse": "PT1H"})
    case = await open_case(client)
    path, same = f"/support/cases/{case['id']}", {"X-Request-Id": "one-of-the-client"}
    async with client.get(path, headers=same) as response:
        etag = response.headers["ETag"]
    assert (await client.get(path, headers=same | {"If-None-Match": etag})).status == 200
    await add_message(client, case)
    async with client.get(path) as response:
        etag = response.headers["ETag"]
    assert (await client.get(path, headers={"If-None-Match": etag})).status == 304


async def test_split_ends_the_clock_of_a_question_that_it_moves(client):
    """The clocks of the new case begin with the split: its customer waits for a first response, unless one is there."""
    await put(client, "all", 201)
    case = await open_case(client, description="One")
    answer = await add_message(client, case)
    question = await add_message(client, case, "Two", authorType="customer")
    assert await states(client, case) == {"firstResponse": "met", "nextResponse": "running", "resolution": "running"}

    async def split(message):
        body = {"messageIds": [message["id"]], "subject": "Another"}
        return await expect_json(client.post(f"/support/cases/{case['id']}/split", json=body), 201)

    asked, answered = await split(question), await split(answer)
    assert await states(client, case) == {"firstResponse": "met", "nextResponse": "met", "resolution": "running"}
    assert await states(client, asked) == {"firstResponse": "running", "resolution": "running"}
    assert await states(client, answered) == {"firstResponse": "met", "resolution": "running"}
    due = as_time(asked["sla"]["firstResponse"]["dueAt"])
    assert due == as_time(asked["createdAt"]) + HOUR
