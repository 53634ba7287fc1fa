"""What the page of a case shows of orders, payments and shipments, and of its context."""

import re

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, open_case, upload
from tests.support.console.browser import expect_accessible, settled
from tests.support.service import own_client

client = own_client


@pytest.fixture
def known_order(upstream_services, orders, payments, shipments):
    """The upstream services, which know an order; requested before `client`, so that the service knows them."""
    orders.add("ORD-1001", "order.created", "order.paid")
    payments.add("PAY-1", "ORD-1001")
    shipments.add("SHP-1", "ORD-1001")


async def test_timeline_has_all_sources_by_day(known_order, console, client, case):
    """Messages, files, orders, payments, shipments and changes are in one list. No source has a problem.

    The conversation has them in single lines that open.
    """
    await upload(client, case, filename="tracking.txt")
    page = await console.open(case)
    timeline = page.get_by_role("log", name="Timeline")
    run = timeline.locator(".run", has_text="order events")
    await expect(run).to_contain_text("5 order events, in transit 3 Jan")
    await expect(timeline.get_by_text("order paid")).to_be_hidden()
    await run.locator("summary").click()
    await expect(timeline.get_by_text("order paid")).to_be_visible()
    await expect(page.locator(".problems")).to_have_count(0)
    await page.get_by_role("button", name="Everything").click()
    for text in ("Where is my parcel?", "tracking.txt", "Payment", "Shipment", "order paid", "Case opened"):
        await expect(timeline.get_by_text(text).first).to_be_visible()
    await expect(timeline.get_by_role("heading", name="2 January 2026")).to_be_visible()
    await page.get_by_role("button", name="Files").click()
    await expect(timeline.get_by_text("Payment")).to_have_count(0)
    await page.get_by_role("button", name="Conversation").click()
    await expect(timeline.get_by_text("Where is my parcel?")).to_be_visible()


@pytest.mark.long
async def test_context_that_claims_to_be_something_else_is_shown_as_context(known_order, console, client):
    """Entries of the context are marked, and none is hidden or shown as an entry of a service, a person or a change.

    Each member of an entry is shown, whatever its name and value: none is taken for that of a service.
    """
    claims = [
        {"type": kind, "source": "payment-service", "origin": "payment", "name": f"claims {kind}"}
        for kind in ("payment", "conversation", "attachment", "case-event")
    ]
    members = ("source", "ticketId", "payload", "status", "eventType", "id", "receivedAt", "name")
    order = {"type": "order", "orderId": "ORD-1001"} | {name: f"given-{name}" for name in members}
    falsy = {"type": "note", "status": 0, "eventType": False, "payload": 0}
    page = await console.open(await open_case(client, context=[order, falsy, *claims]))
    await page.get_by_role("button", name="Everything").click()
    await settled(page)
    given = page.locator(".timeline li").filter(has_text="given with the case")
    await expect(given).to_have_count(2 + len(claims))
    for claim in claims:
        await expect(given.filter(has_text=claim["name"])).to_have_count(1)
        await expect(page.locator(".timeline li").filter(has_text=claim["name"])).to_have_count(1)
    for name in members:
        await expect(given.get_by_text(f"given-{name}", exact=True)).to_be_visible()
    await expect(given.filter(has_text="note").get_by_text("false", exact=True)).to_have_count(1)
    await expect(given.filter(has_text="note").get_by_text("0", exact=True)).to_have_count(2)
    await expect(page.locator(".timeline .message")).to_have_count(0)


async def test_timeline_says_what_is_stale_and_what_is_missing(known_order, console, client, payments, shipments, case):
    """A stale source's entries are marked, and an unavailable source leaves a gap that says so."""
    payments.fail_with(503)
    page = await console.open(case)
    problems = page.locator(".problems")
    missing = "Entries of payment are missing: it does not answer (status 503)."
    await expect(problems.locator("span")).to_have_text([missing])
    shipments.fail_with(503)
    await problems.get_by_role("button", name="Ask again").click()
    old = re.compile(r"Entries of fulfillment are \d+ s old: it does not answer \(status 503\)\.")
    await expect(problems.locator("span")).to_have_text([missing, old])
    await page.get_by_role("button", name="Everything").click()
    await expect(page.locator(".timeline .stale-mark")).to_have_text(re.compile("as of .* ago"))
    await expect_accessible(page)
    for service in (payments, shipments):
        service.heal()
    await problems.get_by_role("button", name="Ask again").click()
    await expect(problems).to_have_count(0)


