"""Idempotency-Key over HTTP: a repeat of a write gets the first answer, and nothing is done again."""

import asyncio

import pytest
import sqlalchemy as sa

from support_service.database.component import DATABASE
from support_service.database.tables import idempotency_keys
from support_service.idempotency.component import CLAIMS
from tests.conftest import both_databases
from tests.support.calls import expect_problem, form, open_case, read_case, stored_files

KEY = {"Idempotency-Key": "0b6f7c0e-6a3c-4a0e"}
SAID = {"authorType": "agent", "message": "Hello"}
EVENT = {
    "specversion": "1.0",
    "id": "e",
    "source": "/s",
    "type": "order.status.changed.v1",
    "data": {"orderId": "ORD-1", "status": "paid"},
}


def writes(case):
    """Every write, as (method, path, a maker of keywords)."""
    path = f"/support/cases/{case['id']}"
    return [
        ("POST", "/support/cases", lambda: {"json": {"subject": "New", "channel": "email"}}),
        ("PATCH", path, lambda: {"json": {"subject": "B"}}),
        ("POST", f"{path}/messages", lambda: {"json": SAID}),
        ("POST", f"{path}/status?status=pending", dict),
        ("POST", f"{path}/timeline/refresh", dict),
        ("POST", f"{path}/attachments", lambda: {"data": form(b"new")}),
        ("POST", "/support/events", lambda: {"json": EVENT}),
        ("POST", f"{path}/close", lambda: {"json": {"message": "Bye"}}),
        ("DELETE", path, dict),
    ]


async def kept(client):
    """How many keys are kept."""
    rows = await client.app[DATABASE].fetch_all(sa.select(idempotency_keys.c.state))
    return sorted(state for (state,) in rows)


@both_databases
async def test_every_write_is_done_once(client, metrics):
    """A repeat of each write gets the same status, headers and bytes, is marked as a repeat, and changes nothing."""
    case = await open_case(client, channel="synthetic")
    for number, (method, path, sent) in enumerate(writes(case)):
        first, second = [await send(client, method, path, f"k{number}", sent()) for _ in range(2)]
        assert first[0] < 300, first
        assert second[:3] == first[:3]
        assert (first[3], second[3]) == (None, "true")
        if method != "DELETE":
            now = await read_case(client, case)
            assert len(now["attachments"]) <= 1
            assert len(now["messages"]) == len({said["message"] for said in now["messages"]})
    assert await kept(client) == ["done"] * 9
    assert metrics.value("support_ticket_created_total", channel="email") == 1


async def send(client, method, path, key, sent):
    """Send a request with a key; its status, the headers that count, its body, and whether it is a repeat."""
    async with client.request(method, path, headers={"Idempotency-Key": key}, **sent) as response:
        counted = {name: response.headers.get(name) for name in ("ETag", "Location", "Content-Type")}
        return response.status, counted, await response.read(), response.headers.get("Idempotency-Replayed")


async def test_another_request_is_refused(client):
    """A key that was used for another method, path, query or body is refused, and nothing is done."""
    case, other = await open_case(client), await open_case(client)
    path = f"/support/cases/{case['id']}"
    async with client.post(f"{path}/messages", json=SAID, headers=KEY) as response:
        assert response.status == 200
    for method, url, sent in (
        ("POST", f"{path}/messages", {"json": SAID | {"message": "Bye"}}),
        ("POST", f"{path}/messages?x=1", {"json": SAID}),
        ("POST", f"/support/cases/{other['id']}/messages", {"json": SAID}),
        ("PATCH", path, {"json": SAID}),
        ("POST", f"{path}/attachments", {"data": form(b"x")}),
    ):
        await expect_problem(await client.request(method, url, headers=KEY, **sent), 422, "idempotency_key_reused")
    assert len((await read_case(client, case))["messages"]) == 1


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "a b", "đ", "a\tb"])
async def test_what_is_no_key(client, key):
    """A key has 1 to 255 visible ASCII characters; anything else is refused before anything is done."""
    headers = {"Idempotency-Key": key}
    await expect_problem(
        await client.post("/support/cases", json={"subject": "A", "channel": "email"}, headers=headers),
        422,
        "idempotency_key_invalid",
    )
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    await expect_problem(await client.post("/support/cases", headers=headers), 422, "idempotency_key_invalid")
    assert await kept(client) == []


