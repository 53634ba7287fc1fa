"""Every change of a case is in its audit log, with the principal who made it and the previous values."""

from tests.support.calls import eventually, expect_json, form, open_case
from tests.support.scrape import Scrape
from tests.support.service import service_of


async def read_audit_page(client, case, **query):
    return await expect_json(client.get(f"/support/cases/{case['id']}/audit", params=query))


async def newest_entry(client, case):
    return (await read_audit_page(client, case, limit="1"))["items"][0]


async def test_every_change_is_recorded(client):
    """Each entry has the values before and after. The content of messages is not recorded."""
    first = {"authorType": "bot", "message": "?"}
    case = await open_case(client, channel="synthetic", customerId="c", initialMessage=first)
    path = f"/support/cases/{case['id']}"
    opened = await newest_entry(client, case)
    assert (opened["action"], opened["actor"], opened["role"]) == ("case.opened", "anyone", "supervisor")
    values = {"status": "open", "priority": "normal", "channel": "synthetic", "customerId": "c", "authorType": "bot"}
    assert opened["changes"] == added(values | {"messageId": case["messages"][0]["id"]})

    async def change(action, method, url, **sent):
        request = client.request(method, url, headers={"X-Request-Id": action}, **sent)
        answer = await expect_json(request, {"attachment.added": 201, "attachment.removed": 204}.get(action, 200))
        entry = await newest_entry(client, case)
        assert (entry["action"], entry["requestId"]) == (action, action)
        return entry["changes"], answer

    message = {"authorType": "customer", "message": "a secret"}
    sent = {"subject": "B", "priority": "high", "context": {"type": "note"}, "tags": []}
    changes, _ = await change("case.changed", "PATCH", path, json=sent)
    before = {"subject": "A parcel", "priority": "normal", "context": []}
    after = {"subject": "B", "priority": "high", "context": [{"type": "note"}]}
    assert changes == {name: [before[name], after[name]] for name in before}
    changes, answer = await change("message.added", "POST", f"{path}/messages", json=message)
    assert changes == added({"messageId": answer["id"], "authorType": "customer"})
    changes, _ = await change("case.changed", "POST", f"{path}/status", json={"status": "resolved"})
    assert changes == {"status": ["open", "resolved"]}
    await expect_json(client.post(f"{path}/messages", json=message))
    newest = await read_audit_page(client, case, limit="2")
    assert [each["action"] for each in newest["items"]] == ["case.reopened", "message.added"]
    changes, file = await change("attachment.added", "POST", f"{path}/attachments", data=form(b"x"))
    names = ("filename", "contentType", "sizeBytes", "sha256", "visibility")
    of_file = {"attachmentId": file["id"]} | {name: file[name] for name in names}
    assert changes == added(of_file)
    changes, _ = await change("attachment.removed", "DELETE", f"{path}/attachments/{file['id']}")
    assert changes == {name: [value, None] for name, value in of_file.items()} | added({"reason": "request"})
    assert (await change("case.closed", "POST", f"{path}/close"))[0] == {"status": ["open", "closed"]}
    changes, _ = await change("case.reopened", "POST", f"{path}/status", json={"status": "open"})
    assert changes == {"status": ["closed", "open"]}
    await expect_json(client.post(f"{path}/close", json=message))
    await expect_json(client.delete(path), 204)
    last = await read_audit_page(client, case, limit="3")
    assert [each["action"] for each in last["items"]] == ["case.deleted", "case.closed", "message.added"]
    assert "secret" not in str(await read_audit_page(client, case))


def added(values):
    """Return what an entry records about these new values."""
    return {name: [None, value] for name, value in values.items()}


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
