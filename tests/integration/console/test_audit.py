"""The audit page: entries of all cases, filters in the address, and the state of the chain."""

import re

import pytest
from playwright.async_api import expect

from support_service.platform.database.tables import audit_log
from tests.support.audit import alter_audit_log
from tests.support.calls import add_message, eventually, expect_json, open_case, upload
from tests.support.console.browser import expect_accessible, expect_good_looks
from tests.support.console.samples import HOSTILE
from tests.support.service import own_client

client = own_client

ADDRESS = "/console/audit"


@pytest.fixture
async def sealed(client):
    """Two cases, of which one is changed, an override, and all entries sealed; returns the cases."""
    cases = [await open_case(client, subject=subject) for subject in ("First", HOSTILE)]
    await client.patch(f"/support/cases/{cases[0]['id']}", json={"priority": "urgent", "tags": [HOSTILE]})
    await client.put("/support/overrides/payment", json={"reason": HOSTILE, "duration": "PT30M"})

    async def all_sealed():
        found = await verification(client)
        return found["head"]["position"] >= 4 and found["oldestUnsealedAt"] is None

    await eventually(all_sealed)
    return cases


async def verification(client):
    return await expect_json(client.get("/support/audit/verification"))


async def test_entries_of_all_cases_are_shown(sealed, client, console):
    """Newest first, with their values; what callers wrote is text.

    The head of the chain is copied, which `support-service audit verify --from-head` takes. When a sealed entry was
    changed in the database, the page says where the chain is broken.
    """
    page = await console.open(ADDRESS, permissions=["clipboard-read", "clipboard-write"])
    entries = page.locator(".audit li")
    await expect(entries).to_have_count(4)
    await expect(entries.first).to_contain_text("Override set")
    await expect(entries.nth(1)).to_contain_text("Normal → Urgent")
    await expect(entries.nth(1)).to_contain_text(HOSTILE)
    await expect(page.locator(".chain")).to_have_attribute("data-holds", "true")
    await expect_good_looks(page)
    await page.get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert await page.evaluate("navigator.clipboard.readText()") == (await verification(client))["head"]["hash"]
    await alter_audit_log(client, audit_log.update().where(audit_log.c.position == 3).values(actor="nobody"))
    await page.reload()
    for _ in range(2):
        await expect(page.get_by_text("The chain is broken after entry 2.")).to_be_visible()
        await page.get_by_role("button", name="Verify everything").click()
    await expect_accessible(page)


async def test_filters_are_in_the_address(sealed, console):
    """A link shows a colleague the same entries; a case may be named by its address."""
    page = await console.open(ADDRESS)
    entries = page.locator(".audit li")
    await expect(entries).to_have_count(4)
    await page.get_by_label("Case", exact=True).fill(f"{console.address}/console/cases/{sealed[0]['id']}")
    await page.get_by_label("What").select_option("case.changed")
    await page.get_by_label("Who").fill("anyone")
    await page.get_by_label("From").fill("2020-01-01T10:00")
    await page.get_by_role("button", name="Show", exact=True).click()
    await expect(entries).to_have_count(1)
    other = await console.open(page.url.removeprefix(console.address))
    await expect(other.locator(".audit li")).to_have_count(1)
    await expect(other.get_by_label("What")).to_have_value("case.changed")
    await expect(other.get_by_label("From")).to_have_value("2020-01-01T10:00")
    await other.get_by_label("Before").fill("2020-01-01T11:00")
    await other.get_by_label("Before").press("Enter")
    await expect(other.get_by_text("No entry matches.")).to_be_visible()
    await other.get_by_role("button", name="Show everything").click()
    await expect(other.locator(".audit li")).to_have_count(4)


@pytest.mark.long
async def test_entries_are_in_words(client, console):
    """Cases have their subjects, people their names, and what was changed has a text, whatever it is."""
    await client.put("/support/agents/linh", json={"displayName": "Linh Trần"})
    first, second = [await open_case(client, subject=subject, customerId="customer-1") for subject in ("One", "Two")]
    path = f"/support/cases/{first['id']}"
    await client.patch(path, json={"assignedAgentId": "linh", "context": [{"type": "order", "orderId": "ORD-1"}]})
    for text in ("Hello", "Split this"):
        message = await add_message(client, first, text, authorType="customer")
    await client.post(f"{path}/split", json={"messageIds": [message["id"]], "subject": "Split off"})
    await client.post(f"{path}/links", json={"kind": "related", "caseId": second["id"]})
    await client.put(f"{path}/followers/linh")
    file = await upload(client, first, filename="tracking.txt")
    await client.delete(f"{path}/attachments/{file['id']}")
    await client.put("/support/customers/customer-1", json={"name": "Anna"})
    await client.post("/support/views", json={"name": "Late", "query": {"assignedAgentId": "linh"}, "team": None})
    await client.put("/support/overrides/payment", json={"reason": "maintenance", "duration": "PT30M"})
    await client.put("/support/agents/linh", json={"away": True})
    page = await console.open(f"{ADDRESS}?from=2020-01-01T00:00:00.000Z")
    entries = page.locator(".audit li")
    changed = entries.filter(has_text="Context")
    await expect(changed.get_by_role("link", name="One", exact=True)).to_be_visible()
    await expect(changed).to_contain_text("Linh Trần")
    await expect(entries.filter(has_text="Follower added")).to_contain_text("Linh Trần")
    await expect(entries.filter(has_text="Person changed").locator("dd")).to_have_text("Away: false → Away: true")
    linked = entries.filter(has_text="Link added")
    await expect(linked.get_by_role("link", name="Two", exact=True).last).to_be_visible()
    await expect(entries.filter(has_text="Messages split off").get_by_role("link", name="Split off")).to_be_visible()
    labels = {*await page.locator(".audit dt").all_inner_texts()}
    assert {label for label in labels if re.search("[a-z][A-Z]|^[a-z]", label)} == {"payment", "linh"}, labels
    await expect_good_looks(page)
