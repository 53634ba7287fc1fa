"""The changes of a case in its timeline: each once, in the order of time, with the values before and after."""

import asyncio
import random
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

import pytest
from pydantic_core import to_json

from support_service.cases.model.history import MAX_HISTORY_BYTES, MAX_HISTORY_ENTRIES
from support_service.cases.policy import ALLOWED_STATUS_CHANGES
from support_service.platform.audit import entry_rows
from tests.support.calls import add_message, open_case, read_case, read_detail, refresh, upload
from tests.support.service import service_of

AT = datetime(2026, 1, 1, tzinfo=UTC)
MESSAGE = {"authorType": "customer", "message": "a secret"}
IS_NOTED = ContextVar("is_noted", default=False)  # whether the read in progress has been noted


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


def changes_in(case):
    """Return the changes in the timeline of a case: (action, actor, changes)."""
    return [
        (entry["action"], entry["actor"], entry["changes"])
        for entry in case["timeline"]
        if entry["type"] == "case-event"
    ]


async def send(client, method, path, **sent):
    """Send a request; return its answer."""
    async with client.request(method, path, **sent) as response:
        assert response.status < 300, await response.text()
        return await response.json() if response.status != 204 else {}


def note_statements(monkeypatch, client, case):
    """Return the list to which each read of a case adds the columns of its statement."""
    database, statements = service_of(client).database, []

    def noting(read):
        async def noted(statement, parameters=None):
            if case["id"] in (parameters or {}).values() and not IS_NOTED.get():
                statements.append(statement.selected_columns.keys())
            token = IS_NOTED.set(True)  # one of these methods may call the other
            try:
                return await read(statement, parameters)
            finally:
                IS_NOTED.reset(token)

        return noted

    for name in ("fetch_one", "fetch_all"):
        monkeypatch.setattr(database, name, noting(getattr(database, name)))
    return statements


async def add_audit_entries(client, case, changes):
    """Add an entry of the action case.changed to the audit log for each of the changes, one second after the other."""
    entries = [
        {
            "at": AT + timedelta(seconds=number),
            "actor": "lan",
            "role": "agent",
            "action": "case.changed",
            "case_id": case["id"],
            "request_id": None,
            "changes": to_json(each).decode(),
        }
        for number, each in enumerate(changes)
    ]
    async with service_of(client).database.transaction() as tx:
        await entry_rows.add_entries(tx, entries)


async def test_each_change_is_in_the_timeline_once(client):
    """Texts and the customer's data are not in `changes`, and a change of nothing else has no entry."""
    context, private = [{"type": "note", "text": "a secret"}], {"subject": "a secret", "description": "a secret"}
    case = await open_case(
        client, customerId="secret-1", channel="secret", assignedAgentId="agent-1", initialMessage=MESSAGE
    )
    path = f"/support/cases/{case['id']}"
    expected = [
        ("case.opened", {"status": [None, "open"], "priority": [None, "normal"], "assignedAgentId": [None, "agent-1"]})
    ]
    assert changes_in(case) == [(action, "anyone", changes) for action, changes in expected]
    changed = {"priority": "high", "team": "returns", "tags": ["late"]}
    await send(client, "PATCH", path, json=changed | private)
    expected.append(
        ("case.changed", {"priority": ["normal", "high"], "team": [None, "returns"], "tags": [[], ["late"]]})
    )
    await send(client, "PATCH", path, json={"description": "another secret", "context": context})
    await add_message(client, case, "another secret")
    file = await upload(client, case, filename="a.txt")
    added = {"attachmentId": [None, file["id"]], "filename": [None, "a.txt"], "visibility": [None, "public"]}
    expected.append(("attachment.added", added))
    await add_message(client, case, "another secret", visibility="internal", attachmentUri=file["uri"])
    expected.append(("message.added", {"attachmentVisibility": ["public", "internal"]}))
    await send(client, "DELETE", f"{path}/attachments/{file['id']}")
    removed = {"attachmentId": [file["id"], None], "filename": ["a.txt", None], "visibility": ["internal", None]}
    expected.append(("attachment.removed", removed))
    await send(client, "POST", f"{path}/status", json={"status": "resolved", "assignedAgentId": "agent-2"})
    expected.append(("case.changed", {"status": ["open", "resolved"], "assignedAgentId": ["agent-1", "agent-2"]}))
    await send(client, "POST", f"{path}/messages", json=MESSAGE)
    expected.append(("case.reopened", {"status": ["resolved", "open"]}))
    closed = await send(client, "POST", f"{path}/close", json=MESSAGE)
    expected.append(("case.closed", {"status": ["open", "closed"]}))
    read, refreshed = await read_detail(client, case), await refresh(client, case)
    assert "secret" not in str(changes_in(closed))
    for answer in (closed, read, refreshed):
        assert changes_in(answer) == [(action, "anyone", changes) for action, changes in expected]
        times = [entry["timestamp"] for entry in answer["timeline"]]
        assert times == sorted(times)
    types = [entry["type"] for entry in read["timeline"]]
    assert types.count("conversation") == 5
    assert types.index("case-event") < types.index("conversation")  # the opening is before the first message
    assert (await read_case(client, case))["timeline"] == []


