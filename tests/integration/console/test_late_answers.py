"""Answers and timers that come when their user has gone on: they change nothing that is shown by then."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.support.calls import eventually, open_case, read_case
from tests.support.console.browser import held, undo_by_key
from tests.support.console.samples import case_path, open_waiting

SEARCH_PAUSE = 250  # ms without a key after which the queue searches


@pytest.mark.long
async def test_bulk_change_whose_row_has_left_the_list_is_reported_with_its_undo(console, client):
    """Another view is chosen while the change runs."""
    (case,) = await open_waiting(client, "First")
    page = await console.open("/console/?view=unassigned")
    await expect(page.locator("tbody tr")).to_have_count(1)
    released = await held(page, "**/support/cases/bulk")
    await page.keyboard.press("p")
    async with page.expect_request("**/support/cases/bulk"):
        await page.get_by_role("option", name="High").click()
    await page.locator(".views a", has_text="Mine").click()
    await expect(page.locator("tbody tr")).to_have_count(0)
    released.set()
    await expect(page.get_by_text("1 changed")).to_be_visible()
    assert (await read_case(client, case))["priority"] == "high"
    async with page.expect_response("**/undo"):
        await undo_by_key(page)
    assert (await read_case(client, case))["priority"] == "normal"


async def test_failed_bulk_change_leaves_its_cases_selected(console, client):
    """It can be tried again without selecting them again."""
    console.refused = {403}
    await open_waiting(client, "First", "Second")
    page = await console.open("/console/?view=waiting")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.route("**/support/cases/bulk", lambda route: asyncio.ensure_future(route.fulfill(status=403)))
    await page.get_by_label("Select all").click()
    await page.keyboard.press("p")
    await page.get_by_role("option", name="High").click()
    await expect(page.locator(".toast.bad")).to_be_visible()
    await expect(page.locator(".bulk")).to_contain_text("2 selected")


@pytest.mark.long
async def test_failed_merge_leaves_its_cases_selected(console, client):
    """None was merged."""
    console.refused = {403}
    await open_waiting(client, "First", "Second")
    page = await console.open("/console/?view=waiting")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.route("**/merge", lambda route: asyncio.ensure_future(route.fulfill(status=403)))
    await page.get_by_label("Select all").click()
    await page.keyboard.press("m")
    await page.get_by_role("option", name="First").click()
    await expect(page.locator(".toast.bad")).to_be_visible()
    await expect(page.locator(".bulk")).to_contain_text("2 selected")


@pytest.mark.long
async def test_views_are_those_of_the_name_that_the_user_works_as(console, client):
    """Claims go to the new name at once, and so does the list of own cases."""
    await open_waiting(client, "Ann's", assignedAgentId="ann")
    await open_waiting(client, "Anyone's", assignedAgentId="anyone")
    page = await console.open("/console/?view=mine")
    await expect(page.locator(".subject a bdi")).to_have_text(["Anyone's"])
    await page.locator(".account summary").click()
    await page.get_by_label("Work as").fill("ann")
    await page.get_by_label("Work as").press("Enter")
    await expect(page.locator(".subject a bdi")).to_have_text(["Ann's"])


@pytest.mark.long
async def test_search_does_not_lead_away_from_the_case_that_was_opened_meanwhile(console, client):
    """A row is opened before the pause after the last key is over."""
    (case,) = await open_waiting(client, "First")
    profile = await console.profile()
    await profile.clock.install()
    page = await console.open("/console/?view=waiting", profile=profile)
    await page.clock.run_for(1_000)
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.clock.pause_at(await page.evaluate("Date.now() + 60_000"))
    await page.locator("#search").fill("fir")
    await page.evaluate("document.querySelector('tbody .subject a').click()")
    await expect(page).to_have_url(console.address + case_path(case))
    await expect(page.locator("queue-page")).to_have_count(0)
    await page.clock.run_for(2 * SEARCH_PAUSE)
    await expect(page).to_have_url(console.address + case_path(case))


@pytest.mark.long
async def test_customer_is_not_shown_under_the_address_of_another(console, client):
    """Two steps back and forth: the first answer comes last."""
    for name in ("ann", "bob"):
        await open_case(client, customerId=name)
        await client.put(f"/support/customers/{name}", json={"name": name.title()})
    page = await console.open("/console/customers/ann")
    await expect(page.get_by_role("heading", name="Ann", level=1)).to_be_visible()
    released = await held(page, "**/support/customers/bob?*")
    async with page.expect_request("**/support/customers/bob?*"):
        await page.evaluate("history.pushState(null, '', 'bob'); dispatchEvent(new Event('popstate'))")
    await page.go_back()
    await expect(page.get_by_role("heading", name="Ann", level=1)).to_be_visible()
    async with page.expect_response("**/support/customers/bob?*"):
        released.set()
    await expect(page.get_by_text("support-service erase customer ann")).to_be_visible()
    await page.evaluate("new Promise(requestAnimationFrame)")
    await expect(page.get_by_role("heading", level=1)).to_have_text(["A Ann"])


@pytest.mark.long
async def test_message_that_follows_before_the_one_before_it_is_done_is_sent(console, client):
    """It waits for the case to be assigned to its writer, and asks nothing: all changes are the writer's own."""
    (case,) = await open_waiting(client, "First")
    page = await console.open(case_path(case))
    box = page.get_by_label("Reply", exact=True)
    released = await held(page, "**/support/cases/*?messagesLimit=1")
    await box.fill("One")
    async with page.expect_request("**/support/cases/*?messagesLimit=1"):
        await box.press("Control+Enter")
    await box.fill("Two")
    for _ in range(2):
        await box.press("Control+Enter")
    released.set()
    await expect(box).to_have_value("")
    await expect(page.locator(".send")).to_have_attribute("aria-disabled", "false")
    stored = await read_case(client, case)
    assert [message["message"] for message in stored["messages"]][-2:] == ["One", "Two"]
    assert stored["assignedAgentId"] == "anyone"
    await expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.long
