"""Lists of cases: filters, search and pages."""

import base64

import pytest_asyncio
import sqlalchemy as sa

from tests.support.calls import expect_json, expect_problem, list_cases, list_subjects, open_case
from tests.support.each import each_row
from tests.support.service import service_of


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listed(make_shared_client):
    """A client of a service that tests only read from, and its three cases, which differ in every field."""
    client = await make_shared_client()
    return client, await open_cases(client)


async def open_cases(client):
    """Open three cases that differ in every field."""
    return [
        await open_case(client, subject="A", customerId="c-1", assignedAgentId="a-1", priority="low", channel="email"),
        await open_case(client, subject="B", customerId="c-2", assignedAgentId="a-2", priority="high", channel="chat"),
        await open_case(client, subject="C", customerId="c-2", assignedAgentId="a-1", priority="high", channel="fax"),
    ]


async def test_list_has_the_newest_case_first(listed):
    """Listed cases have no messages, and the last page has a null cursor."""
    client, cases = listed
    page = await list_cases(client)
    assert page.keys() == {"items", "nextCursor"}
    assert [item["id"] for item in page["items"]] == [case["id"] for case in reversed(cases)]
    assert "messages" not in page["items"][0]
    case = page["items"][0]
    absent = {"waitingSince", "lastMessageAt", "lastCustomerMessage", "sla"}
    assert dict.fromkeys(absent) == {name: case[name] for name in absent}
    case = {name: value for name, value in case.items() if name not in absent}
    assert case.items() <= cases[-1].items()
    assert page["nextCursor"] is None


FILTERED = [
    ({"customerId": "c-2"}, "CB"),
    ({"assignedAgentId": "a-1"}, "CA"),
    ({"priority": "high"}, "CB"),
    ({"channel": "fax"}, "C"),
    ({"channel": "chat", "customerId": "c-2"}, "B"),
    ({"channel": "chat", "customerId": "c-1"}, ""),
    ({"status": "open"}, "CBA"),
    ({"status": "closed"}, ""),
    ({"customerId": ""}, "CBA"),
    ({"unknown": "x"}, "CBA"),
    ({"limit": "2"}, "CB"),
]


async def test_listed_cases_match_all_given_filters(listed, subtests):
    """An empty filter counts as not given, and an unknown one is ignored."""
    client, _ = listed
    for query, subjects in FILTERED:
        with subtests.test(query=query, subjects=subjects):
            assert await list_subjects(client, **query) == list(subjects)


async def test_status_filter_follows_status_changes(client):
    cases = await open_cases(client)
    await client.post(f"/support/cases/{cases[1]['id']}/status", params={"status": "pending"})
    assert await list_subjects(client, status="pending") == ["B"]
    assert await list_subjects(client, status="open") == ["C", "A"]


INVALID_FILTERS = [
    {"status": "lost"},
    {"priority": "extreme"},
    {"limit": "0"},
    {"limit": "201"},
    {"limit": "many"},
    {"customerId": "x" * 37},
    {"q": "x" * 201},
]


async def test_invalid_filter_is_refused(listed, subtests):
    """The response is 422 and names the filter."""
    client, _ = listed
    for query in INVALID_FILTERS:
        with subtests.test(query=query):
            problem = await expect_problem(client.get("/support/cases", params=query), 422, "invalid_request")
            assert [error["field"] for error in problem["errors"]] == list(query)
            if "status" in query:
                assert "one or more of open, " in problem["errors"][0]["message"]


async def test_every_case_is_on_exactly_one_page(client):
    """Cases that are opened while the pages are read do not shift the others."""
    cases = [await open_case(client, subject=str(number)) for number in range(7)]
    seen, cursor = [], None
    while True:
        page = await list_cases(client, limit="3", **({"cursor": cursor} if cursor else {}))
        seen += [item["id"] for item in page["items"]]
        await open_case(client, subject="meanwhile")
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert seen == [case["id"] for case in reversed(cases)]


async def test_next_page_continues_within_the_filter(listed):
    client, _ = listed
    first = await list_cases(client, customerId="c-2", limit="1")
    second = await list_cases(client, customerId="c-2", limit="1", cursor=first["nextCursor"])
    assert [page["items"][0]["subject"] for page in (first, second)] == ["C", "B"]
    assert second["nextCursor"] is None


INVALID_CURSORS = [
    "x",
    "!!!",
    "AAAA",
    "é",
    "A" * 64,
    base64.urlsafe_b64encode(b"\xff" * 8).decode().rstrip("="),
    "../..",
]


async def test_invalid_cursor_is_refused(listed, subtests):
    """The response is 422 and names the cursor."""
    client, _ = listed
    for cursor in INVALID_CURSORS:
        with subtests.test(cursor=cursor):
            problem = await expect_problem(
                client.get("/support/cases", params={"cursor": cursor}), 422, "invalid_request"
            )
            assert [error["field"] for error in problem["errors"]] == ["cursor"]


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
]


@each_row("q, subject", SEARCHES)
async def test_search_finds_cases_by_the_beginning_of_words(searched, q, subject):
    """The search covers subject, description and customer, and ignores case and diacritics."""
    assert await list_subjects(searched, q=q) == [subject]


@each_row("q", ["parcel twice", "arcel", "nothing", "*", '"', "zz OR", "' OR 1=1 --", "😀"])
async def test_search_without_a_match_is_empty(searched, q):
    """Every word must match from its beginning. Punctuation is ignored and never an error."""
    assert await list_subjects(searched, q=q) == []


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