async def test_a_refusal_is_not_kept(client):
    """A request that was refused may be repaired and sent with the same key."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}/messages"
    for sent, status in (({}, 422), ({"authorType": "agent"}, 422), (SAID, 200), (SAID, 200)):
        async with client.post(path, json=sent, headers=KEY) as response:
            assert response.status == status
    async with client.post("/support/cases/nobody/messages", json=SAID, headers={"Idempotency-Key": "b"}) as response:
        assert response.status == 404
    assert await kept(client) == ["done"]
    assert len((await read_case(client, case))["messages"]) == 1


async def test_a_failure_is_not_kept(make_client, attachment_dir):
    """A request that failed for want of space is done when it is sent again with the same key."""
    client = await make_client(SUPPORT_ATTACHMENT_DISK_RESERVE=str(2**62))
    case = await open_case(client)
    path = f"/support/cases/{case['id']}/attachments"
    await expect_problem(await client.post(path, data=form(b"x"), headers=KEY), 507, "storage_full")
    assert await kept(client) == []
    client = await make_client()
    async with client.post(path, data=form(b"x"), headers=KEY) as response:
        assert response.status == 201
        assert "Idempotency-Replayed" not in response.headers


@both_databases
async def test_an_upload_is_known_by_its_file(client, attachment_dir):
    """A repeated upload is known by name and bytes, whatever its boundary; another file is refused; one is stored."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}/attachments"
    answers = [await send(client, "POST", path, "k", {"data": form(b"x" * 100_000)}) for _ in range(2)]
    assert answers[0][:3] == answers[1][:3]
    assert answers[1][3] == "true"
    for other in (form(b"y" * 100_000), form(b"x" * 100_001), form(b"x" * 99_999), form(b"x" * 100_000, "other.txt")):
        await expect_problem(
            await client.post(path, data=other, headers={"Idempotency-Key": "k"}), 422, "idempotency_key_reused"
        )
    assert len((await read_case(client, case))["attachments"]) == 1
    assert len(stored_files(attachment_dir)) == 1


@both_databases
@pytest.mark.parametrize("replicas", [1, 2])
async def test_many_at_once(make_client, replicas):
    """The same request many times at once, to one replica or two: done once; the others wait or get its answer."""
    clients = [await make_client() for _ in range(replicas)]
    case = await open_case(clients[0])
    path = f"/support/cases/{case['id']}/messages"

    async def attempt(number):
        async with clients[number % replicas].post(path, json=SAID, headers=KEY) as response:
            body = await response.json(content_type=None)
            return response.status, body.get("id") or body.get("code")

    answers = await asyncio.gather(*(attempt(number) for number in range(20)))
    done = {name for status, name in answers if status == 200}
    assert len(done) == 1
    assert {answer for answer in answers if answer[0] != 200} <= {(409, "idempotency_key_in_use")}
    assert await asyncio.gather(*(attempt(number) for number in range(4))) == [(200, *done)] * 4
    assert [said["id"] for said in (await read_case(clients[-1], case))["messages"]] == [*done]


async def test_without_a_key_nothing_is_kept(client):
    """A request without a key, and a read with one, leave no trace."""
    case = await open_case(client)
    async with client.get(f"/support/cases/{case['id']}", headers=KEY) as response:
        assert response.status == 200
    await expect_problem(await client.post("/nowhere", headers=KEY), 404, "route_not_found")
    assert await kept(client) == []


async def test_a_lost_answer_is_told(client):
    """Where the change was committed and its answer not kept, a repeat is told so, and changes nothing."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}/messages"
    async with client.post(path, json=SAID, headers=KEY) as response:
        assert response.status == 200
    async with client.app[DATABASE].transaction() as tx:
        lost = {"state": "applied", "status": None, "headers": None, "body": None}
        await tx.execute(idempotency_keys.update().values(lost | {"until": idempotency_keys.c.created_at}))
    await expect_problem(await client.post(path, json=SAID, headers=KEY), 409, "idempotency_answer_lost")
    assert len((await read_case(client, case))["messages"]) == 1


@pytest.mark.parametrize("operation", ["refresh", "status"])
async def test_what_calls_itself_a_form(client, operation):
    """A repeat is answered, whatever type its body says it has: only an upload is a file."""
    case = await open_case(client)
    ways = {"refresh": "timeline/refresh", "status": "status?status=pending"}
    headers = KEY | {"Content-Type": "multipart/form-data; boundary=x"}
    answers = []
    for _ in range(2):
        async with client.post(f"/support/cases/{case['id']}/{ways[operation]}", headers=headers) as response:
            answers.append((response.status, await response.read()))
    assert answers[0][0] == 200
    assert answers[1] == answers[0]


async def test_a_header_that_is_no_text(client):
    """Bytes that are no text in a header of an event break nothing: such a header says nothing to a case."""
    head = "POST /support/cases HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIdempotency-Key: k\r\n"
    body = b'{"subject": "A", "channel": "email"}'
    reader, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(head.encode() + b"ce-x: \xff\r\nContent-Type: application/json\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 201 ")


async def test_an_answer_that_can_not_be_kept_is_given_all_the_same(client, monkeypatch, caplog):
    """What the write did stays done and is answered; that a repeat may not be known is logged."""

    async def fail(*_):
        raise LookupError("unforeseen")

    monkeypatch.setattr(client.app[CLAIMS], "keep", fail)
    async with client.post("/support/cases", json={"subject": "A", "channel": "email"}, headers=KEY) as response:
        assert response.status == 201
        case = await response.json()
    assert (await read_case(client, case))["subject"] == "A"
    assert "What became of an idempotency key could not be kept" in caplog.messages
