"""A connection that is lost while something is changed: the page says so, shows what is true, and goes on."""

from functools import partial

import pytest
from playwright.async_api import expect

from tests.support.calls import eventually, open_case, read_case, read_detail
from tests.support.console.browser import settled, undo_by_key
from tests.support.console.samples import case_path, open_waiting

NO_ANSWER = "The service did not answer."


@pytest.fixture(autouse=True)
def breaking(console):
    """Pages of these tests lose connections."""
    console.loses_connections = True


async def lose(page, pattern, method, *, arrives):
    """Lose the first answer to requests of a kind; with `arrives`, the service gets the request."""
    lost = []

    async def handle(route):
        if route.request.method != method or route.request.url in lost:
            await route.fallback()
            return
        lost.append(route.request.url)
        if arrives:
            await route.fetch()
        await route.abort()

    await page.route(pattern, handle)
    return lost


@pytest.mark.parametrize(
    "arrives", [pytest.param(False, marks=pytest.mark.long), True], ids=["request lost", "answer lost"]
)
async def test_claim_of_a_case(console, client, case, arrives):
    """The page says that there was no answer, and who has the case."""
    page = await console.open(case_path(case))
    await settled(page)
    await lose(page, f"**/support/cases/{case['id']}", "PATCH", arrives=arrives)
    await page.keyboard.press("c")
    await expect(page.locator(".case-message")).to_contain_text(NO_ANSWER)
    holder = "anyone" if arrives else "unassigned"
    await expect(page.get_by_role("button", name=f"Assignee: {holder}")).to_be_visible()
    await page.keyboard.press("c")
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()
    assert (await read_case(client, case))["assignedAgentId"] == "anyone"


@pytest.mark.long
@pytest.mark.parametrize("arrives", [False, True], ids=["request lost", "answer lost"])
async def test_claim_in_the_queue(console, client, arrives):
    """The row shows who has the case; the next press takes it if nobody has."""
    (case,) = await open_waiting(client, "First")
    page = await console.open("/console/?view=waiting")
    row = page.locator("tbody tr")
    await expect(row).to_have_count(1)
    await lose(page, f"**/support/cases/{case['id']}", "PATCH", arrives=arrives)
    await page.keyboard.press("c")
    await expect(page.locator(".toast")).to_contain_text(NO_ANSWER)
    await expect(row.locator(".assignee")).to_contain_text("anyone" if arrives else "unassigned")
    await page.keyboard.press("c")
    await expect(row.locator(".assignee")).to_contain_text("anyone")


@pytest.mark.long
@pytest.mark.parametrize("key", ["c", "h"], ids=["claim", "snooze"])
async def test_first_change_of_a_browser_that_is_offline(console, client, case, key):
    """What changes a case is loaded with the first change. Once the network is back, changes work."""
    page = await console.open(case_path(case))
    await settled(page)
    await page.context.set_offline(True)
    await page.keyboard.press(key)
    await expect(page.locator(".case-message")).to_contain_text(NO_ANSWER)
    await page.context.set_offline(False)
    await page.keyboard.press("h")
    await expect(page.get_by_role("dialog", name="Snooze until")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.keyboard.press("c")
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()
    await expect(page.locator(".case-message")).to_have_text("")


async def test_page_that_can_not_be_loaded_is_loaded_again(console, client, case):
    """A link to a page of another kind: it says that there is no network, and is there once there is one."""
    page = await console.open(case_path(case))
    await settled(page)
    await page.context.set_offline(True)
    await page.get_by_role("link", name="customer-17").first.click()
    await expect(page.get_by_role("main")).to_contain_text(NO_ANSWER)
    await page.context.set_offline(False)
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_role("heading", name="customer-17", level=1)).to_be_visible()


@pytest.mark.long
@pytest.mark.parametrize("arrives", [False, True], ids=["requests lost", "answers lost"])
async def test_merge_in_the_queue(console, client, arrives):
    """Each request is sent again with its key: the cases are merged once, and the undo opens them."""
    cases = await open_waiting(client, "First", "Second", "Third")
    page = await console.open("/console/?view=waiting")
    await expect(page.locator("tbody tr")).to_have_count(3)
    lost = await lose(page, "**/merge", "POST", arrives=arrives)
    await page.keyboard.press("x")
    await page.keyboard.press("J")
    await page.keyboard.press("J")
    await page.keyboard.press("m")
    await page.locator(".choices [role=option]").filter(has_text="First").click()
    await expect(page.get_by_text("2 merged")).to_be_visible()
    assert len(lost) == 2
    details = [await read_detail(client, case) for case in cases]
    assert [(each["status"], len(each["links"])) for each in details] == [("open", 2), ("closed", 1), ("closed", 1)]
    await undo_by_key(page)

    async def are_apart():
        details = [await read_detail(client, case) for case in cases]
        return [(each["status"], each["links"]) for each in details] == [("open", [])] * 3

    await eventually(are_apart)


@pytest.mark.long
async def test_merge_of_a_case(console, client, case):
    """Its answer is lost: the page shows the case as it is, closed."""
    await open_case(client, subject="The original", customerId="customer-17")
    page = await console.open(case_path(case))
    await settled(page)
    await lose(page, "**/merge", "POST", arrives=True)
    await page.get_by_role("button", name="More actions").click()
    await page.get_by_role("option", name="Merge into another case").click()
    await page.get_by_role("dialog").get_by_role("button", name="The original").click()
    await expect(page.locator(".case-message")).to_contain_text(NO_ANSWER)
    await expect(page.get_by_role("button", name="Status: Closed")).to_be_visible()


@pytest.mark.long
async def test_bulk_change_that_can_not_be_sent(console, client):
    """The rows stay selected, and the same change is made once when the network is back."""
    cases = await open_waiting(client, "First", "Second")
    page = await console.open("/console/?view=waiting")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.keyboard.press("x")
    await page.keyboard.press("J")
    await expect(page.get_by_text("2 selected")).to_be_visible()
    change = partial(page.get_by_role("group", name="Selected cases").get_by_role("button", name="Priority").click)
    await page.context.set_offline(True)
    await change()
    await page.get_by_role("option", name="Urgent").click()
    await expect(page.locator(".toast")).to_contain_text(NO_ANSWER)
    await expect(page.get_by_text("2 selected")).to_be_visible()
    await page.context.set_offline(False)
    await change()
    await page.get_by_role("option", name="Urgent").click()
    await expect(page.locator(".toast")).to_contain_text("2 changed")
    assert [(await read_case(client, case))["priority"] for case in cases] == ["urgent"] * 2