@pytest.mark.parametrize("kept", [True, False])
async def test_each_read_of_a_case_is_one_statement(make_client, monkeypatch, kept):
    """Only a timeline reads the history, in the same statement: also of a case that was read without it before."""
    client = await make_client(**({} if kept else {"SUPPORT_CASE_CACHE_BYTES": "0"}))
    case = await open_case(client)
    statements = note_statements(monkeypatch, client, case)
    assert (await read_case(client, case))["timeline"] == []
    details = [await read_detail(client, case), await read_detail(client, case), await refresh(client, case)]
    assert [changes_in(each) for each in details] == [changes_in(case)] * 3
    await read_case(client, case)
    assert ["history" in columns for columns in statements] == [False, True, True, True, False]


async def test_a_kept_timeline_has_later_changes(client):
    case = await open_case(client)
    for priority, before in (("low", "normal"), ("urgent", "low")):
        assert changes_in(await read_detail(client, case)) == changes_in(await refresh(client, case))
        await send(client, "PATCH", f"/support/cases/{case['id']}", json={"priority": priority})
        await read_case(client, case)
        latest = changes_in(await read_detail(client, case))[-1]
        assert latest == ("case.changed", "anyone", {"priority": [before, priority]})


async def test_links_are_in_the_history_of_both_cases(client):
    """A duplicate is closed by its link, and reopened when that is removed."""
    case, original = await open_case(client), await open_case(client)
    path = f"/support/cases/{case['id']}/links"
    link = await send(client, "POST", path, json={"kind": "duplicate-of", "caseId": original["id"]})
    await send(client, "DELETE", f"{path}/{link['id']}")
    for each, other, kind in ((case, original, "duplicate-of"), (original, case, "duplicated-by")):
        fields = {"linkId": link["id"], "kind": kind, "linkedCaseId": other["id"]}
        closed = [("case.closed", "anyone", {"status": ["open", "closed"]})] if each is case else []
        reopened = [("case.reopened", "anyone", {"status": ["closed", "open"]})] if each is case else []
        assert changes_in(await read_detail(client, each))[1:] == [
            ("link.added", "anyone", {name: [None, value] for name, value in fields.items()}),
            *closed,
            ("link.removed", "anyone", {name: [value, None] for name, value in fields.items()}),
            *reopened,
        ]