async def test_enter_in_the_search_opens_no_case_of_the_list_before(console, client):
    """The search has begun, and its answer is not there yet."""
    await open_waiting(client, "First", "Second")
    page = await console.open("/console/?view=waiting")
    await expect(page.locator("tbody tr")).to_have_count(2)
    released = await held(page, "**/support/cases?*q=second*")
    async with page.expect_request("**/support/cases?*q=second*"):
        await page.locator("#search").fill("second")
    for _ in range(2):
        await page.keyboard.press("Enter")
    released.set()
    await expect(page.locator(".subject a bdi")).to_have_text(["Second"])
    assert "/cases/" not in page.url
    await expect(page.locator("tbody tr").first.locator("a").first).to_be_focused()


async def test_view_that_was_left_is_not_shown_in_the_one_before_it(console, client):
    """Its answer comes when its reader is back."""
    await open_waiting(client, "First")
    await open_waiting(client, "Mine", assignedAgentId="anyone")
    page = await console.open("/console/?view=unassigned")
    await expect(page.locator(".subject a bdi")).to_have_text(["First"])
    own = "**/support/cases?*assignedAgentId=anyone*"
    released = await held(page, own)
    async with page.expect_request(own):
        await page.locator(".views a", has_text="Mine").click()
    async with page.expect_response("**/support/cases?*assignedAgentId=none*"):
        await page.go_back()
    released.set()
    await page.evaluate("new Promise(requestAnimationFrame)")
    await expect(page.locator(".views [aria-current]")).to_contain_text("Unassigned")
    await expect(page.locator(".subject a bdi")).to_have_text(["First"])


@pytest.mark.long
async def test_next_page_is_shown_once(console, client):
    """Also if its button is pressed twice."""
    for number in range(51):
        await open_case(client, subject=f"Case {number}")
    page = await console.open("/console/?view=all")
    more = page.locator(".more button")
    await expect(more).to_be_visible()
    released = await held(page, "**/support/cases?*cursor=*")
    answers = []
    page.on("response", lambda answer: answers.append(answer.url) if "cursor=" in answer.url else None)
    for _ in range(2):
        async with page.expect_request("**/support/cases?*cursor=*"):
            await more.click()
    released.set()
    await eventually(lambda: len(answers) == 2)
    await page.evaluate("new Promise(requestAnimationFrame)")
    await expect(page.locator("tbody tr")).to_have_count(51)


@pytest.mark.long
async def test_what_is_typed_before_the_case_is_shown_is_in_the_message(console, client, case):
    """None of its keys is a command of the page: `gr` would open a view, and `c` claim the case."""
    page = await console.open()
    released = await held(page, f"**/support/cases/{case['id']}")
    await page.goto(case_path(case))
    await expect(page.get_by_text("Loading")).to_be_visible()
    await page.keyboard.press("n")
    await page.keyboard.type("great: carrier calledd")
    await page.keyboard.press("Backspace")
    released.set()
    await expect(page.get_by_role("textbox", name="Internal note")).to_have_value("great: carrier called")
    await expect(page.locator("#composer")).to_be_focused()
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".message[data-note]")).to_contain_text("carrier called")
    assert (await read_case(client, case))["assignedAgentId"] is None


@pytest.mark.long
async def test_keys_work_when_a_case_that_is_loading_is_left(console, client, case):
    """They are for the page that is shown by then."""
    page = await console.open()
    released = await held(page, f"**/support/cases/{case['id']}")
    await page.locator(".subject a").first.click()
    await expect(page.get_by_text("Loading")).to_be_visible()
    await page.keyboard.press("n")
    await page.go_back()
    await page.locator("#search").press("a")
    await expect(page.locator("#search")).to_have_value("a")
    released.set()
