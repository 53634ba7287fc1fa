"""Lists of cases: filters, search and pages."""

import pytest_asyncio
import sqlalchemy as sa

from tests.support.calls import expect_json, list_subjects, open_case
from tests.support.each import each_row
from tests.support.service import service_of


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
