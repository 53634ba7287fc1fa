"""The page of a customer."""

import asyncio
from urllib.parse import quote

import pytest
from playwright.async_api import expect

from tests.support.calls import eventually, open_case, upload
from tests.support.console.browser import expect_good_looks
from tests.support.console.samples import case_path


async def test_customer_page_shows_cases_files_and_what_an_erasure_removes(console, client, case):
    """The command that erases is named; the console itself erases nothing."""
    await upload(client, case, filename="tracking.txt")
    page = await console.open(case_path(case))
    await page.get_by_role("link", name="customer-17").first.click()
    await expect(page.get_by_role("heading", name="Customer customer-17")).to_be_visible()
    await expect(page.get_by_role("link", name="tracking.txt")).to_be_visible()
    await expect(page.get_by_text("support-service erase customer customer-17")).to_be_visible()
    await expect_good_looks(page)
    await eventually(lambda: page.url.endswith("/console/customers/customer-17"))


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
