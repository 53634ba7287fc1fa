"""Idempotency-Key over HTTP: a retried write gets the stored response and has no further effect."""

import asyncio
import json

import pytest
import pytest_asyncio
import sqlalchemy as sa

from support_service.core.ids import new_id
from support_service.platform.database.tables import idempotency_keys
from tests.support.calls import expect_json, expect_problem, form, open_case, read_case, stored_files
from tests.support.each import each_row
from tests.support.service import service_of

MESSAGE = {"authorType": "agent", "message": "Hello"}
EVENT = {"specversion": "1.0", "id": "e", "source": "/s", "type": "order.status.changed.v1"}
EVENT |= {"data": {"orderId": "ORD-1", "status": "paid"}}


def writes(case):
    """Return every write as (method, path, function that returns the keywords)."""
    path = f"/support/cases/{case['id']}"
    return [
        ("POST", "/support/cases", lambda: {"json": {"subject": "New", "channel": "email"}}),
        ("PATCH", path, lambda: {"json": {"subject": "B"}}),
        ("POST", f"{path}/messages", lambda: {"json": MESSAGE}),
        ("POST", f"{path}/status?status=pending", dict),
        ("POST", f"{path}/attachments", lambda: {"data": form(b"new")}),
        ("POST", "/support/events", lambda: {"json": EVENT}),
        ("POST", "/support/macros", lambda: {"json": {"name": "late", "text": "Hello"}}),
        ("POST", "/support/views", lambda: {"json": {"name": "Mine", "query": {}}}),
        ("PUT", "/support/customers/c-1", lambda: {"json": {"name": "Anna"}}),
        ("PUT", "/support/overrides/payment", lambda: {"json": {"reason": "down", "duration": "PT30M"}}),
        ("POST", f"{path}/close", lambda: {"json": {"message": "Bye"}}),
        ("DELETE", path, dict),
    ]


@pytest.fixture
def key():
    return {"Idempotency-Key": new_id()}


@pytest_asyncio.fixture(loop_scope="module")
async def key_states(client):
    """Return the sorted states of the keys that are stored since the test began."""
    before = await stored_keys(client)

    async def key_states():
        return sorted(state for _, state in await stored_keys(client) - before)

    return key_states


async def stored_keys(client):
    rows = await service_of(client).database.fetch_all(sa.select(idempotency_keys.c.id, idempotency_keys.c.state))
    return {tuple(row) for row in rows}


async def test_every_write_is_executed_once(client, metric_changes, key_states):
    """A retry gets the same status, headers and body, is marked as replayed, and changes nothing."""
    case = await open_case(client, channel="synthetic")
    for number, (method, path, sent) in enumerate(writes(case)):
        first, second = [await send(client, method, path, f"k{number}", sent()) for _ in range(2)]
        assert first[0] < 300, first
        assert second[:3] == first[:3]
        assert (first[3], second[3]) == (None, "true")
        if method != "DELETE":
            now = await read_case(client, case)
            assert len(now["attachments"]) <= 1
            assert len(now["messages"]) == len({each["message"] for each in now["messages"]})
    assert await key_states() == ["done"] * 12
    assert metric_changes.value("support_ticket_created_total", channel="email") == 1


async def send(client, method, path, key, sent):
    """Send a request with a key; return status, compared headers, body, and Idempotency-Replayed."""
    async with client.request(method, path, headers={"Idempotency-Key": key}, **sent) as response:
        compared = {name: response.headers.get(name) for name in ("ETag", "Location", "Content-Type")}
        return response.status, compared, await response.read(), response.headers.get("Idempotency-Replayed")


async def test_key_of_another_request_is_refused(client, key):
    """A key belongs to one method, path, query and body."""
    case, other = await open_case(client), await open_case(client)
    path = f"/support/cases/{case['id']}"
    await expect_json(client.post(f"{path}/messages", json=MESSAGE, headers=key))
    for method, url, sent in (
        ("POST", f"{path}/messages", {"json": MESSAGE | {"message": "Bye"}}),
        ("POST", f"{path}/messages?x=1", {"json": MESSAGE}),
        ("POST", f"/support/cases/{other['id']}/messages", {"json": MESSAGE}),
        ("PATCH", path, {"json": MESSAGE}),
        ("POST", f"{path}/attachments", {"data": form(b"x")}),
    ):
        await expect_problem(client.request(method, url, headers=key, **sent), 422, "idempotency_key_reused")
    assert len((await read_case(client, case))["messages"]) == 1


