"""Customers: their cases, references and files, and what staff know: names, contacts, notes, and ids of one person."""

import asyncio
from urllib.parse import quote

import pytest_asyncio
from yarl import URL

from support_service.api.models.cases import MAX_CUSTOMER_FILES, CustomerReferences
from support_service.core.clock import utc_now
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.platform.database.tables import attachments
from tests.support.calls import expect_json, expect_problem, list_cases, open_case, read_detail, upload
from tests.support.each import each_row
from tests.support.service import service_of

CUSTOMERS = "/support/customers"
ANNA = {
    "name": "Anna Bergér",
    "contacts": [
        {"kind": "email", "value": "Anna@Example.org", "label": None},
        {"kind": "phone", "value": "+43 1 5550-123", "label": "work"},
        {"kind": "other", "value": "@anna", "label": "chat"},
    ],
    "notes": "Call her in the morning.",
}


async def put(client, customer_id="c-1", status=200, headers=(), **fields):
    """Change or add a record; return it, and the ETag."""
    async with client.put(f"{CUSTOMERS}/{customer_id}", json=fields, headers=dict(headers)) as response:
        assert response.status == status, await response.text()
        return await response.json(), response.headers["ETag"]


async def read(client, customer_id="c-1"):
    return await expect_json(client.get(f"{CUSTOMERS}/{customer_id}"))


async def find(client, **query):
    """Return the ids of the customers who are found."""
    return [each["customerId"] for each in (await expect_json(client.get(CUSTOMERS, params=query)))["items"]]


async def merge(client, customer_id, into, status=200):
    """Merge a customer into another one; return the person."""
    return await expect_json(client.post(f"{CUSTOMERS}/{customer_id}/merge", json={"into": into}), status)


async def separate(client, customer_id, other, status=204):
    await expect_json(client.delete(f"{CUSTOMERS}/{customer_id}/identities/{other}"), status)


async def test_record_is_added_and_changed(client):
    """Fields that are not sent stay, null clears one, and a change that changes nothing keeps the version."""
    added, first = await put(client, status=201, **ANNA)
    assert {"customerId": "c-1", "identities": ["c-1"], **ANNA}.items() <= added.items()
    changed, second = await put(client, name="  Anna B. ", notes=None, headers={"If-Match": first})
    assert changed == added | {"name": "Anna B.", "notes": None, "updatedAt": changed["updatedAt"]}
    assert await put(client, name="Anna B.") == (changed, second)
    stale = await client.put(f"{CUSTOMERS}/c-1", json={"name": "A"}, headers={"If-Match": first})
    await expect_problem(stale, 412, "customer_changed")


async def test_page_has_the_record_and_its_version(client):
    """Also of a customer without a case. The tag of the page is valid in If-Match."""
    await put(client, status=201, **ANNA)
    page = await read(client)
    assert {**ANNA, "customerId": "c-1", "identities": ["c-1"], "cases": []}.items() <= page.items()
    async with client.get(f"{CUSTOMERS}/c-1") as response:
        tag = response.headers["ETag"]
    await put(client, name="B", headers={"If-Match": tag})
    again = await client.put(f"{CUSTOMERS}/c-1", json={"name": "C"}, headers={"If-Match": tag})
    await expect_problem(again, 412, "customer_changed")
    await open_case(client, customerId="c-2")
    unnamed = await read(client, "c-2")
    assert (unnamed["name"], unnamed["contacts"], unnamed["notes"], unnamed["identities"]) == (None, [], None, ["c-2"])
    await expect_problem(client.get(f"{CUSTOMERS}/c-3"), 404, "customer_not_found")


async def test_record_that_is_to_be_new_replaces_none(client):
    """With `If-None-Match: *`, also of several that are added at the same moment one stays."""
    new = {"If-None-Match": "*"}
    sent = (client.put(f"{CUSTOMERS}/c-1", json={"name": name}, headers=new) for name in "ABCDEF")
    answers = await asyncio.gather(*sent)
    added = [answer for answer in answers if answer.status == 201]
    assert [(await each.json())["name"] for each in added] == [(await read(client))["name"]]
    for answer in {*answers} - {*added}:
        assert "exists already" in (await expect_problem(answer, 412, "customer_changed"))["detail"]
    for tag in ('"0"', '"0.page"'):
        refused = client.put(f"{CUSTOMERS}/c-2", json={}, headers={"If-Match": tag})
        await expect_problem(refused, 412, "customer_changed")