@pytest.mark.long
async def test_timeline_has_the_entries_of_duplicates(known_order, console, client, case):
    """Each leads to its case. Messages, files, orders and changes of duplicates are in the order of time."""
    other = await open_case(client, subject="Lost parcel", context=[{"type": "order", "orderId": "ORD-1001"}])
    await add_message(client, other, "My parcel is lost.")
    await upload(client, other, filename="label.txt")
    await client.post(f"/support/cases/{other['id']}/links", json={"kind": "duplicate-of", "caseId": case["id"]})
    page = await console.open(case)
    await page.get_by_role("button", name="Everything").click()
    timeline = page.get_by_role("log", name="Timeline")
    name = f"duplicate {other['id'][:8]}"
    for entry in ("My parcel is lost.", "label.txt", "Case closed"):
        item = timeline.get_by_role("listitem").filter(has_text=entry)
        await expect(item.get_by_role("link", name=name)).to_be_visible()
    first = timeline.get_by_role("listitem").filter(has_text="Where is my parcel?")
    await expect(first.get_by_role("link", name=name)).to_have_count(0)
    await expect(timeline.get_by_text("order paid")).to_have_count(1)
    await expect(timeline.get_by_text(case["id"])).to_have_count(0)
    await add_message(client, other, "It is still lost.", visibility="internal")
    await expect(timeline.get_by_text("It is still lost.")).to_be_visible()
    await expect_accessible(page)
    file = timeline.get_by_role("listitem").filter(has_text="label.txt")
    await file.get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(timeline.get_by_role("link", name="label.txt")).to_have_count(0)
    await timeline.get_by_role("link", name=name).first.click()
    await expect(page.get_by_role("heading", name="Lost parcel")).to_be_visible()


@pytest.mark.long
async def test_order_cards_say_nothing_of_other_orders(upstream_services, orders, shipments, console, client):
    """Each parcel has its own carrier, and each order its own last event.

    A shipment that the case itself names has a card, too, with its tracking number, which can be copied.
    """
    for number, carrier in ((1, "VNPost"), (2, "DHL")):
        payload = {"carrier": carrier, "shipmentId": f"SHP-{number}"}
        event = {"type": f"handed.{carrier}", "payload": payload, "createdAt": f"2026-01-0{number}T00:00:00Z"}
        orders.serve_object(f"ORD-{number}", {}, events=[event])
        shipments.add(f"SHP-{number}", f"ORD-{number}")
    profile = await console.profile(permissions=["clipboard-read", "clipboard-write"])
    case = await open_case(client, context=[{"type": "order", "orderId": f"ORD-{n}"} for n in (1, 2)])
    page = await console.open(case, profile=profile)
    for number, carrier, other in ((1, "VNPost", "DHL"), (2, "DHL", "VNPost")):
        card = page.locator(".order-card", has=page.get_by_role("link", name=f"ORD-{number}"))
        await expect(card).to_contain_text(f"SHP-{number}")
        await expect(card.locator("dd").filter(has_text=re.compile(f"^{carrier}$"))).to_have_count(1)
        await expect(card).not_to_contain_text(other)
    case = await open_case(client, subject="Where?", context=[{"type": "shipment", "shipmentId": "SHP-1"}])
    page = await console.open(case, profile=profile)
    card = page.locator(".order-card")
    await expect(card).to_contain_text("in transit")
    await card.get_by_role("button", name="Copy VN1").click()
    await expect(page.get_by_text("Copied: VN1")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == "VN1"
