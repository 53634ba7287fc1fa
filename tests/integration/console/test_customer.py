"""The page of a customer."""

import asyncio
from urllib.parse import quote

import pytest
from playwright.async_api import expect

from tests.support.calls import open_case, upload
from tests.support.console.browser import expect_good_looks, follow, undo_by_key


async def test_customer_page_shows_cases_files_and_what_an_erasure_removes(console, client, case):
    """The command that erases is named; the console itself erases nothing."""
    await upload(client, case, filename="tracking.txt")
    page = await console.open(case)
    await follow(page, "customer-17")
    await expect(page).to_have_url(f"{console.address}/console/customers/customer-17")
    await expect(page.get_by_role("link", name="tracking.txt")).to_be_visible()
    await expect(page.get_by_text("support-service erase customer customer-17")).to_be_visible()
    await expect_good_looks(page)


async def test_record_is_edited_and_the_change_undone(console, client, case):
    """Name, contacts and notes; contacts are links; `z` brings back what was there."""
    page = await console.open("/console/customers/customer-17")
    await page.get_by_role("button", name="Edit").press("Enter")
    await expect(page.get_by_label("Name", exact=True)).to_be_focused()
    await page.keyboard.type("Anna Berger")
    await page.get_by_role("button", name="Add a contact").click()
    await page.keyboard.type("anna@example.org")
    await page.get_by_role("button", name="Add a contact").click()
    await page.get_by_label("Kind of contact").last.select_option("phone")
    await page.get_by_label("Address or number").last.fill("+49 30 1234567")
    await page.get_by_label("Notes").fill("Call in the morning.")
    await expect_good_looks(page)
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("heading", name="Anna Berger")).to_be_visible()
    await expect(page.get_by_role("button", name="Edit")).to_be_focused()
    mail, phone = (page.get_by_role("link", name=name) for name in ("anna@example.org", "+49 30 1234567"))
    await expect(mail).to_have_attribute("href", "mailto:anna@example.org")
    await expect(phone).to_have_attribute("href", "tel:+49301234567")
    await expect(page.get_by_text("Call in the morning.")).to_be_visible()
    await page.locator(".toast button").focus()  # so that it stays
    await expect_good_looks(page)
    await undo_by_key(page)
    await expect(page.get_by_role("heading", name="customer-17", level=1)).to_be_visible()
    await expect(mail).to_have_count(0)


@pytest.mark.long
@pytest.mark.parametrize("before", [{"name": "Anna"}, None], ids=["changed", "first"])
async def test_record_that_another_agent_changed_is_not_replaced(console, client, case, before):
    """Also if both note down the same new customer. The second one is told, and keeps the form."""
    console.refused = {412}
    if before:
        await client.put("/support/customers/customer-17", json=before)
    page = await console.open("/console/customers/customer-17")
    await page.get_by_role("button", name="Edit").click()
    await client.put("/support/customers/customer-17", json={"name": "Anna Berger"})
    await page.get_by_label("Name", exact=True).fill("Ann")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Someone changed the customer meanwhile.")).to_be_visible()
    await expect(page.get_by_label("Name", exact=True)).to_have_value("Ann")
    assert (await (await client.get("/support/customers/customer-17")).json())["name"] == "Anna Berger"


@pytest.mark.long
async def test_ids_of_one_person_are_merged_and_separated(console, client, case):
    """Found by name or given; the cases of both are shown; each change can be undone."""
    await client.put("/support/customers/customer-17", json={"name": "Anna Berger"})
    await client.put("/support/customers/shop-1042", json={"name": "A. Berger-Lee"})
    await open_case(client, subject="Invoice is wrong", customerId="shop-1042")
    page = await console.open("/console/customers/customer-17")
    other = page.get_by_role("link", name="Invoice is wrong")
    await page.get_by_label("Name or id of the same person").press_sequentially("lee")
    await page.get_by_role("button", name="A. Berger-Lee").click()
    await expect(other).to_be_visible()
    await page.get_by_role("button", name="Not this person").click()
    await expect(other).to_have_count(0)
    await page.get_by_role("button", name="Undo").click()
    await expect(other).to_be_visible()
    await page.get_by_role("button", name="Not this person").click()
    await expect(other).to_have_count(0)
    await page.get_by_label("Name or id of the same person").fill("shop-1042")
    await page.keyboard.press("Enter")
    await expect(other).to_be_visible()
    await expect_good_looks(page)


@pytest.mark.long
@pytest.mark.parametrize(
    "customer", ["khách-7", "Ann Li", "'; echo 'a\\", "$(id)`id`;id #", "~", "x\x1b[201~;id\n'\\#", "\u202e7\u2066 $x"]
)
async def test_erasure_command_has_the_customer_as_one_word(console, client, customer):
    """Clients choose the ids of customers: a shell must not run what is in one."""
    await open_case(client, customerId=customer)
    page = await console.open(f"/console/customers/{quote(customer, safe='')}")
    command = page.get_by_text("support-service erase customer")
    await expect(command).to_be_visible()
    shown = await command.text_content()
    assert shown.isprintable()
    script = f"support-service() {{ printf '<%s>' \"$@\"; }}; {shown}"
    shell = await asyncio.create_subprocess_exec("bash", "-c", script, stdout=asyncio.subprocess.PIPE)
    out, _ = await shell.communicate()
    assert out.decode() == f"<erase><customer><{customer}><--dry-run>"
