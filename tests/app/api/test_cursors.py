"""Cursors of lists are opaque: they say nothing about what is stored, and only the service can make them."""

import base64
import struct

import pytest
import pytest_asyncio
import sqlalchemy as sa

from support_service.api.routes import ROUTES
from support_service.cases.model.requests import CURSOR_PATTERN
from support_service.platform.database.tables import tickets
from tests.support.calls import eventually, expect_json, expect_problem, open_case
from tests.support.service import service_of

CUSTOMER = "customer-1"
LISTS = {
    "newest": "/support/cases?limit=1",
    "updated": "/support/cases?limit=1&sort=updated",
    "of a customer": f"/support/customers/{CUSTOMER}?limit=1",
    "audit": "/support/audit?limit=1",
    "of the audit of a case": "/support/cases/{case}/audit?limit=1",
    "views": "/support/views?limit=1",
    "macros": "/support/macros?limit=1",
    "agents": "/support/agents?limit=1",
}


@pytest.fixture
def client(shared_client):
    """A client of one service for all tests of this module."""
    return shared_client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lists(shared_client):
    """The path of each list; each has several pages."""
    return await open_lists(shared_client)


async def open_lists(client):
    """Return the path of each list; each has several pages."""
    case = await open_case(client, customerId=CUSTOMER)
    await open_case(client, customerId="customer-2")
    await open_case(client, customerId=CUSTOMER)
    await expect_json(client.patch(f"/support/cases/{case['id']}", json={"priority": "high"}))
    for name in ("a", "b"):
        await expect_json(client.post("/support/views", json={"name": name, "query": {}}), 201)
        for path, sent in ((f"macros/{name}", {"text": "Hello"}), (f"agents/{name}", {})):
            await expect_json(client.put(f"/support/{path}", json=sent), 201)
    return {name: path.format(case=case["id"]) for name, path in LISTS.items()}


async def page(client, path, cursor=None):
    return await expect_json(client.get(path, params={"cursor": cursor} if cursor else {}))


async def expect_refused(client, path, cursor):
    """Check that a list refuses a cursor, and says which field is wrong."""
    problem = await expect_problem(client.get(f"{path}&cursor={cursor}"), 422, "invalid_request")
    assert [error["field"] for error in problem["errors"]] == ["cursor"]


def decoded(cursor):
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


async def test_pages_have_each_entry_once(client, lists):
    """In the order of the whole list. The last page has no cursor, and no cursor has the number of a row."""

    async def sealed():
        return all(entry["hash"] for entry in (await page(client, "/support/audit?limit=50"))["items"])

    await eventually(sealed)  # it changes the entries of the audit log
    rows = await service_of(client).database.fetch_all(sa.select(tickets.c.seq))
    for path in lists.values():
        whole, found, cursor = await page(client, path.replace("limit=1", "limit=50")), [], None
        (entries,) = (name for name in ("items", "cases") if name in whole)
        while len(found) < len(whole[entries]):
            part = await page(client, path, cursor)
            found, cursor = found + part[entries], part["nextCursor"]
            if cursor:
                assert not [row.seq for row in rows if struct.pack(">q", row.seq) in decoded(cursor)]
                assert len(decoded(cursor)) > 16
        assert (found, cursor, len(found) > 1) == (whole[entries], None, True), path
        for wrong in ("0", "1000"):
            await expect_problem(client.get(path.replace("limit=1", f"limit={wrong}")), 422, "invalid_request")


async def test_cursors_lead_to_the_next_page_on_every_replica(make_client):
    """Also after a restart."""
    client, other = await make_client(), await make_client()
    for path in (await open_lists(client)).values():
        first = await page(client, path)
        second = await page(other, path, first["nextCursor"])
        assert second["items" if "items" in second else "cases"]
        assert second != first


async def test_a_changed_cursor_is_refused(client, lists):
    """Whichever of its bytes it is. So is a cursor of the previous release, which had the number of a row."""
    cursor = (await page(client, lists["newest"]))["nextCursor"]
    raw = decoded(cursor)
    for index in range(len(raw)):
        changed = raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]
        await expect_refused(client, lists["newest"], base64.urlsafe_b64encode(changed).decode().rstrip("="))
    await expect_refused(client, lists["newest"], "AAAAAAAAAAg")
    await expect_refused(client, lists["newest"], cursor + "AAAA")


async def test_a_cursor_of_another_list_is_refused(client, lists):
    """So is one of another sort."""
    cursors = {name: (await page(client, path))["nextCursor"] for name, path in lists.items()}
    for name, path in lists.items():
        for other, cursor in cursors.items():
            if name != other:
                await expect_refused(client, path, cursor)


def test_every_list_in_pages_has_such_cursors():
    """The API documents their form."""
    paged = [route for route in ROUTES if "next_cursor" in getattr(route.response_model, "model_fields", {})]
    assert len(paged) >= len(LISTS)
    for route in paged:
        assert CURSOR_PATTERN in str(route.query.model_json_schema()["properties"]["cursor"])


@pytest.mark.parametrize(("sort", "filtered"), [("due", "dueWithin=PT2H"), ("snoozed", "snoozed=true")])
async def test_cursor_behind_the_cases_with_a_time_is_refused_with_a_filter_for_them(client, sort, filtered):
    """It is of a list with other cases, too."""
    for _ in range(2):
        await open_case(client)
    path = f"/support/cases?sort={sort}&limit=1"
    cursor = (await expect_json(client.get(path)))["nextCursor"]
    answer = await client.get(f"{path}&cursor={cursor}&{filtered}")
    await expect_problem(answer, 422, "invalid_request")
