"""Every change of a case is in its audit log, with the principal who made it and the previous values."""

import pytest

from support_service.platform.audit.log import Sealer
from support_service.platform.audit.verify import verify_chain
from tests.support.calls import add_message, eventually, expect_json, expect_problem, form, open_case, upload
from tests.support.each import each_row
from tests.support.scrape import Scrape
from tests.support.service import service_of


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


async def read_audit_page(client, case, **query):
    """Return a page of a case's audit log."""
    return await expect_json(client.get(f"/support/cases/{case['id']}/audit", params=query))


async def newest_entry(client, case):
    """Return the newest entry of a case's audit log."""
    return (await read_audit_page(client, case, limit="1"))["items"][0]


async def test_every_change_is_recorded(client):
    """Each entry has the values before and after. The content of messages is not recorded."""
    case = await open_case(
        client, channel="synthetic", customerId="c", initialMessage={"authorType": "bot", "message": "?"}
    )
    path = f"/support/cases/{case['id']}"
    opened = await newest_entry(client, case)
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
        entry = await newest_entry(client, case)
        assert (entry["action"], entry["requestId"]) == (action, action)
        assert entry["changes"] == (expected(answer) if callable(expected) else expected)
        return answer

    message = {"authorType": "customer", "message": "a secret"}
    await change(
        "case.changed",
        {"subject": ["A parcel", "B"], "priority": ["normal", "high"], "context": [[], [{"type": "note"}]]},
        "PATCH",
        path,
        json={"subject": "B", "priority": "high", "context": {"type": "note"}, "tags": []},
    )
    await change(
        "message.added",
        lambda answer: {"messageId": [None, answer["id"]], "authorType": [None, "customer"]},
        "POST",
        f"{path}/messages",
        json=message,
    )
    await change(
        "case.changed", {"status": ["open", "resolved"]}, "POST", f"{path}/status", json={"status": "resolved"}
    )
    await expect_json(client.post(f"{path}/messages", json=message))
    assert [each["action"] for each in (await read_audit_page(client, case, limit="2"))["items"]] == [
        "case.reopened",
        "message.added",
    ]
    file = await change("attachment.added", changes_of_added_file, "POST", f"{path}/attachments", data=form(b"x"))
    await change(
        "attachment.removed",
        {name: [value, None] for name, (_, value) in changes_of_added_file(file).items()}
        | {"reason": [None, "request"]},
        "DELETE",
        f"{path}/attachments/{file['id']}",
    )
    await change("case.closed", {"status": ["open", "closed"]}, "POST", f"{path}/close")
    await change("case.reopened", {"status": ["closed", "open"]}, "POST", f"{path}/status", json={"status": "open"})
    await expect_json(client.post(f"{path}/close", json=message))
    await expect_json(client.delete(path), 204)
    last = await read_audit_page(client, case, limit="3")
    assert [each["action"] for each in last["items"]] == ["case.deleted", "case.closed", "message.added"]
    assert "secret" not in str(await read_audit_page(client, case))


def changes_of_added_file(file):
    """Return what an entry records about an added file."""
    names = ("filename", "contentType", "sizeBytes", "sha256", "visibility")
    return {"attachmentId": [None, file["id"]]} | {name: [None, file[name]] for name in names}


async def test_request_without_effect_leaves_no_audit_entry(client):
    """Setting the current status is not a change, and neither is a refused request."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}"
    for url, sent in ((f"{path}/status", {"status": "open"}), (f"{path}/status", {"status": "lost"})):
        async with client.post(url, json=sent):
            pass
    async with client.patch(path, json={"subject": "A parcel"}, headers={"If-Match": '"9"'}):
        pass
    assert [each["action"] for each in (await read_audit_page(client, case))["items"]] == ["case.opened"]


async def test_audit_pages_run_from_newest_to_oldest(client):
    """Each entry is on one page, although entries are added while the pages are read."""
    case = await open_case(client)
    for number in range(6):
        await add_message(client, case, str(number))
    seen, cursor = [], {}
    while True:
        page = await read_audit_page(client, case, limit="3", **cursor)
        seen += page["items"]
        if page["nextCursor"] is None:
            break
        cursor = {"cursor": page["nextCursor"]}
        await add_message(client, case)
    assert [each["action"] for each in seen] == ["message.added"] * 6 + ["case.opened"]
    response = await client.get(f"/support/cases/{case['id']}/audit", params={"cursor": "x"})
    await expect_problem(response, 422, "invalid_request")


@each_row("name", ["nobody", "x" * 40, "%00", "đ"])
async def test_audit_of_an_unknown_case_is_not_found(client, name):
    await expect_problem(client.get(f"/support/cases/{name}/audit"), 404, "case_not_found")


async def test_sealer_gives_entries_their_position_and_hash(make_client, instruments):
    """One run of the sealer seals all entries, and the chain is valid."""
    client = await make_client()
    case = await open_case(client)
    await upload(client, case)
    database = service_of(client).database
    await Sealer(database, instruments).run()
    entries = (await read_audit_page(client, case))["items"]
    assert [each["position"] for each in entries] == [2, 1]
    verdict = await verify_chain(database)
    assert (verdict.flaw, verdict.head.hash.hex()) == (None, entries[0]["hash"])


async def test_service_seals_audit_entries_in_the_background(make_client):
    """The gauges report the length of the chain and no unsealed entry."""
    client = await make_client()
    metrics = Scrape(service_of(client).metrics)
    case = await open_case(client)

    async def sealed():
        return (await newest_entry(client, case))["position"] is not None

    await eventually(sealed)
    await eventually(lambda: metrics.value("support_audit_sealed") == 1)
    await eventually(lambda: metrics.value("support_audit_unsealed_age_seconds") == 0)
