"""The page of a customer."""

from playwright.async_api import expect

from tests.integration.console.test_case import path
from tests.support.calls import eventually, upload
from tests.support.console.browser import expect_good_looks


async def test_customer_page_shows_cases_files_and_what_an_erasure_removes(console, client, case):
    """The command that erases is named; the console itself erases nothing."""
    await upload(client, case, filename="tracking.txt")
    page = await console.open(path(case))
    await page.get_by_role("link", name="customer-17").first.click()
    await expect(page.get_by_role("heading", name="Customer customer-17")).to_be_visible()
    await expect(page.get_by_role("link", name="tracking.txt")).to_be_visible()
    await expect(page.get_by_text("support-service erase customer customer-17")).to_be_visible()
    await expect_good_looks(page)
    await eventually(lambda: page.url.endswith("/console/customers/customer-17"))
