"""Searches: by words, and by ids of cases, of other systems, and of what the context of a case names."""

import pytest
import pytest_asyncio
import sqlalchemy as sa

from tests.support.calls import add_message, expect_json, list_cases, list_subjects, open_case
from tests.support.each import each_row
from tests.support.service import service_of

CONTEXT = [
    {"type": "order", "orderId": "ORD-1003"},
    {"type": "payment", "payment_id": "PAY 77"},
    {"type": "shipment", "shipmentId": 4711, "trackingNumber": "ZX000123"},
]
SORTS = ("newest", "updated", "waiting", "due", "snoozed")


async def test_cases_are_found_by_ids_in_every_sort(client, subtests):
    """Among the cases with the words, once each, on pages that follow each other, and in the count."""
    case = await open_case(client, subject="A", externalId="<5e1f@mail.test>", context=CONTEXT)
    await open_case(client, subject="B")
    mention = await open_case(client, subject="C", description="It is about ORD-1003 and ZX000123.")
    await open_case(client, subject="D", context=CONTEXT[:1])
    found = {
        case["id"]: "A",
        case["id"][:6].upper(): "A",
        "<5e1f@mail.test>": "A",
        "ORD-1003": "ACD",
        "#ord-1003": "ACD",
        "4711": "A",
        '"ZX000123"': "AC",
        "PAY 77": "",  # an id with a space is words
        "ORD-9": "",
        mention["id"]: "C",
    }
    for q, subjects in found.items():
        for sort in SORTS if q in (case["id"], "ORD-1003", "ORD-9") else SORTS[:1]:
            with subtests.test(q=q, sort=sort):
                assert sorted(await list_subjects(client, q=q, sort=sort)) == list(subjects)
                pages, cursor = [], {}
                while cursor is not None:
                    page = await list_cases(client, q=q, sort=sort, limit="1", **cursor)
                    pages += [each["subject"] for each in page["items"]]
                    cursor = page["nextCursor"] and {"cursor": page["nextCursor"]}
                assert pages == await list_subjects(client, q=q, sort=sort)
        counted = await expect_json(client.get("/support/cases/count", params={"q": q}))
        assert counted == {"count": len(subjects), "more": False}
    assert await list_subjects(client, q="ORD-1003", status="closed") == []
    assert await list_subjects(client, q="ORD-1003", orderId="ORD-1003") == ["D", "A"]


async def test_match_says_which_id_and_which_message(client):
    """A tracking number in the context is one, and the message with the words is named."""
    case = await open_case(client, subject="A", context=CONTEXT, customerId="c-1")
    said = await add_message(client, case, authorType="customer", message="My parcel ZX9 and ord 5 are lost.")
    await add_message(client, case, authorType="agent", message="Sorry.")

    async def match(q, **filters):
        (row,) = (await list_cases(client, q=q, **filters))["items"]
        return row["match"]

    for filters in ({}, {"customerId": "c-1"}):
        expected = {"field": "trackingNumber", "messageId": None, "snippet": "ZX000123", "highlights": [[0, 8]]}
        assert await match("zx000123", **filters) == expected
        found = await match(case["id"][:8], **filters)
        assert (found["field"], found["snippet"], found["highlights"]) == ("id", case["id"], [[0, 8]])
        found = await match("zx9", **filters)
        assert (found["field"], found["messageId"], found["highlights"]) == ("message", said["id"], [[10, 13]])


@pytest.mark.parametrize("name", ["customer", "other-customer", "agent", "other-agent"])
async def test_ids_find_only_what_the_caller_may_see(principals, name):
    """Neither another customer nor an agent without the case learns that it exists."""
    new = {"subject": "A", "channel": "email", "customerId": "customer-1", "team": "returns", "externalId": "E-1"}
    case = await principals.read_json("supervisor", "POST", "/support/cases", json=new | {"context": CONTEXT})
    note = {"authorType": "agent", "message": "See ZX5", "visibility": "internal"}
    await principals.read_json("supervisor", "POST", f"/support/cases/{case['id']}/messages", json=note)
    for q in (case["id"], case["id"][:6], "E-1", "ORD-1003", "zx000123", "ZX5"):
        page = await principals.read_json(name, "GET", "/support/cases", params={"q": q})
        sees = not name.startswith("other") and not (q == "ZX5" and name == "customer")
        assert len(page["items"]) == sees, q


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def searched(make_shared_client):
    """A client of a service with three cases that tests only search."""
    client = await make_shared_client()
    await open_case(client, subject="Đơn hàng giao thiếu", description="Hai trong ba món", customerId="khách-9")
    await open_case(client, subject="Parcel has not arrived", description="The tracking page is STUCK", customerId="x")
    await open_case(client, subject="Charged twice", description="order 4711/2026, e-mail a.b@example.com")
    return client


SEARCHES = [
    ("parcel", "Parcel has not arrived"),
    ("PARCEL arrived", "Parcel has not arrived"),
    ("arrived parcel", "Parcel has not arrived"),
    ("-parcel(", "Parcel has not arrived"),
    ("parc", "Parcel has not arrived"),
    ("stuck", "Parcel has not arrived"),
    ("track", "Parcel has not arrived"),
    ("đơn hàng", "Đơn hàng giao thiếu"),
    ("don hang", "Đơn hàng giao thiếu"),
    ("DON HANG thieu", "Đơn hàng giao thiếu"),
    ("mon", "Đơn hàng giao thiếu"),
    ("khach-9", "Đơn hàng giao thiếu"),
    ("4711", "Charged twice"),
    ("a.b@example.com", "Charged twice"),
    ("e-mail", "Charged twice"),
    *[(q, None) for q in ("parcel twice", "arcel", "nothing", "*", '"', "zz OR", "' OR 1=1 --", "😀")],
]


@each_row("q, subject", SEARCHES)
async def test_search_finds_cases_by_the_beginning_of_words(searched, q, subject):
    """The search covers subject, description and customer, and ignores case and diacritics.

    Every word must match from its beginning. Punctuation is ignored and never an error.
    """
    assert await list_subjects(searched, q=q) == ([subject] if subject else [])


async def test_search_follows_changes_of_the_subject(client):
    """A case is found only by its new subject, and filters narrow a search."""
    case = await open_case(client, subject="Before", customerId="c-1")
    await client.patch(f"/support/cases/{case['id']}", json={"subject": "After"})
    assert await list_subjects(client, q="before") == []
    assert await list_subjects(client, q="after", customerId="c-1") == ["After"]
    assert await list_subjects(client, q="after", customerId="c-2") == []


async def test_case_that_breaks_a_list_is_named(client, caplog):
    """A row that was changed by hand fails its lists; the log has the number of the case."""
    await open_case(client)
    async with service_of(client).database.transaction() as tx:
        await tx.execute(sa.text("UPDATE tickets SET context = '5'"), {})
    await expect_json(client.get("/support/cases"), 500)
    assert "The case with the number 1 can't be listed" in caplog.text
