"""Macros over HTTP: create, list, read, replace and delete. For roles see test_roles.py."""

from tests.support.calls import expect_json, expect_problem, open_case, read_detail
from tests.support.each import each_row

MACROS = "/support/macros"
TEXT = "Order {{order.id}} is {{ order.status }}."


async def put(client, macro, text=TEXT, status=200, headers=(), **fields):
    """Replace or create a macro; return it, and its ETag."""
    async with client.put(f"{MACROS}/{macro}", json={"text": text, **fields}, headers=dict(headers)) as response:
        assert response.status == status, await response.text()
        return await response.json(), response.headers["ETag"]


async def read(client, name):
    """Return a macro and its ETag."""
    async with client.get(f"{MACROS}/{name}") as response:
        assert response.status == 200, await response.text()
        return await response.json(), response.headers["ETag"]


async def list_page(client, **query):
    return await expect_json(client.get(MACROS, params=query))


async def test_macro_is_created_as_sent(client):
    """The status is read in any case, as that of a case; the answer names the new macro."""
    sent = {"name": "late.parcel_1", "text": TEXT, "status": "PENDING", "tags": ["delivery", "late"], "unknown": 1}
    async with client.post(MACROS, json=sent) as response:
        assert response.status == 201
        created = await response.json()
        assert response.headers["Location"] == f"{MACROS}/late.parcel_1"
        etag = response.headers["ETag"]
    assert created.keys() == {"name", "text", "status", "tags", "createdAt", "updatedAt"}
    assert created["createdAt"] == created["updatedAt"]
    assert created["createdAt"].endswith("Z")
    expected = {"name": "late.parcel_1", "text": TEXT, "status": "pending", "tags": ["delivery", "late"]}
    assert expected.items() <= created.items()
    assert await read(client, "late.parcel_1") == (created, etag)
    assert (await list_page(client))["items"] == [created]
    await expect_problem(client.post(MACROS, json=sent), 409, "macro_exists")


async def test_put_creates_and_replaces_a_macro(client):
    """All fields are replaced; what is not sent, or null, gets its default. The name in the body does not count."""
    created, first = await put(client, "late", status=201, tags=["a"])
    replaced, second = await put(client, "late", "Bye", name="other", tags=None)
    assert replaced == created | {"text": "Bye", "tags": [], "updatedAt": replaced["updatedAt"]}
    assert replaced["updatedAt"] > created["updatedAt"]
    assert first != second
    assert await put(client, "late", "Bye") == (replaced, second)  # nothing has changed
    assert await read(client, "late") == (replaced, second)


WRONG_FIELDS = {
    "name": ["", None, "a b", "..", "x" * 65],
    "text": ["", None, "x" * 32_769, "{{order.total}}"],
    "status": ["gone"],
    "tags": ["late", ["x"] * 51],
    "tags.0": [["x" * 65]],
}


@each_row("named, value", [(named, value) for named, values in WRONG_FIELDS.items() for value in values])
async def test_every_invalid_field_is_named(shared_client, named, value):
    """No macro is created."""
    before = await list_page(shared_client)
    sent = {"name": "late", "text": TEXT} | {named.partition(".")[0]: value}
    requests = [shared_client.post(MACROS, json=sent)]
    requests += [] if named == "name" else [shared_client.put(f"{MACROS}/late", json=sent)]
    for request in requests:
        problem = await expect_problem(request, 422, "invalid_request")
        assert [error["field"] for error in problem["errors"]] == [named]
    assert await list_page(shared_client) == before


@each_row("name", ["never", "a b", "%00", "x" * 65, "%F0%9F%93%A6", "..%2Fa"])
async def test_unknown_macro_is_not_found(shared_client, name):
    """A name that no macro can have is unknown, too; only a macro that would be created needs a valid one."""
    path = f"{MACROS}/{name}"
    await expect_problem(shared_client.get(path), 404, "macro_not_found")
    await expect_problem(shared_client.delete(path), 404, "macro_not_found")
    if name != "never":
        problem = await expect_problem(shared_client.put(path, json={"text": "a"}), 422, "invalid_request")
        assert [error["field"] for error in problem["errors"]] == ["name"]