WRONG_FIELDS = {
    "name": [" ", "a\nb", "x" * 129],
    "notes": ["x" * 10_001],
    "contacts": [[ANNA["contacts"][0]] * 21],
    "contacts.0": [[{"kind": "email", "value": "anna"}], [{"kind": "phone", "value": "call me"}]],
    "contacts.0.kind": [[{"kind": "fax", "value": "123"}]],
    "contacts.0.value": [[{"kind": "other", "value": ""}]],
}


@each_row("named, value", [(named, value) for named, values in WRONG_FIELDS.items() for value in values])
async def test_wrong_fields_are_named(client, named, value):
    refused = client.put(f"{CUSTOMERS}/c-1", json={named.partition(".")[0]: value})
    problem = await expect_problem(refused, 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == [named]


async def test_case_shows_the_name_at_once(client):
    """Documents that a replica keeps and the tag of a case follow the name, which changes without the case."""
    case = await open_case(client, customerId="c-1")
    path = f"/support/cases/{case['id']}"
    async with client.get(path) as response:
        unnamed, body = response.headers["ETag"], await response.json()
    assert "customerName" not in body
    for name in ("Anna", "Bea", None):
        await put(client, status=201 if name == "Anna" else 200, name=name)
        for url in (path, f"{path}?includeTimeline=true", f"{path}?messagesLimit=1"):
            assert (await expect_json(client.get(url, headers={"If-None-Match": "unknown"}))).get(
                "customerName"
            ) == name
        assert [each.get("customerName") for each in (await list_cases(client))["items"]] == [name]
        async with client.get(path, headers={"If-None-Match": unnamed}) as response:
            assert response.status == (200 if name else 304)
            tag = response.headers["ETag"]
        await expect_json(client.get(path, headers={"If-None-Match": tag}), 304)
    await put(client, name="Anna")
    async with client.get(path) as response:
        tag = response.headers["ETag"]
    for status in (200, 412):
        await expect_json(client.patch(path, json={"priority": "high"}, headers={"If-Match": tag}), status)


FOUND = [
    ({"q": "anna"}, ["c-2", "c-1"]),
    ({"q": "ANNA BER"}, ["c-1"]),
    ({"q": "berger"}, ["c-1"]),
    ({"q": "Berger, Anna"}, ["c-1"]),
    ({"q": "nguyen van"}, ["c-3"]),
    ({"q": "linh nguyễn"}, ["c-3"]),
    ({"q": "van linh"}, ["c-3"]),
    ({"q": "erger"}, []),
    ({"q": "!!"}, []),
    ({"q": "anna@example.org"}, ["c-1"]),
    ({"q": "+43 (1) 5550123"}, ["c-1"]),
    ({"contact": "ANNA@example.ORG"}, ["c-1"]),
    ({"contact": "+4315550123"}, ["c-1"]),
    ({"contact": "@Anna"}, ["c-1"]),
    ({"contact": "anna@example.or"}, []),
    ({"contact": "email:anna@example.org"}, []),
]


async def test_customers_are_found(client, subtests):
    """By the beginning of each word of the name, and by exactly a contact, as they are now."""
    await put(client, "c-1", 201, **ANNA)
    await put(client, "c-2", 201, name="Annabel Anna Anna")
    await put(client, "c-3", 201, name="Nguyễn Văn Linh")
    for query, found in FOUND:
        with subtests.test(query=query):
            assert await find(client, **query) == found
    found = await expect_json(client.get(CUSTOMERS, params={"q": "a", "limit": 1}))
    assert ([each["name"] for each in found["items"]], found["more"]) == (["Annabel Anna Anna"], True)
    for query in ({}, {"q": " "}, {"q": "a", "contact": "b"}):
        await expect_problem(client.get(CUSTOMERS, params=query), 422, "invalid_request")
    await put(client, "c-1", name="Bea", contacts=[{"kind": "email", "value": "bea@example.org"}])
    assert [await find(client, q=each) for each in ("anna", "anna@example.org")] == [["c-2"], []]
    assert [await find(client, q=each) for each in ("bea", "bea@example.org")] == [["c-1"]] * 2


async def test_ids_of_one_person_are_read_as_one_customer(client):
    """Cases keep their customer. Undoing the merge restores all as it was."""
    cases = [await open_case(client, customerId=each, subject="parcel") for each in ("c-1", "c-2", "c-3")]
    await put(client, "c-1", 201, name="Anna")
    await put(client, "c-2", 201, name="A. B.")
    before = [await read(client, each) for each in ("c-1", "c-2")]
    person = await merge(client, "c-2", "c-1")
    assert (person["identities"], person["name"]) == (["c-1", "c-2"], "Anna")
    assert await merge(client, "c-2", "c-1") == person
    for each in ("c-1", "c-2"):
        page = await read(client, each)
        assert (page["name"], page["identities"], page["customerId"]) == ("Anna", ["c-1", "c-2"], each)
        assert [case["customerId"] for case in page["cases"]] == ["c-2", "c-1"]
        for query in ({}, {"q": "parcel"}, {"sort": "updated"}, {"status": "open"}, {"sort": "waiting"}):
            listed = await list_cases(client, customerId=each, **query)
            assert {case["id"] for case in listed["items"]} == {case["id"] for case in cases[:2]}
        assert (await expect_json(client.get("/support/cases/count", params={"customerId": each})))["count"] == 2
    assert (await read_detail(client, cases[1]))["customerName"] == "Anna"
    await put(client, "c-1", name="Anna C.")
    assert (await read_detail(client, cases[1]))["customerName"] == "Anna C."
    refused = await client.put(f"{CUSTOMERS}/c-2", json={"name": "X"})
    assert "'c-1'" in (await expect_problem(refused, 409, "customer_merged"))["detail"]
    assert await find(client, q="A. B.") == ["c-1"]
    await put(client, "c-1", name="Anna")
    await separate(client, "c-1", "c-2")
    assert [await read(client, each) for each in ("c-1", "c-2")] == before
    await separate(client, "c-1", "c-2", 404)


async def test_merged_customer_brings_its_ids_along(client):
    for each in "abcd":
        await put(client, each, 201, name=each.upper())
    await merge(client, "c", "b")
    assert (await merge(client, "b", "a"))["identities"] == ["a", "b", "c"]
    again = await client.post(f"{CUSTOMERS}/c/merge", json={"into": "d"})
    assert "'a'" in (await expect_problem(again, 409, "customer_already_merged"))["detail"]
    assert (await merge(client, "d", "c"))["identities"] == ["a", "b", "c", "d"]
    await separate(client, "d", "b")
    assert [(await read(client, each))["identities"] for each in "abcd"] == [[*"ad"], [*"bc"], [*"bc"], [*"ad"]]
    assert (await read(client, "c"))["name"] == "B"
    await separate(client, "b", "c")
    assert (await read(client, "c"))["name"] == "C"


async def test_merge_needs_two_customers_who_are_known(client):
    """An id that no customer can have is unknown: PostgreSQL refuses some texts."""
    await put(client, "c-1", 201)
    for one, into in (("c-1", "c-9"), ("c-9", "c-1"), ("%00", "c-1"), ("x" * 37, "c-1")):
        await expect_problem(client.post(f"{CUSTOMERS}/{one}/merge", json={"into": into}), 404, "customer_not_found")
    await expect_problem(client.post(f"{CUSTOMERS}/c-1/merge", json={"into": "c-1"}), 422, "invalid_request")
    for path in ("%00", "x" * 37):
        await expect_problem(client.delete(f"{CUSTOMERS}/{path}/identities/c-1"), 404, "identity_not_found")
        await expect_problem(client.put(f"{CUSTOMERS}/{path}", json={}), 422, "invalid_request")
        await expect_problem(client.get(f"{CUSTOMERS}/{path}"), 404, "customer_not_found")


async def test_merge_is_made_of_the_version_that_was_read(client):
    """That of the customer in the path: before a merge its own record, after it that of the person."""
    for each in ("c-1", "c-2"):
        await put(client, each, 201)

    async def try_to_merge(tag):
        headers = {"If-Match": tag}
        return await client.post(f"{CUSTOMERS}/c-2/merge", json={"into": "c-1"}, headers=headers)

    async def tag():
        async with client.get(f"{CUSTOMERS}/c-2") as response:
            return response.headers["ETag"]

    stale = await tag()
    await put(client, "c-2", name="Anna")
    await expect_problem(await try_to_merge(stale), 412, "customer_changed")
    merged = await try_to_merge(await tag())
    assert merged.status == 200
    assert (await try_to_merge(await tag())).status == (await try_to_merge(merged.headers["ETag"])).status == 200


async def test_person_has_at_most_twenty_ids(client):
    for number in range(21):
        await put(client, f"c-{number}", 201)
    for number in range(1, 20):
        await merge(client, f"c-{number}", "c-0")
    answer = await client.post(f"{CUSTOMERS}/c-20/merge", json={"into": "c-0"})
    await expect_problem(answer, 409, "too_many_identities")


async def test_each_role_sees_what_it_may(desk):
    """Customers see the name of their own id, also after a merge. Analysts see nothing of it.

    For what each role may do see test_roles.py.
    """
    for each in ("customer-1", "customer-2"):
        await desk.open_case(customerId=each)
    await desk.send("PUT", f"{CUSTOMERS}/customer-1", "lan", json=ANNA)
    await desk.send("PUT", f"{CUSTOMERS}/customer-2", "service", json={"name": "Bob"})
    await desk.send("POST", f"{CUSTOMERS}/customer-2/merge", "lan", json={"into": "customer-1"})
    own = await desk.send("GET", f"{CUSTOMERS}/customer-2", "bob")
    assert (own["name"], own["contacts"], own["notes"], own["identities"]) == ("Bob", [], None, ["customer-2"])
    assert [case["customerId"] for case in own["cases"]] == ["customer-2"]
    assert [case["customerName"] for case in (await desk.send("GET", "/support/cases", "bob"))["items"]] == ["Bob"]
    filtered = await desk.send("GET", "/support/cases", "bob", params={"customerId": "customer-1"})
    assert filtered["items"] == []
    listed = (await desk.send("GET", "/support/cases", "minh"))["items"]
    assert [case["customerName"] for case in listed] == [ANNA["name"]] * 2
    masked = (await desk.send("GET", "/support/cases", "analyst"))["items"]
    assert not any("customerName" in case for case in masked)
    detail = await desk.send("GET", f"/support/cases/{masked[0]['id']}", "analyst")
    assert "customerName" not in detail
    assert not any("Anna" in str(each) for each in (masked, detail))
    seen = await desk.send("GET", CUSTOMERS, "service", params={"contact": "anna@example.org"})
    assert [(each["name"], each["notes"]) for each in seen["items"]] == [(ANNA["name"], None)]


async def test_agents_see_the_cases_of_a_person_that_they_may_see(desk):
    for each, team in (("customer-1", "returns"), ("customer-2", "billing")):
        await desk.open_case(customerId=each, team=team)
    await desk.send("POST", f"{CUSTOMERS}/customer-2/merge", json={"into": "customer-1"})
    page = await desk.send("GET", f"{CUSTOMERS}/customer-1", "minh")
    assert [case["customerId"] for case in page["cases"]] == ["customer-2"]


async def test_changes_are_audited_without_what_is_personal(client):
    """The log can't be erased by customer, so that it has a random id of the record, and no values."""
    first, _ = await put(client, status=201, **ANNA)
    second, _ = await put(client, "c-2", 201)
    await put(client, name="Anna")
    await merge(client, "c-2", "c-1")
    await separate(client, "c-1", "c-2")
    entries = (await expect_json(client.get("/support/audit", params={"limit": 5})))["items"]
    assert [each["action"].removeprefix("customer.") for each in entries] == [
        "separated", "merged", "changed", "created", "created"
    ]  # fmt: skip
    assert entries[1]["changes"] == {"customer": [None, first["auditId"]], "other": [None, second["auditId"]]}
    assert entries[2]["changes"] == {"customer": [None, first["auditId"]], "fields": [None, ["name"]]}
    assert not any(text in str(entries) for text in ("Anna", "'c-1'", "example"))


PATH = "/support/customers/c-1"


async def read_page(client, path=PATH, **query):
    return await expect_json(client.get(path, params=query or None))


def references(**named):
    """Return the references of a page: these ids, and none of other kinds."""
    return {f"{kind}s": [] for kind in SERVICE_BY_KIND} | named


@pytest_asyncio.fixture(loop_scope="module")
async def cases(client):
    """Two cases of one customer with files, and one of another."""
    first = await open_case(
        client,
        subject="First",
        customerId="c-1",
        context=[{"type": "order", "orderId": "ORD-1"}, {"type": "payment", "orderId": "ORD-2"}],
    )
    await open_case(client, customerId="c-2", context=[{"type": "order", "orderId": "ORD-9"}])
    second = await open_case(
        client,
        subject="Second",
        customerId="c-1",
        context=[{"type": "shipment", "shipmentId": 7}, {"type": "order", "orderId": "ORD-2"}, {"type": "page"}],
    )
    return first, second


async def test_customer_has_their_cases_references_and_files(client, cases):
    """All are the newest first, and nothing is another customer's."""
    files = [await upload(client, case) for case in (*cases, cases[0])]
    page = await read_page(client)
    record = {"customerId": "c-1", "identities": ["c-1"], "name": None, "contacts": [], "notes": None}
    listed = {"cases": (await list_cases(client, customerId="c-1"))["items"], "nextCursor": None}
    found = {"references": references(orders=["ORD-2", "ORD-1"], shipments=["7"]), "files": files[::-1]}
    assert page == {**record, **listed, **found, "moreFiles": False}
    assert [case["subject"] for case in page["cases"]] == ["Second", "First"]


async def test_page_has_the_references_and_files_of_its_cases(client, cases):
    """The cursor is that of the case list."""
    files = [await upload(client, case) for case in cases]
    newest = await read_page(client, limit="1")
    oldest = await read_page(client, limit="1", cursor=newest["nextCursor"])
    assert [page["cases"][0]["id"] for page in (newest, oldest)] == [cases[1]["id"], cases[0]["id"]]
    assert [page["files"] for page in (newest, oldest)] == [[files[1]], [files[0]]]
    assert newest["references"] == references(orders=["ORD-2"], shipments=["7"])
    assert oldest["references"] == references(orders=["ORD-1", "ORD-2"])
    assert oldest["nextCursor"] is None
    await expect_problem(client.get(PATH, params={"cursor": "x"}), 422, "invalid_request")
    await expect_problem(client.get(PATH, params={"limit": "201"}), 422, "invalid_request")


async def test_customer_without_a_case_is_not_found(client):
    """Synthetic cases do not count."""
    await open_case(client, customerId="c-1", channel="synthetic")
    for customer in ("c-1", "nobody", "%00", "a%2Fb", "%F0%9F%98%80", "x" * 37, "x" * 2000, "%FF"):
        response = await client.get(URL(f"/support/customers/{customer}", encoded=True))
        await expect_problem(response, 404, "customer_not_found")
    assert list(CustomerReferences.model_fields) == [f"{kind}s" for kind in SERVICE_BY_KIND]


async def test_customer_id_may_be_any_text(shared_client):
    """It is percent-encoded in the path."""
    for name in ("khách/9 %", "a\u00a0b", "😀" * 36, "{9}"):
        case = await open_case(shared_client, customerId=name)
        page = await read_page(shared_client, URL(f"/support/customers/{quote(name, safe='')}", encoded=True))
        assert (page["customerId"], [each["id"] for each in page["cases"]]) == (name, [case["id"]])


async def test_number_of_files_is_bounded(client, cases):
    """The newest files are returned, and `moreFiles` says that there are others."""
    row = {"content_type": "text/plain", "size_bytes": 1, "sha256": "0" * 64, "storage": "local"}
    row |= {"created_at": utc_now(), "visibility": "public"}
    rows = [
        {"id": f"file-{number}", "ticket_id": case["id"], "filename": "a.txt", "storage_key": f"{number}", **row}
        for number, case in enumerate(cases * (MAX_CUSTOMER_FILES // 2 + 1))
    ]
    async with service_of(client).database.transaction() as tx:
        await tx.execute(attachments.insert(), rows)
    page = await read_page(client)
    assert [each["id"] for each in page["files"]] == [
        f"file-{number}" for number in range(MAX_CUSTOMER_FILES + 1, 1, -1)
    ]
    assert page["moreFiles"]
