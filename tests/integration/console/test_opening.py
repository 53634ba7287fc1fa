"""What a page does while it opens: nothing moves that a hand may be on its way to."""

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, open_case, upload
from tests.support.console.browser import NARROW, WIDE, expect_no_shift, record_shifts, settled
from tests.support.console.samples import case_path, open_waiting
from tests.support.service import own_client

client = own_client

MESSAGES = 60
MAX_SHIFT = 0.01  # of the layout, as browsers score it; half of the budget, for what a busy machine paints late


@pytest.fixture
async def busy_case(upstream_services, orders, payments, shipments, client):
    """A case with a long conversation, files, tags, a clock, an order, and a source that does not answer."""
    orders.add("ORD-1001", "order.created", "order.paid")
    payments.fail_with(503)
    shipments.add("SHP-1", "ORD-1001")
    # "8 h" becomes "7 h 59 min" in a second, which is longer; "8 h 30 min" stays as long.
    targets = {"firstResponse": "PT1H30M", "resolution": "PT8H30M"}
    await client.put("/support/sla-policies/all", json={"targets": targets})
    await client.put("/support/customers/customer-17", json={"name": "Anna Berger"})
    case = await open_case(
        client,
        subject="Parcel has not arrived",
        customerId="customer-17",
        tags=["delivery", "lost"],
        context=[{"type": "order", "orderId": "ORD-1001"}],
        initialMessage={"authorType": "customer", "message": "Where is my parcel?"},
    )
    await upload(client, case, filename="tracking.txt")
    for number in range(MESSAGES):
        author = "agent" if number % 3 == 0 else "customer"
        await add_message(client, case, f"Message {number}, which is as long as people write.", authorType=author)
    return case


@pytest.mark.parametrize("size", [WIDE, pytest.param(NARROW, marks=pytest.mark.long)], ids=["wide", "narrow"])
@pytest.mark.parametrize(
    "name",
    [
        "queue",
        "case",
        *(pytest.param(each, marks=pytest.mark.long) for each in ("customer", "team", "oncall", "audit")),
    ],
)
async def test_nothing_shifts_while_a_page_opens(busy_case, console, client, name, size):
    """What comes later has its place from the beginning: counts, names, clocks, order cards, problems of sources."""
    await open_waiting(client, *(f"Case {number}" for number in range(40)), customerId="customer-17")
    profile = await console.profile(viewport=size)
    await record_shifts(profile)
    paths = {"queue": "/console/", "case": case_path(busy_case), "customer": "/console/customers/customer-17"}
    page = await console.open(paths.get(name, f"/console/{name}"), profile=profile)
    await page.locator("main h1").first.wait_for()
    await settled(page)
    await expect(page.locator(".live")).to_have_text("live")
    await page.wait_for_load_state("load")
    await expect_no_shift(page, MAX_SHIFT)
    ends = await page.evaluate("[...ends]")
    assert len(ends) == (1 if name == "case" else 0), ends