@each_row("key", ["", " ", "x" * 256, "a b", "đ", "a\tb"])
async def test_invalid_key_is_refused(client, key_states, key):
    """A key has 1 to 255 visible ASCII characters, and a request has at most one key."""
    headers = {"Idempotency-Key": key}
    refused = client.post("/support/cases", json={"subject": "A", "channel": "email"}, headers=headers)
    await expect_problem(refused, 422, "idempotency_key_invalid")
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    await expect_problem(client.post("/support/cases", headers=headers), 422, "idempotency_key_invalid")
    assert await key_states() == []


async def test_refused_request_may_be_corrected_and_retried(client, key, key_states):
    """Only the successful response is stored under the key."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}/messages"
    for sent, status in (({}, 422), ({"authorType": "agent"}, 422), (MESSAGE, 200), (MESSAGE, 200)):
        await expect_json(client.post(path, json=sent, headers=key), status)
    request = client.post("/support/cases/nobody/messages", json=MESSAGE, headers={"Idempotency-Key": new_id()})
    await expect_json(request, 404)
    assert await key_states() == ["done"]
    assert len((await read_case(client, case))["messages"]) == 1


async def test_failed_request_may_be_retried(make_client, key, monkeypatch):
    """A request that failed for lack of disk space is executed when it is sent again."""
    with monkeypatch.context() as full:
        full.setattr("support_service.attachments.storage.DISK_RESERVE", 2**62)
        client = await make_client()
    case = await open_case(client)
    path = f"/support/cases/{case['id']}/attachments"
    await expect_problem(client.post(path, data=form(b"x"), headers=key), 507, "storage_full")
    assert await stored_keys(client) == set()
    client = await make_client()
    async with client.post(path, data=form(b"x"), headers=key) as response:
        assert response.status == 201
        assert "Idempotency-Replayed" not in response.headers


async def test_retried_upload_is_recognized_by_its_file(make_client, attachment_dir):
    """The filename and the bytes identify an upload, the boundary does not. One file is stored."""
    client = await make_client()
    case = await open_case(client)
    path = f"/support/cases/{case['id']}/attachments"
    answers = [await send(client, "POST", path, "k", {"data": form(b"x" * 100_000)}) for _ in range(2)]
    assert answers[0][:3] == answers[1][:3]
    assert answers[1][3] == "true"
    for other in (form(b"y" * 100_000), form(b"x" * 100_001), form(b"x" * 99_999), form(b"x" * 100_000, "other.txt")):
        refused = client.post(path, data=other, headers={"Idempotency-Key": "k"})
        await expect_problem(refused, 422, "idempotency_key_reused")
    assert len((await read_case(client, case))["attachments"]) == 1
    assert len(stored_files(attachment_dir)) == 1


async def test_reads_and_refreshes_with_a_key_run_again_and_store_nothing(client, key, key_states):
    """They change nothing, and an answer may be large: the key is ignored."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}"
    for method, address in [("GET", path), *[("POST", f"{path}/timeline/refresh")] * 2]:
        status, _, body, replayed = await send(client, method, address, "k", {})
        assert (status, replayed, json.loads(body)["id"]) == (200, None, case["id"])
    await expect_problem(client.post("/nowhere", headers=key), 404, "route_not_found")
    assert await key_states() == []


async def test_retry_is_recognized_whatever_its_content_type(client, key):
    """Only an upload is compared by its file."""
    case = await open_case(client)
    headers = key | {"Content-Type": "multipart/form-data; boundary=x"}
    answers = []
    for _ in range(2):
        async with client.post(f"/support/cases/{case['id']}/status?status=pending", headers=headers) as response:
            answers.append((response.status, await response.read()))
    assert answers[0][0] == 200
    assert answers[1] == answers[0]


async def test_header_that_is_not_utf8_is_accepted(client):
    """An invalid `ce-` header does not matter to a request that is not an event."""
    head = "POST /support/cases HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIdempotency-Key: k\r\n"
    body = b'{"subject": "A", "channel": "email"}'
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(head.encode() + b"ce-x: \xff\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 201 ")


async def test_response_is_sent_even_if_it_cannot_be_stored(client, key, monkeypatch, caplog):
    """The change stays committed, and the log warns that a retry may not be recognized."""

    async def fail(*_):
        raise LookupError("unforeseen")

    monkeypatch.setattr(service_of(client).idempotency, "store_response", fail)
    case = await expect_json(client.post("/support/cases", json={"subject": "A", "channel": "email"}, headers=key), 201)
    assert (await read_case(client, case))["subject"] == "A"
    assert "The outcome of an idempotency key could not be stored" in caplog.messages
