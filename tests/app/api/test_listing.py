"""Lists of cases: filters, search and pages."""

import base64
from itertools import product

import pytest

from tests.conftest import both_databases
from tests.support.calls import expect_problem, list_cases, list_subjects, open_case

pytestmark = both_databases


@pytest.fixture
async def cases(client):
    """Three cases that differ in everything."""
    return [
        await open_case(client, subject="A", customerId="c-1", assignedAgentId="a-1", priority="low", channel="email"),
        await open_case(client, subject="B", customerId="c-2", assignedAgentId="a-2", priority="high", channel="chat"),
        await open_case(client, subject="C", customerId="c-2", assignedAgentId="a-1", priority="high", channel="fax"),
    ]


async def test_newest_first(client, cases):
    """A list has tickets, the newest first, and ends with a null cursor."""
    page = await list_cases(client)
    assert page.keys() == {"items", "nextCursor"}
    assert [item["id"] for item in page["items"]] == [case["id"] for case in reversed(cases)]
    assert "messages" not in page["items"][0]
    assert page["items"][0].items() <= cases[-1].items()
    assert page["nextCursor"] is None


@pytest.mark.parametrize(
    ("query", "subjects"),
    [
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
    ],
)
async def test_filters(client, cases, query, subjects):
    """Every filter given must hold; an empty one counts as not given."""
    assert await list_subjects(client, **query) == list(subjects)


async def test_the_status_filter_follows_changes(client, cases):
    """A case is listed under its present status."""
    await client.post(f"/support/cases/{cases[1]['id']}/status", params={"status": "pending"})
    assert await list_subjects(client, status="pending") == ["B"]
    assert await list_subjects(client, status="open") == ["C", "A"]


@pytest.mark.parametrize(
    "query",
    [
        {"status": "lost"},
        {"priority": "extreme"},
        {"limit": "0"},
        {"limit": "201"},
        {"limit": "many"},
        {"customerId": "x" * 37},
        {"q": "x" * 201},
    ],
)
async def test_a_filter_that_can_not_be_is_refused(client, query):
    """A wrong filter is 422 and named."""
    problem = await expect_problem(await client.get("/support/cases", params=query), 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == list(query)


async def test_pages_have_every_case_once(client):
    """All pages together have every case once, newest first, though cases are opened while they are read."""
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


async def test_large_cases_have_pages_of_their_own(client):
    """A page ends early once its cases have some 4 MiB, and its cursor goes on right there."""
    large = {"context": {"a": "x" * 65_000}, "description": "\u00a0" * 65_000}  # two bytes each
    cases = [await open_case(client, subject=str(number), **large) for number in range(23)]
    first = await list_cases(client, limit="30")
    assert len(first["items"]) == 22
    second = await list_cases(client, limit="30", cursor=first["nextCursor"])
    assert second["nextCursor"] is None
    listed = [case["id"] for case in first["items"] + second["items"]]
    assert listed == [case["id"] for case in reversed(cases)]


async def test_pages_keep_to_the_filter(client, cases):
    """A cursor goes on within the same filter."""
    first = await list_cases(client, customerId="c-2", limit="1")
    second = await list_cases(client, customerId="c-2", limit="1", cursor=first["nextCursor"])
    assert [page["items"][0]["subject"] for page in (first, second)] == ["C", "B"]
    assert second["nextCursor"] is None


@pytest.mark.parametrize(
    "cursor",
    ["x", "!!!", "AAAA", "é", "A" * 64, base64.urlsafe_b64encode(b"\xff" * 8).decode().rstrip("="), "../.."],
)
async def test_a_cursor_that_is_none_is_refused(client, cursor):
    """A cursor that no list gave is 422 and named, whatever it is."""
    problem = await expect_problem(
        await client.get("/support/cases", params={"cursor": cursor}), 422, "invalid_request"
    )
    assert [error["field"] for error in problem["errors"]] == ["cursor"]


@pytest.fixture
async def library(client):
    """Cases to search."""
    await open_case(client, subject="Đơn hàng giao thiếu", description="Hai trong ba món", customerId="khách-9")
    await open_case(client, subject="Parcel has not arrived", description="The tracking page is STUCK", customerId="x")
    await open_case(client, subject="Charged twice", description="order 4711/2026, e-mail a.b@example.com")


@pytest.mark.parametrize(
    ("q", "subject"),
    [
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
    ],
)
async def test_search(client, library, q, subject):
    """A search finds subject, description and customer, without case or diacritics, each word by its beginning."""
    assert await list_subjects(client, q=q) == [subject]


@pytest.mark.parametrize("q", ["parcel twice", "arcel", "nothing", "*", '"', "zz OR", "' OR 1=1 --", "😀"])
async def test_a_search_without_a_match_is_empty(client, library, q):
    """Every word must be there from its beginning; signs are no words and never an error."""
    assert await list_subjects(client, q=q) == []


async def test_a_search_follows_changes(client):
    """A case is found by its new subject and no more by its old one; filters narrow a search."""
    case = await open_case(client, subject="Before", customerId="c-1")
    await client.patch(f"/support/cases/{case['id']}", json={"subject": "After"})
    assert await list_subjects(client, q="before") == []
    assert await list_subjects(client, q="after", customerId="c-1") == ["After"]
    assert await list_subjects(client, q="after", customerId="c-2") == []


async def test_a_description_of_signs_that_stand_for_words(client):
    """Where a description's words are more than an index takes it is kept whole, and found by its first words."""
    squares = map(chr, range(0x3300, 0x3358))  # each stands for up to six letters of three bytes
    words = ["".join(pair) + "\u3316" * 9 for pair in product(squares, repeat=2)][:5460]
    case = await open_case(client, description=(text := " ".join(["kilometre", *words[1:], "late"])))
    assert case["description"] == text
    assert await list_subjects(client, q="kilometre") == await list_subjects(client, q=words[1]) == ["A parcel"]
    async with client.patch(f"/support/cases/{case['id']}", json={"description": text + "!"}) as response:
        assert response.status == 200, await response.text()
    assert await list_subjects(client, q="kilometre") == ["A parcel"]
    assert await list_subjects(client, q="late") == []
