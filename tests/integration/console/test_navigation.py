"""From page to page without loading the document again."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, open_case


async def test_page_is_shown_whose_module_comes_late(console, case):
    """The bar is drawn again meanwhile; the old page stays until the new one can be shown."""
    released = asyncio.Event()

    async def hold(route):
        await released.wait()
        await route.continue_()

    page = await console.open()
    await page.route("**/pages/case*.js", hold)
    async with asyncio.TaskGroup() as tasks:
        await page.get_by_role("link", name="Parcel has not arrived").click()
        await page.get_by_role("button", name="Keys").click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        tasks.create_task(page.keyboard.press("Escape"))
        released.set()
    await expect(page.get_by_role("heading", name="Parcel has not arrived")).to_be_visible()


@pytest.mark.long
async def test_case_is_shown_after_another_with_more_changes(console, client, case):
    """The version of one case says nothing about another case."""
    for text in ("One.", "Two."):
        await add_message(client, case, text)
    other = await open_case(client, subject="Refund is missing", customerId=case["customerId"])
    page = await console.open(f"/console/cases/{case['id']}")
    await page.get_by_role("link", name=other["subject"]).first.click()
    await expect(page.get_by_role("heading", name=other["subject"])).to_be_visible()
