"""Every change of a case is in its audit log, with who made it and what it was before."""

import pytest

from support_service.audit.sealer import Sealer
from support_service.audit.verify import verify_chain
from support_service.database.component import DATABASE
from tests.conftest import both_databases
from tests.support.calls import add_message, eventually, expect_problem, form, open_case, upload


async def audit(client, case, **query):
    """A page of a case's audit log."""
    async with client.get(f"/support/cases/{case['id']}/audit", params=query) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def newest(client, case):
    """The newest entry of a case's audit log."""
    return (await audit(client, case, limit="1"))["items"][0]


@both_databases
async def test_every_change_is_recorded(client):
    """Opening, changing, speaking, files, closing, reopening and deleting each leave an entry with before and after."""
    case = await open_case(
        client, channel="synthetic", customerId="c", initialMessage={"authorType": "bot", "message": "?"}
    )
    path = f"/support/cases/{case['id']}"
    opened = await newest(client, case)
    assert (opened["action"], opened["actor"], opened["role"]) == ("case.opened", "anyone", "supervisor")
    assert opened["changes"] == {
        "status": [None, "open"],
        "priority": [None, "normal"],
        "channel": [None, "synthetic"],
        "customerId": [None, "c"],
        "messageId": [None, case["messages"][0]["id"]],
        "authorType": [None, "bot"],
    }

    async def change(action, expected, method, url, **sent):
        async with client.request(method, url, headers={"X-Request-Id": action}, **sent) as response:
            assert response.status < 300, await response.text()
            answer = await response.json() if response.status != 204 else {}
        entry = await newest(client, case)
        assert (entry["action"], entry["requestId"]) == (action, action)
        assert entry["changes"] == (expected(answer) if callable(expected) else expected)
        return answer

    said = {"authorType": "customer", "message": "a secret"}
    await change(
        "case.changed",
        {"subject": ["A parcel", "B"], "priority": ["normal", "high"], "context": [[], [{"type": "note"}]]},
        "PATCH",
        path,
        json={"subject": "B", "priority": "high", "context": {"type": "note"}, "tags": []},
    )
    await change(
        "message.added",
        lambda message: {"messageId": [None, message["id"]], "authorType": [None, "customer"]},
        "POST",
        f"{path}/messages",
        json=said,
    )
    await change(
        "case.changed", {"status": ["open", "resolved"]}, "POST", f"{path}/status", json={"status": "resolved"}
    )
    async with client.post(f"{path}/messages", json=said) as response:
        assert response.status == 200
    assert [each["action"] for each in (await audit(client, case, limit="2"))["items"]] == [
        "message.added",
        "case.reopened",
    ]
    file = await change("attachment.added", facts, "POST", f"{path}/attachments", data=form(b"x"))
    await change(
        "attachment.removed",
        {name: [value, None] for name, (_, value) in facts(file).items()} | {"reason": [None, "request"]},
        "DELETE",
        f"{path}/attachments/{file['id']}",
    )
    await change("case.closed", {"status": ["open", "closed"]}, "POST", f"{path}/close")
    await change("case.reopened", {"status": ["closed", "open"]}, "POST", f"{path}/status", json={"status": "open"})
    async with client.post(f"{path}/close", json=said) as response:
        assert response.status == 200
    async with client.delete(path) as response:
        assert response.status == 204
    last = await audit(client, case, limit="3")
    assert [each["action"] for each in last["items"]] == ["case.deleted", "message.added", "case.closed"]
    assert "secret" not in str(await audit(client, case))


def facts(file):
    """What an entry says of a file that came."""
    names = ("filename", "contentType", "sizeBytes", "sha256", "visibility")
    return {"attachmentId": [None, file["id"]]} | {name: [None, file[name]] for name in names}


async def test_what_changes_nothing_leaves_no_entry(client):
    """A status that a case has already, and a refusal, are no changes."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}"
    for url, sent in ((f"{path}/status", {"status": "open"}), (f"{path}/status", {"status": "lost"})):
        async with client.post(url, json=sent):
            pass
    async with client.patch(path, json={"subject": "A parcel"}, headers={"If-Match": '"9"'}):
        pass
    assert [each["action"] for each in (await audit(client, case))["items"]] == ["case.opened"]


@both_databases
async def test_pages_from_the_newest_on(client):
    """Cursors lead from the newest entry to the oldest, each once, whatever is added meanwhile."""
    case = await open_case(client)
    for number in range(6):
        await add_message(client, case, str(number))
    seen, cursor = [], {}
    while True:
        page = await audit(client, case, limit="3", **cursor)
        seen += page["items"]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
        await add_message(client, case)
    assert [each["action"] for each in seen] == ["message.added"] * 6 + ["case.opened"]
    response = await client.get(f"/support/cases/{case['id']}/audit", params={"cursor": "x"})
    await expect_problem(response, 422, "invalid_request")


@both_databases
async def test_a_page_of_large_changes_ends_early(client):
    """Once its changes have 4 MiB a page ends, whatever its limit, and the next goes on right there."""
    case = await open_case(client)
    texts = [sign * 65_536 for sign in "\U00020000\U00020001\U00020002"] * 5  # 4 bytes each, before and after
    for text in texts:
        async with client.patch(f"/support/cases/{case['id']}", json={"description": text}) as response:
            assert response.status == 200
    pages, cursor = [], {}
    while not pages or cursor["cursor"]:
        page = await audit(client, case, limit="200", **cursor)
        pages.append(page["items"])
        cursor = {"cursor": page["nextCursor"]}
    assert [len(items) for items in pages] == [8, 8]
    *changed, opened = [entry for items in pages for entry in items]
    assert [entry["changes"]["description"][1] for entry in changed] == texts[::-1]
    assert opened["action"] == "case.opened"


@pytest.mark.parametrize("name", ["nobody", "x" * 40, "%00", "đ"])
async def test_of_an_unknown_case(client, name):
    """A case that never was is 404."""
    await expect_problem(await client.get(f"/support/cases/{name}/audit"), 404, "case_not_found")


@both_databases
async def test_entries_get_their_place(client, metrics, instruments):
    """Within one turn of the sealer each entry has its place and its hash, the gauges say so, and the chain holds."""
    case = await open_case(client)
    await upload(client, case)
    database = client.app[DATABASE]
    await Sealer(database, instruments).run()
    entries = (await audit(client, case))["items"]
    assert [each["position"] for each in entries] == [2, 1]
    verdict = await verify_chain(database)
    assert (verdict.flaw, verdict.head.hash.hex()) == (None, entries[0]["hash"])


async def test_the_service_seals_by_itself(client, metrics):
    """The service seals beside its requests, and tells how long the chain is."""
    case = await open_case(client)

    async def sealed():
        return (await newest(client, case))["position"] is not None

    await eventually(sealed)
    await eventually(lambda: metrics.value("support_audit_sealed") == 1)
    await eventually(lambda: metrics.value("support_audit_unsealed_age_seconds") == 0)
