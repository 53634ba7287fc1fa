"""Conditional requests: the ETag of a case is its version, and If-Match limits a change to certain versions."""

import asyncio
import json

import pytest
import pytest_asyncio

from support_service.cases.sql import case_rows as cases_store
from support_service.platform.database.tables import garbage, messages, tickets
from tests.support.calls import (
    add_message,
    expect_json,
    expect_problem,
    form,
    open_case,
    read_case,
    stored_files,
    upload,
)
from tests.support.each import each_row
from tests.support.scrape import Scrape
from tests.support.service import service_of


async def read_etag(client, case, **query):
    async with client.get(f"/support/cases/{case['id']}", params=query) as response:
        assert response.status == 200
        return response.headers["ETag"]


def changes(case):
    """Return every change of a case as (method, path, keywords)."""
    path = f"/support/cases/{case['id']}"
    return [
        ("PATCH", path, {"json": {"subject": "B"}}),
        ("POST", f"{path}/messages", {"json": {"authorType": "agent", "message": "Hello"}}),
        ("POST", f"{path}/messages", {"json": {"authorType": "customer", "message": "Hello"}}),
        ("POST", f"{path}/attachments", {"data": form(b"new")}),
        ("DELETE", f"{path}/attachments/{case['attachments'][0]['id']}", {}),
        ("POST", f"{path}/status", {"json": {"status": "pending"}}),
        ("POST", f"{path}/close", {"json": {"message": "Bye"}}),
        ("DELETE", path, {}),
    ]


@pytest_asyncio.fixture(loop_scope="module")
async def case(client):
    """A synthetic case, which can be deleted, with a file."""
    return await open_case_with_file(client)


async def open_case_with_file(client):
    """Open a synthetic case, which can be deleted, with a file."""
    case = await open_case(client, channel="synthetic")
    await upload(client, case)
    return await read_case(client, case)


async def test_every_change_gives_the_case_a_new_etag(client, case):
    """Changes of messages and files count too. A request without effect keeps the ETag."""
    seen = [await read_etag(client, case)]
    for method, path, sent in changes(case)[:-1]:
        async with client.request(method, path, headers={"If-Match": seen[-1]}, **sent) as response:
            assert response.status < 300, await response.text()
            answered = response.headers.get("ETag")
        seen.append(await read_etag(client, case))
        assert answered in (None, seen[-1])
    assert len(set(seen)) == len(seen)
    async with client.post(f"/support/cases/{case['id']}/close") as response:
        assert response.headers["ETag"] == seen[-1]
    await expect_json(client.request(*changes(case)[-1][:2], headers={"If-Match": seen[-1]}), 204)


async def test_resending_the_same_context_keeps_the_etag(client):
    """The order of members does not matter, because a database may store them in its own order."""
    case = await open_case(client)
    path, tags = f"/support/cases/{case['id']}", []
    for context in ([{"type": "order", "orderId": 1, "a": {"bb": [1, 2], "c": None}}], [{"type": "note", "a": True}]):
        for sent in (context, json.loads(json.dumps(context, sort_keys=True))):
            async with client.patch(path, json={"context": sent}) as response:
                tags.append(response.headers["ETag"])
    for other in (1, False, [True], None):
        async with client.patch(path, json={"context": [{"type": "note", "a": other}]}) as response:
            tags.append(response.headers["ETag"])
    assert (tags[0], tags[2]) == (tags[1], tags[3])
    assert len(set(tags)) == len(tags) - 2


async def test_change_of_an_outdated_version_is_refused(client, case):
    """The response is 412, and the case stays unchanged."""
    old = await read_etag(client, case)
    await add_message(client, case)
    now = await read_case(client, case)
    for method, path, sent in changes(case):
        response = await client.request(method, path, headers={"If-Match": old}, **sent)
        await expect_problem(response, 412, "case_changed")
    assert await read_case(client, case) == now


async def test_synthetic_case_is_deleted_with_all_its_files_or_not_at_all(make_client, attachment_dir, monkeypatch):
    """A case that changes during its deletion keeps every file."""
    client = await make_client()
    metrics, case = Scrape(service_of(client).metrics), await open_case_with_file(client)
    await upload(client, case, b"another")
    old, lock = await read_etag(client, case), cases_store.lock

    async def change_case_first(tx, case_id):
        await tx.execute(tickets.update().values(version=tickets.c.version + 1))  # as a faster request would
        return await lock(tx, case_id)

    with monkeypatch.context() as patch:
        patch.setattr(cases_store, "lock", change_case_first)
        response = await client.delete(f"/support/cases/{case['id']}", headers={"If-Match": old})
        await expect_problem(response, 412, "case_changed")
    assert len((await read_case(client, case))["attachments"]) == len(stored_files(attachment_dir)) == 2
    await expect_json(client.delete(f"/support/cases/{case['id']}", headers={"If-Match": old}), 204)
    assert stored_files(attachment_dir) == []
    assert metrics.value("support_attachment_backlog_files") == 0
    assert metrics.value("support_attachment_deleted_total", reason="request") == 0  # synthetic cases do not count
    assert await service_of(client).database.fetch_all(garbage.select()) == []


