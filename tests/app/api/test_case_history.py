"""The changes of a case in its timeline: each once, in the order of time, with the values before and after."""

from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

import pytest
from pydantic_core import to_json

from support_service.cases.model.history import MAX_HISTORY_BYTES, MAX_HISTORY_ENTRIES
from support_service.platform.audit import entry_rows
from tests.support.calls import add_message, open_case, read_case, read_detail, refresh, upload
from tests.support.service import service_of

AT = datetime(2026, 1, 1, tzinfo=UTC)
MESSAGE = {"authorType": "customer", "message": "a secret"}
IS_NOTED = ContextVar("is_noted", default=False)  # whether the read in progress has been noted


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

    for name in ("fetch_now", "fetch_all"):
        monkeypatch.setattr(database, name, noting(getattr(database, name)))
    return statements


async def add_audit_entries(client, case, changes):
    """Add an entry of the action case.changed to the audit log for each of the changes, one second after the other."""
    entry = {"actor": "lan", "role": "agent", "action": "case.changed", "case_id": case["id"], "request_id": None}
    entries = [
        entry | {"at": AT + timedelta(seconds=number), "changes": to_json(each).decode()}
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
    if not kept:
        monkeypatch.setattr("support_service.service.CASE_CACHE_BYTES", 0)
    client = await make_client()
    case = await open_case(client)
    statements = note_statements(monkeypatch, client, case)
    assert (await read_case(client, case))["timeline"] == []
    details = [await read_detail(client, case), await read_detail(client, case), await refresh(client, case)]
    assert [changes_in(each) for each in details] == [changes_in(case)] * 3
    await read_case(client, case)
    assert ["history" in columns for columns in statements] == [False, True, True, True, False]


async def test_changes_made_by_any_replica_are_seen(make_client):
    """Also in a timeline that a replica keeps."""
    writer, reader = await make_client(), await make_client()
    case = await open_case(writer)
    for status in ("pending", "resolved", "closed", "open"):
        await send(writer, "POST", f"/support/cases/{case['id']}/status?status={status}")
        for replica in (writer, reader, writer):
            found = changes_in(await read_detail(replica, case))
            assert found[-1][2]["status"][1] == status
        assert found == changes_in(await refresh(reader, case))


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
