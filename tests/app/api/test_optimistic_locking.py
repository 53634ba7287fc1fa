"""Conditional requests: a case's version is its ETag, and a change may be meant for certain versions alone."""

import asyncio
import json

import pytest

from support_service.cases import store as cases_store
from support_service.database.tables import attachment_leftovers, tickets
from tests.conftest import both_databases
from tests.support.calls import add_message, expect_problem, form, open_case, read_case, stored_files, upload


async def tag(client, case, **query):
    """The ETag of a case's detail."""
    async with client.get(f"/support/cases/{case['id']}", params=query) as response:
        assert response.status == 200
        return response.headers["ETag"]


def changes(case):
    """Each change that a case can be put to, as (method, path, keywords)."""
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


@pytest.fixture
async def case(client):
    """A made-up case, which can be deleted too, with a file."""
    case = await open_case(client, channel="synthetic")
    await upload(client, case)
    return await read_case(client, case)


async def test_every_change_makes_a_version(client, case):
    """Each change of a case, of a message or a file too, gives it another ETag; what changes nothing does not."""
    seen = [await tag(client, case)]
    for method, path, sent in changes(case)[:-1]:
        async with client.request(method, path, headers={"If-Match": seen[-1]}, **sent) as response:
            assert response.status < 300, await response.text()
            answered = response.headers.get("ETag")
        seen.append(await tag(client, case))
        assert answered in (None, seen[-1])
    assert len(set(seen)) == len(seen)
    async with client.post(f"/support/cases/{case['id']}/close") as response:
        assert response.headers["ETag"] == seen[-1]
    async with client.request(*changes(case)[-1][:2], headers={"If-Match": seen[-1]}) as response:
        assert response.status == 204


@both_databases
async def test_what_is_sent_again_changes_nothing(client):
    """The same context makes no new version, though a database may keep its members in an order of its own."""
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


async def test_a_change_of_an_old_version_is_refused(client, case):
    """A change that is meant for a version that is no more is 412, and does nothing."""
    old = await tag(client, case)
    await add_message(client, case)
    now = await read_case(client, case)
    for method, path, sent in changes(case):
        response = await client.request(method, path, headers={"If-Match": old}, **sent)
        await expect_problem(response, 412, "case_changed")
    assert await read_case(client, case) == now


@both_databases
async def test_a_made_up_case_goes_in_one_step(client, case, metrics, attachment_dir, database, monkeypatch):
    """A case that someone changes while it is deleted keeps all its files; otherwise it goes with every one of them."""
    await upload(client, case, b"another")
    old, lock = await tag(client, case), cases_store.lock

    async def late(tx, case_id):
        await tx.execute(tickets.update().values(version=tickets.c.version + 1))  # as one who was a little faster
        return await lock(tx, case_id)

    with monkeypatch.context() as patch:
        patch.setattr(cases_store, "lock", late)
        response = await client.delete(f"/support/cases/{case['id']}", headers={"If-Match": old})
        await expect_problem(response, 412, "case_changed")
    assert len((await read_case(client, case))["attachments"]) == len(stored_files(attachment_dir)) == 2
    async with client.delete(f"/support/cases/{case['id']}", headers={"If-Match": old}) as response:
        assert response.status == 204
    assert stored_files(attachment_dir) == []
    assert metrics.value("support_attachment_backlog_files") == 0
    assert metrics.value("support_attachment_deleted_total", reason="request") == 0  # a made-up case counts nowhere
    assert await database.fetch_all(attachment_leftovers.select()) == []


@pytest.mark.parametrize(
    ("header", "status"),
    [
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
    ],
)
async def test_forms_of_a_condition(client, header, status):
    """If-Match takes a star and a list; weak tags, and what is no tag, match nothing."""
    case = await open_case(client)
    sent = header.format(tag=await tag(client, case))
    async with client.patch(
        f"/support/cases/{case['id']}", json={"subject": "B"}, headers={"If-Match": sent}
    ) as response:
        assert response.status == status


async def test_a_version_that_is_known_is_not_sent_again(client):
    """A read of a version that the client has is 304, by GET and HEAD, until the case changes."""
    case = await open_case(client)
    path, known = f"/support/cases/{case['id']}", await tag(client, case)
    for method in ("GET", "HEAD"):
        for given in (known, f"W/{known}", f'"x", {known}', "*"):
            async with client.request(method, path, headers={"If-None-Match": given}) as response:
                assert (response.status, await response.read()) == (304, b"")
                assert response.headers["ETag"] == known
        async with client.request(method, path) as response:
            assert (response.status, response.headers["ETag"]) == (200, known)
    await add_message(client, case)
    async with client.get(path, headers={"If-None-Match": known}) as response:
        assert response.status == 200


async def test_a_timeline_is_live(client):
    """A detail with its timeline is never known already, and a change may still be meant for its version."""
    case = await open_case(client)
    seen = await tag(client, case, includeTimeline="true")
    path, headers = f"/support/cases/{case['id']}", {"If-None-Match": seen}
    async with client.get(path, params={"includeTimeline": "true"}, headers=headers) as response:
        assert response.status == 200
        assert response.headers["ETag"] != seen
    async with client.patch(path, json={"subject": "B"}, headers={"If-Match": seen}) as response:
        assert response.status == 200
    await expect_problem(
        await client.patch(path, json={"subject": "C"}, headers={"If-Match": seen}), 412, "case_changed"
    )


@both_databases
@pytest.mark.parametrize("change", range(7))
async def test_of_two_writers_one_wins(client, case, change):
    """Of many who change the same version at once exactly one does, whatever the change is; the others get 412."""
    version = await tag(client, case)

    async def attempt():
        method, path, sent = changes(case)[change]
        async with client.request(method, path, headers={"If-Match": version}, **sent) as response:
            return response.status

    statuses = await asyncio.gather(*(attempt() for _ in range(8)))
    assert sorted(status >= 300 for status in statuses) == [False] + [True] * 7, statuses
    assert {status for status in statuses if status >= 300} <= ({404, 412} if change == 4 else {412})
