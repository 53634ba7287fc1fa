"""What a first visit loads, compressed."""

import pytest
from playwright.async_api import expect

from support_service.console.assets import load_assets
from tests.support.console.browser import settled
from tests.support.console.samples import case_path

MAX_SCRIPT_BYTES = 70_000
MAX_STYLE_BYTES = 16_000
MAX_REQUESTS = 40


@pytest.mark.parametrize("address", ["/console/", "case", "/console/oncall", "/console/team"])
async def test_first_load_is_within_the_budget(console, case, address):
    """Each of these pages loads less than the budget: scripts, styles, and the number of requests."""
    page = await (await console.profile()).new_page()
    loaded = []
    page.on("response", lambda response: loaded.append(response.url.removeprefix(console.address)))
    await page.goto(case_path(case) if address == "case" else address)
    await page.locator("main h1").wait_for()
    # The last answers of each page are the counts of the views, and the timeline.
    if address == "case":
        await expect(page.locator(".timeline .run")).to_be_visible()
        await settled(page)
    elif address == "/console/":
        await expect(page.locator(".views .count")).to_contain_text(["0", "0", "0", "0", "1", "1", "", "0"])
    else:
        await settled(page)
        await expect(page.locator(".oncall-row, .people tbody tr").first).to_be_visible()
    found = [each.partition(load_assets().version + "/")[2] for each in loaded if "/console/static/" in each]
    sizes = {name: len(load_assets().by_path[name].compressed) for name in found}
    scripts = sum(size for name, size in sizes.items() if name.endswith(".js"))
    styles = sum(size for name, size in sizes.items() if name.endswith(".css"))
    assert (scripts <= MAX_SCRIPT_BYTES, styles <= MAX_STYLE_BYTES) == (True, True), (scripts, sizes)
    assert len(loaded) <= MAX_REQUESTS, loaded
