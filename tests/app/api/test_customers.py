"""Customers: their cases, references and files."""

from urllib.parse import quote

import pytest
from yarl import URL

from support_service.api.models.cases import MAX_CUSTOMER_FILES, CustomerReferences
from support_service.core.clock import utc_now
from support_service.core.domain.upstream_services import SERVICE_BY_KIND
from support_service.platform.database.tables import attachments
from tests.support.calls import expect_json, expect_problem, list_cases, open_case, upload
from tests.support.service import own_client, service_of

client = own_client

PATH = "/support/customers/c-1"


async def read(client, path=PATH, **query):
    """Return a page of a customer."""
    return await expect_json(client.get(path, params=query or None))


def references(**named):
    """Return the references of a page: these ids, and none of other kinds."""
    return {f"{kind}s": [] for kind in SERVICE_BY_KIND} | named


@pytest.fixture
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
    page = await read(client)
    record = {"customerId": "c-1", "identities": ["c-1"], "name": None, "contacts": [], "notes": None}
    listed = {"cases": (await list_cases(client, customerId="c-1"))["items"], "nextCursor": None}
    found = {"references": references(orders=["ORD-2", "ORD-1"], shipments=["7"]), "files": files[::-1]}
    assert page == {**record, **listed, **found, "moreFiles": False}
    assert [case["subject"] for case in page["cases"]] == ["Second", "First"]


async def test_page_has_the_references_and_files_of_its_cases(client, cases):
    """The cursor is that of the case list."""
    files = [await upload(client, case) for case in cases]
    newest = await read(client, limit="1")
    oldest = await read(client, limit="1", cursor=newest["nextCursor"])
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
        page = await read(shared_client, URL(f"/support/customers/{quote(name, safe='')}", encoded=True))
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
    page = await read(client)
    assert [each["id"] for each in page["files"]] == [
        f"file-{number}" for number in range(MAX_CUSTOMER_FILES + 1, 1, -1)
    ]
    assert page["moreFiles"]