IF_MATCH_TAKES_A_STAR = [
    ("*", 200),
    ("{tag}", 200),
    ('"999", {tag}', 200),
    ('"other, with a comma",{tag}', 200),
    ("W/{tag}", 412),
    ('"999"', 412),
    ('"*"', 412),
    ("999", 412),
    ("", 412),
    ('"a", "b"', 412),
]


@each_row("header, status", IF_MATCH_TAKES_A_STAR)
async def test_if_match_takes_a_star_or_a_list_of_strong_etags(client, header, status):
    """Weak and malformed ETags match nothing."""
    case = await open_case(client)
    sent = header.format(tag=await read_etag(client, case))
    request = client.patch(f"/support/cases/{case['id']}", json={"subject": "B"}, headers={"If-Match": sent})
    await expect_json(request, status)


async def test_known_version_is_not_sent_again(client):
    """GET and HEAD return 304 until the case changes."""
    case = await open_case(client)
    path, known = f"/support/cases/{case['id']}", await read_etag(client, case)
    for method in ("GET", "HEAD"):
        for given in (known, f"W/{known}", f'"x", {known}', "*"):
            async with client.request(method, path, headers={"If-None-Match": given}) as response:
                assert (response.status, await response.read()) == (304, b"")
                assert response.headers["ETag"] == known
        async with client.request(method, path) as response:
            assert (response.status, response.headers["ETag"]) == (200, known)
    await add_message(client, case)
    await expect_json(client.get(path, headers={"If-None-Match": known}))


async def test_case_with_its_timeline_is_always_sent(client):
    """The ETag differs in each response, and If-Match still takes it."""
    case = await open_case(client)
    seen = await read_etag(client, case, includeTimeline="true")
    path, headers = f"/support/cases/{case['id']}", {"If-None-Match": seen}
    async with client.get(path, params={"includeTimeline": "true"}, headers=headers) as response:
        assert response.status == 200
        assert response.headers["ETag"] != seen
    await expect_json(client.patch(path, json={"subject": "B"}, headers={"If-Match": seen}))
    await expect_problem(client.patch(path, json={"subject": "C"}, headers={"If-Match": seen}), 412, "case_changed")


@pytest.mark.parametrize("change", range(7))
async def test_one_of_many_concurrent_writers_wins(client, case, change):
    """Of eight concurrent changes of the same version one succeeds, and the others are refused."""
    version = await read_etag(client, case)

    async def attempt():
        method, path, sent = changes(case)[change]
        async with client.request(method, path, headers={"If-Match": version}, **sent) as response:
            return response.status

    statuses = await asyncio.gather(*(attempt() for _ in range(8)))
    assert sorted(status >= 300 for status in statuses) == [False] + [True] * 7, statuses
    assert {status for status in statuses if status >= 300} <= ({404, 412} if change == 4 else {412})


async def test_an_outdated_message_learns_what_was_added(client):
    """The refusal has the version of the case, and the messages since the version in If-Match, oldest first."""
    case = await open_case(client, initialMessage={"authorType": "customer", "message": "first"})
    path = f"/support/cases/{case['id']}"
    await add_message(client, case, "known")
    known = await read_etag(client, case)
    await expect_json(client.patch(path, json={"priority": "high"}))
    sent = {"json": {"authorType": "agent", "message": "mine"}, "headers": {"If-Match": known}}
    problem = await expect_problem(client.post(f"{path}/messages", **sent), 412, "case_changed")
    assert (problem["currentVersion"], problem["messages"]) == (3, [])
    await add_message(client, case, "new")
    await add_message(client, case, "note", visibility="internal")
    problem = await expect_problem(client.post(f"{path}/messages", **sent), 412, "case_changed")
    assert problem["currentVersion"] == 5
    detail = await read_case(client, case)
    assert problem["messages"] == detail["messages"][-2:]
    assert [each["message"] for each in detail["messages"]] == ["first", "known", "new", "note"]
    # An earlier release stores no version with its messages. They count as known, and the version of the case does not.
    async with service_of(client).database.transaction() as tx:
        await tx.execute(messages.update().values(version=None, public_version=None))
    problem = await expect_problem(client.post(f"{path}/messages", **sent), 412, "case_changed")
    assert (problem["currentVersion"], problem["messages"]) == (5, [])
    sent["headers"] = {"If-Match": '"5"'}
    await expect_json(client.post(f"{path}/messages", **sent))


async def test_customers_learn_of_public_messages_only(shared_principals):
    """The version is theirs, too: internal notes and files do not count."""
    new = {"subject": "A", "channel": "web", "customerId": "customer-1"}
    case = await shared_principals.read_json("supervisor", "POST", "/support/cases", json=new)
    path = f"/support/cases/{case['id']}/messages"

    async def say(text, visibility="public"):
        message = {"authorType": "agent", "message": text, "visibility": visibility}
        await shared_principals.read_json("supervisor", "POST", path, json=message)

    await say("1")
    await say("note", "internal")
    files = f"/support/cases/{case['id']}/attachments?visibility=internal"
    await shared_principals.read_json("supervisor", "POST", files, data=form(b"hello"))
    await say("2")
    await say("3")
    sent = {"json": {"authorType": "customer", "message": "mine"}, "headers": {"If-Match": '"3+customer"'}}
    response = await shared_principals.request("customer", "POST", path, **sent)
    problem = await expect_problem(response, 412, "case_changed")
    assert problem["currentVersion"] == 4
    assert [each["message"] for each in problem["messages"]] == ["3"]