async def test_etag_is_the_version_of_a_macro(client):
    """It is valid in If-None-Match while nothing changes, and in If-Match of a change until then."""
    _, etag = await put(client, "late", status=201)
    async with client.get(f"{MACROS}/late", headers={"If-None-Match": etag}) as response:
        assert (response.status, response.headers["ETag"]) == (304, etag)
    _, newer = await put(client, "late", "Bye", headers={"If-Match": etag})
    await expect_json(client.get(f"{MACROS}/late", headers={"If-None-Match": etag}))
    outdated = {"If-Match": etag}
    await expect_problem(client.put(f"{MACROS}/late", json={"text": "a"}, headers=outdated), 412, "macro_changed")
    await expect_problem(client.delete(f"{MACROS}/late", headers=outdated), 412, "macro_changed")
    await expect_json(client.delete(f"{MACROS}/late", headers={"If-Match": newer}), 204)
    await expect_problem(client.get(f"{MACROS}/late"), 404, "macro_not_found")
    missing = client.put(f"{MACROS}/late", json={"text": "a"}, headers={"If-Match": newer})
    await expect_problem(missing, 412, "macro_changed")


async def test_reply_with_an_unfilled_variable_is_refused(client):
    """No customer reads a variable of a macro: not in a message, a last message or the first message of a case."""
    case = await open_case(client)
    path = f"/support/cases/{case['id']}"
    text = "Follow {{ shipment.trackingNumber }} of {{order.id}}, {{order.id}}."
    for author in ("agent", "bot"):
        message = {"authorType": author, "message": text}
        for address, body, field in (
            (f"{path}/messages", message, "message"),
            (f"{path}/close", message, "message"),
            (
                "/support/cases",
                {"subject": "Late", "channel": "email", "initialMessage": message},
                "initialMessage.message",
            ),
        ):
            problem = await expect_problem(client.post(address, json=body), 422, "variables_unfilled")
            assert problem["detail"].startswith("The customer would read {{shipment.trackingNumber}}, {{order.id}}. ")
            assert [error["field"] for error in problem["errors"]] == [field]
    assert (await read_detail(client, case))["messages"] == []


WHAT_NO_MACRO_FILLS_IS = [
    ("{{order.status}}", {"visibility": "internal"}),
    ("{{order.status}}", {"authorType": "customer"}),
    ("{{order.total}} {{Order.Status}} {{name}} {{}} {order.status} {{order.status", {}),
]


@each_row("text, fields", WHAT_NO_MACRO_FILLS_IS)
async def test_what_no_macro_fills_is_stored(client, text, fields):
    """Notes, messages of customers, and braces that macros do not know."""
    case = await open_case(client)
    sent = {"authorType": "agent", "message": text} | fields
    stored = await client.post(f"/support/cases/{case['id']}/messages", json=sent)
    assert stored.status == 200, await stored.text()


async def test_repeat_of_a_stored_message_is_not_refused(client, monkeypatch):
    """The previous release has stored it with an unfilled variable; the caller did not get the answer."""
    sent = {"authorType": "agent", "message": "{{order.status}}", "externalId": "mail-1"}
    opening = {"subject": "Late", "channel": "email", "externalId": "mail-1", "initialMessage": sent}
    key = {"Idempotency-Key": "reply-1"}
    with monkeypatch.context() as previous_release:
        previous_release.setattr("support_service.cases.service.check_is_filled", lambda *_: None)
        case = await (await client.post("/support/cases", json=opening)).json()
        path = f"/support/cases/{case['id']}/messages"
        stored = await (await client.post(path, json=sent, headers=key)).json()
    for headers in (key, {}):
        assert (await (await client.post(path, json=sent, headers=headers)).json())["id"] == stored["id"]
    assert (await (await client.post("/support/cases", json=opening)).json())["id"] == case["id"]