async def test_history_equals_the_changes_that_were_made(client):
    """A model remembers the fields and what each accepted PATCH changes."""
    chosen = random.Random(1)
    values = {
        "status": ["open", "pending", "resolved", "closed"],
        "priority": ["low", "normal", "high", "urgent"],
        "assignedAgentId": [None, "agent-1", "agent-2"],
        "team": [None, "returns", "billing"],
        "tags": [[], ["late"], ["late", "Đổi trả"], ['"status":']],
        "subject": ["Late", '"status":[null,"open"]'],  # in no history, whatever it says
    }
    opened = {name: chosen.choice(values[name]) for name in ("priority", "assignedAgentId", "team", "tags")}
    case = await open_case(client, subject="Late", **{name: value for name, value in opened.items() if value})
    state = {"status": "open", "subject": "Late", **opened}
    first = {"status": "open", **{name: value for name, value in opened.items() if value}}
    expected = [{name: [None, value] for name, value in first.items()}]
    for step in range(60):
        change = {name: chosen.choice(values[name]) for name in chosen.sample(sorted(values), chosen.randint(1, 4))}
        changed = {name: [state[name], value] for name, value in change.items() if state[name] != value}
        allowed = "status" not in changed or change["status"] in ALLOWED_STATUS_CHANGES[state["status"]]
        async with client.patch(f"/support/cases/{case['id']}", json=change) as response:
            assert response.status == (200 if allowed else 409), (step, await response.text())
        if allowed:
            state |= change
            shown = {name: each for name, each in changed.items() if name != "subject"}
            expected += [shown] if shown else []
        if step % 7 == 0:
            assert [changes for _, _, changes in changes_in(await read_detail(client, case))] == expected
    assert [changes for _, _, changes in changes_in(await read_detail(client, case))] == expected


async def test_changes_made_by_another_replica_are_seen(make_client):
    writer, reader = await make_client(), await make_client()
    case = await open_case(writer)
    for status in ("pending", "resolved", "closed", "open"):
        await send(writer, "POST", f"/support/cases/{case['id']}/status?status={status}")
        assert changes_in(await read_detail(reader, case))[-1][2]["status"][1] == status


async def test_concurrent_readers_see_the_same_history(client):
    case = await open_case(client)
    await send(client, "PATCH", f"/support/cases/{case['id']}", json={"tags": ["late"]})
    details = await asyncio.gather(*(read_detail(client, case) for _ in range(16)))
    assert {len(changes_in(each)) for each in details} == {2}


@pytest.mark.parametrize(
    ("added", "kept"),
    [
        ([{"tags": [[], [str(number)]]} for number in range(MAX_HISTORY_ENTRIES + 50)], MAX_HISTORY_ENTRIES),
        ([{"subject": ["x" * (MAX_HISTORY_BYTES // 4), ""], "tags": [[], [str(number)]]} for number in range(10)], 4),
        ([{"tags": [[], [str(number)]]} for number in range(MAX_HISTORY_ENTRIES)], MAX_HISTORY_ENTRIES),
        ([{"tags": [[], ["x" * (MAX_HISTORY_BYTES * 2)]]}], 1),
    ],
    ids=["many entries", "long texts", "one more", "a long entry"],
)
async def test_history_is_bounded(client, added, kept):
    """A timeline has the newest changes, and says that there are older ones: the opening at least."""
    case = await open_case(client)
    assert case["moreCaseEvents"] is False
    await add_audit_entries(client, case, [{"subject": ["a", "b"]}, *added, {"subject": ["b", "c"]}])
    read = await read_detail(client, case)
    assert [changes["tags"][1] for _, _, changes in changes_in(read)] == [each["tags"][1] for each in added[-kept:]]
    assert read["moreCaseEvents"] is True


async def test_history_within_its_limits_is_complete(client):
    case = await open_case(client)
    await add_audit_entries(client, case, [{"priority": ["low", "high"]}] * (MAX_HISTORY_ENTRIES - 1))
    read = await read_detail(client, case)
    assert (len(changes_in(read)), read["moreCaseEvents"]) == (MAX_HISTORY_ENTRIES, False)
