"""Searches by ids: of cases, of other systems, and of what the context of a case names."""

import pytest

from tests.support.access.principals import open_principals
from tests.support.calls import add_message, expect_json, list_cases, list_subjects, open_case

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
        for sort in SORTS:
            with subtests.test(q=q, sort=sort):
                assert sorted(await list_subjects(client, q=q, sort=sort)) == list(subjects)
                pages, cursor = [], {}
                while cursor is not None:
                    page = await list_cases(client, q=q, sort=sort, limit="1", **cursor)
                    pages += [each["subject"] for each in page["items"]]
                    cursor = page["nextCursor"] and {"cursor": page["nextCursor"]}
                assert pages == await list_subjects(client, q=q, sort=sort)
        assert await expect_json(client.get("/support/cases/count", params={"q": q})) == {
            "count": len(subjects),
            "more": False,
        }
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
        assert await match("zx000123", **filters) == {
            "field": "trackingNumber",
            "messageId": None,
            "snippet": "ZX000123",
            "highlights": [[0, 8]],
        }
        found = await match(case["id"][:8], **filters)
        assert (found["field"], found["snippet"], found["highlights"]) == ("id", case["id"], [[0, 8]])
        found = await match("zx9", **filters)
        assert (found["field"], found["messageId"], found["highlights"]) == ("message", said["id"], [[10, 13]])


@pytest.mark.parametrize("name", ["customer", "other-customer", "agent", "other-agent"])
async def test_ids_find_only_what_the_caller_may_see(make_client, tmp_path, name):
    """Neither another customer nor an agent without the case learns that it exists."""
    principals = await open_principals(make_client, tmp_path / "tokens.json")
    new = {"subject": "A", "channel": "email", "customerId": "customer-1", "team": "returns", "externalId": "E-1"}
    case = await principals.read_json("supervisor", "POST", "/support/cases", json=new | {"context": CONTEXT})
    note = {"authorType": "agent", "message": "See ZX5", "visibility": "internal"}
    await principals.read_json("supervisor", "POST", f"/support/cases/{case['id']}/messages", json=note)
    for q in (case["id"], case["id"][:6], "E-1", "ORD-1003", "zx000123", "ZX5"):
        page = await principals.read_json(name, "GET", "/support/cases", params={"q": q})
        sees = not name.startswith("other") and not (q == "ZX5" and name == "customer")
        assert len(page["items"]) == sees, q
