"""The main state of each page: `test_controls.py` has the others."""

from tests.support.console.browser import expect_accessible, expect_named_and_reached, settled
from tests.support.console.samples import case_path


async def test_each_page_is_accessible(console, case, subtests):
    """Each control has a name, and is reached by keyboard."""
    page = await console.open()
    pages = ["/console/", case_path(case), "/console/customers/customer-17"]
    pages += [f"/console/{name}" for name in ("team", "oncall", "audit")]
    for address in pages:
        with subtests.test(address):
            await page.goto(address)
            await page.locator("main h1").first.wait_for()
            await settled(page)
            await expect_accessible(page)
            await expect_named_and_reached(page)
