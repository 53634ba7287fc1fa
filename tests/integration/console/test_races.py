"""A slow network, and people who go on before an answer is there: what was asked for one case never reaches another."""

import asyncio
import re
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, eventually, open_case, read_case, read_detail
from tests.support.console.browser import settled, undo_by_key
from tests.support.console.samples import case_path, messages, open_waiting


class Held:
    """Requests that wait, in the order in which they were sent."""

    def __init__(self):
        self.urls = []
        self.release = asyncio.Event()

    async def wait_for(self, number=1):
        """Wait until so many requests were sent."""
        await eventually(lambda: len(self.urls) >= number)


@asynccontextmanager
async def holding(page, pattern, method="GET"):
    """Hold the requests of a page to a path until the block ends, or `release` is set."""
    held = Held()

    async def hold(route):
        if route.request.method != method:
            await route.fallback()
            return
        held.urls.append(route.request.url)
        await held.release.wait()
        await route.fallback()

    await page.route(pattern, hold)
    try:
        yield held
    finally:
        held.release.set()
        await page.unroute(pattern, hold)


@pytest.fixture
async def cases(client):
    """Two cases of a list."""
    return await open_waiting(client, "First", "Second", customerId="customer-1")


async def open_from_queue(console, **options):
    """Open the first case of the queue, so that `j` leads to the next one."""
    page = await console.open(**options)
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await settled(page)
    return page


@pytest.mark.long
async def test_answer_for_a_case_that_was_left_changes_nothing(console, cases):
    """It may also be a refusal, or no answer at all."""
    page = await console.open()
    await expect(page.locator("tbody tr")).to_have_count(2)
    async with holding(page, f"**/support/cases/{cases[0]['id']}") as held:
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await held.wait_for()
        await page.keyboard.press("j")
        await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await settled(page)
    await page.keyboard.press("k")
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await page.keyboard.press("j")
    console.loses_connections = True
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await settled(page)

    await page.route(f"**/support/cases/{cases[0]['id']}", lambda route: route.abort())
    async with holding(page, f"**/support/cases/{cases[0]['id']}") as held:
        await page.keyboard.press("k")
        await held.wait_for()
        await page.keyboard.press("j")
        await expect(page.get_by_role("heading", name="Second")).to_be_visible()
        async with page.expect_event("requestfailed"):
            held.release.set()
    await settled(page)
    await expect(page.get_by_role("alert").filter(has_text="answer")).to_have_count(0)
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()


@pytest.mark.long
async def test_question_about_a_case_is_not_answered_for_another(console, client, cases):
    """Going back closes it: neither a draft nor a claim of the other case is sent by its answer."""
    first, second = cases
    for case in cases:
        await client.patch(f"/support/cases/{case['id']}", json={"assignedAgentId": "agent-9"})
    page = await open_from_queue(console)
    await page.keyboard.press("j")
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await page.get_by_role("button", name="Claim").click()
    await expect(page.get_by_role("dialog")).to_contain_text("agent-9")
    await page.go_back()
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("h")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.go_forward()
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("c")
    await page.get_by_role("dialog").get_by_role("button", name="Take over").click()
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()
    assert (await read_case(client, first))["assignedAgentId"] == "agent-9"
    assert (await read_case(client, second))["assignedAgentId"] == "anyone"


@pytest.mark.long
async def test_link_of_a_left_case_hides_no_change_of_the_other(console, client, cases):
    """A change of a colleague is asked about, although a link was added to the case before."""
    console.refused = {412}
    first, second = cases
    page = await open_from_queue(console)
    async with holding(page, f"**/support/cases/{first['id']}/links", "POST") as held:
        form = page.locator(".link-form")
        await form.get_by_label("Kind of link").select_option("duplicate-of")
        await form.get_by_label("Case id or address").fill(second["id"])
        await form.get_by_role("button", name="Add").click()
        await held.wait_for()
        await page.locator("h1").click()
        await page.keyboard.press("j")
        await expect(page.get_by_role("heading", name="Second")).to_be_visible()
        await settled(page)
        await page.locator("#composer").fill("On its way")
        async with holding(page, f"**/support/cases/{second['id']}") as reads:
            held.release.set()
            await expect(page.get_by_role("status").filter(has_text="Link added")).to_be_visible()
            await reads.wait_for()
    await settled(page)
    await expect(page.get_by_role("link", name="First").last).to_be_visible()
    await add_message(client, second, "Solved by another")
    await expect(page.get_by_role("log").get_by_text("Solved by another")).to_be_visible()
    await page.locator("#composer").press("Control+Enter")
    await expect(page.get_by_role("dialog")).to_contain_text("Solved by another")
    assert "On its way" not in [text for text, _ in await messages(client, second)]


@pytest.mark.long
async def test_link_that_was_taken_back_hides_no_change(console, client, cases):
    """A colleague's answer after it is asked about."""
    console.refused = {412}
    first, second = cases
    await client.post(f"/support/cases/{first['id']}/links", json={"kind": "related", "caseId": second["id"]})
    page = await open_from_queue(console)
    await page.locator("#composer").fill("On its way")
    await page.locator("#composer").blur()
    await page.get_by_role("button", name="Remove the link").click()
    await expect(page.get_by_role("button", name="Remove the link")).to_have_count(0)
    await undo_by_key(page)
    await expect(page.get_by_role("button", name="Remove the link")).to_be_visible()
    await settled(page)
    await add_message(client, first, "Solved by another")
    await expect(page.get_by_role("log").get_by_text("Solved by another")).to_be_visible()
    await page.locator("#composer").press("Control+Enter")
    await expect(page.get_by_role("dialog")).to_contain_text("Solved by another")
    assert [text for text, _ in await messages(client, first)] == ["Hello", "Solved by another"]


async def test_tags_that_are_removed_one_after_the_other_stay_removed(console, client):
    """The second click comes before the answer to the first one."""
    case = await open_case(client, subject="Tagged", tags=["a", "b", "c"])
    page = await console.open(case_path(case))
    async with holding(page, f"**/support/cases/{case['id']}", "PATCH") as held:
        await page.get_by_role("button", name="Remove the tag a").click()
        await held.wait_for()
        await page.get_by_role("button", name="Remove the tag b").click()
    await expect(page.locator(".case-aside .tags .tag bdi")).to_have_text(["c"])
    assert (await read_case(client, case))["tags"] == ["c"]


@pytest.mark.long
async def test_send_and_next_outside_of_the_list_leads_to_the_list(console, client, cases):
    """A case that was opened from another one is not in it."""
    other = await open_case(client, subject="Resolved one", customerId="customer-1")
    await client.patch(f"/support/cases/{other['id']}", json={"status": "resolved"})
    page = await open_from_queue(console)
    await page.locator(".case-aside").get_by_role("link", name="Resolved one").click()
    await expect(page.get_by_role("heading", name="Resolved one")).to_be_visible()
    await page.locator("#composer").fill("Thank you")
    await page.locator("#composer").press("Control+Shift+Enter")
    await expect(page.get_by_role("navigation", name="Views")).to_be_visible()
    assert [text for text, _ in await messages(client, other)] == ["Thank you"]


@pytest.mark.long
async def test_search_that_was_typed_last_leads_nobody_back(console, client, cases):
    """Its pause ends after a case was opened."""
    page = await console.open()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.clock.install()
    await page.clock.pause_at(await page.evaluate("Date.now() + 30_000"))
    await page.locator("#search").press("S")
    await page.locator("tbody a", has_text="First").click()
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await page.clock.run_for(1_000)
    await expect(page).to_have_url(f"{console.address}{case_path(cases[0])}")


@pytest.mark.long
async def test_case_that_keeps_changing_is_not_read_for_each_change(console, client, case):
    """A hundred messages in a row need a few requests, and all are shown."""
    page = await console.open(case_path(case))
    await settled(page)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if case["id"] in request.url else None)
    for number in range(100):
        await add_message(client, case, f"message {number}")
    await expect(page.get_by_text("message 99")).to_be_visible()
    assert len([each for each in asked if "presence" not in each]) < 50
    assert len((await read_detail(client, case))["messages"]) == 101


@pytest.mark.long
async def test_case_that_changes_again_and_again_is_read_every_two_seconds(console, client, case):
    """Also if each change comes when the one before it is shown."""
    page = await console.open(case_path(case))
    await settled(page)
    await page.evaluate("performance.clearResourceTimings()")
    for priority in ("urgent", "low", "high", "normal"):
        await client.patch(f"/support/cases/{case['id']}", json={"priority": priority})
        await expect(page.get_by_role("button", name=f"Priority: {priority.title()}")).to_be_visible()
    reads = (
        "performance.getEntriesByType('resource').filter(({name}) => name.endsWith(path)).map((each) => each.startTime)"
    )
    starts = await page.evaluate(f"(path) => {reads}", f"/support/cases/{case['id']}")
    assert len(starts) == 4
    assert (
        min(later - earlier for earlier, later in pairwise(starts)) >= 1_500
    )  # ms; the pause begins a little before the request


@pytest.mark.long
async def test_search_for_an_original_shows_what_was_typed_last(console, client, cases):
    """The answer to what was typed before comes later."""
    await open_waiting(client, "Parcel lost", "Charged twice")
    page = await console.open(case_path(cases[0]))
    await page.get_by_role("button", name="Actions").click()
    await page.get_by_role("option", name="Merge").click()
    dialog = page.get_by_role("dialog")
    async with (
        page.expect_response("**/support/cases?q=parcel*") as late,
        holding(page, "**/support/cases?q=parcel*") as held,
    ):
        await dialog.get_by_role("searchbox").fill("parcel")
        await held.wait_for()
        await dialog.get_by_role("searchbox").fill("charged")
        await expect(dialog.get_by_role("button", name="Charged twice")).to_be_visible()
    await (await late.value).finished()
    await expect(dialog.get_by_role("button", name="Charged twice")).to_be_visible()
    await expect(dialog.get_by_role("button", name="Parcel lost")).to_have_count(0)


async def test_answer_of_another_program_is_no_answer(console, client, case):
    """A proxy that asks for a sign-in answers 200: the draft stays, and is sent once."""
    page = await console.open(case_path(case))
    await settled(page)

    async def answer(route):
        await route.fulfill(content_type="text/html", body="<h1>Sign in</h1>")

    await page.route("**/messages", answer)
    await page.locator("#composer").fill("On its way")
    await page.locator("#composer").press("Control+Enter")
    await expect(page.locator(".composer [role=alert]")).to_have_text(re.compile("did not answer"))
    await expect(page.locator("#composer")).to_have_value("On its way")
    await page.unroute("**/messages", answer)
    await page.locator("#composer").press("Control+Enter")
    await expect(page.locator("#composer")).to_have_value("")
    assert [text for text, _ in await messages(client, case)] == ["Where is my parcel?", "On its way"]


@pytest.mark.long
async def test_service_that_answers_nothing_is_given_up(console, client, case):
    """After a minute the writer may try again, and the message is there once."""
    page = await console.open(case_path(case))
    await settled(page)
    lost = []

    async def carry_out(route):
        lost.append(await route.fetch())  # the service has it; its answer gets lost

    await page.route("**/messages", carry_out)
    await page.clock.install()
    await page.locator("#composer").fill("On its way")
    await page.locator("#composer").press("Control+Enter")
    await eventually(lambda: lost)
    await page.clock.run_for(61_000)
    await expect(page.locator(".composer [role=alert]")).to_have_text(re.compile("did not answer"))
    await page.unroute("**/messages", carry_out)
    await page.locator("#composer").press("Control+Enter")
    await expect(page.locator("#composer")).to_have_value("")
    assert [text for text, _ in await messages(client, case)] == ["Where is my parcel?", "On its way"]


@pytest.mark.long
async def test_undo_without_an_answer_can_be_tried_again(console, client, case):
    """The line that says so keeps its button."""
    console.loses_connections = True
    page = await console.open(case_path(case))
    await page.keyboard.press("c")
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()
    await settled(page)
    await expect(page.locator(".toast button")).to_be_visible()
    await page.context.set_offline(True)
    await undo_by_key(page)
    await expect(page.locator(".toast")).to_contain_text("did not answer")
    assert (await read_case(client, case))["assignedAgentId"] == "anyone"
    await page.context.set_offline(False)
    await undo_by_key(page)
    await expect(page.get_by_role("button", name="Assignee: unassigned")).to_be_visible()
    assert (await read_case(client, case))["assignedAgentId"] is None


@pytest.mark.long
async def test_tabs_of_a_user_share_a_draft(console, client, case):
    """A change of the case that another tab sees removes no draft, and what one tab has sent no other one sends."""
    first = await console.open(case_path(case))
    second = await console.open(case_path(case), profile=first.context)
    await first.locator("#composer").fill("On its way")
    await expect(second.locator("#composer")).to_have_value("On its way")
    await add_message(client, case, "Are you there?")
    for page in (first, second):
        await expect(page.get_by_role("log").get_by_text("Are you there?")).to_be_visible()
        await settled(page)
    third = await console.open(case_path(case), profile=first.context)
    await expect(third.locator("#composer")).to_have_value("On its way")
    console.refused = {412}
    await second.locator("#composer").press("Control+Enter")
    await second.get_by_role("dialog").get_by_role("button", name="Send").click()
    await expect(second.locator("#composer")).to_have_value("")
    for page in (first, third):
        await expect(page.locator("#composer")).to_have_value("")
    sent = [text for text, _ in await messages(client, case)]
    assert sent == ["Where is my parcel?", "Are you there?", "On its way"]


@pytest.mark.long
async def test_page_of_a_customer_shows_no_other_customer(console, client):
    """The answer for the customer whose page was left comes later."""
    await open_waiting(client, "First", customerId="customer-1")
    await open_waiting(client, "Second", customerId="customer-2")
    page = await console.open("/console/customers/customer-2")
    async with holding(page, "**/support/customers/customer-1?*") as held:
        module = await page.locator("link[href$='/page.js']").get_attribute("href")
        await page.evaluate("async (path) => (await import(path)).go('/console/customers/customer-1')", module)
        await held.wait_for()
        async with page.expect_response("**/support/customers/customer-1?*") as late:
            await page.go_back()
            await expect(page.get_by_role("link", name="Second")).to_be_visible()
            held.release.set()
        await (await late.value).finished()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("customer-2")
    await expect(page).to_have_title(re.compile("customer-2"))
    await expect(page.get_by_role("link", name="First")).to_have_count(0)


@pytest.mark.long
async def test_view_whose_answer_was_lost_is_saved_once(console, client):
    """The second press repeats the first."""
    await open_waiting(client, "First")
    page = await console.open()
    lost = []

    async def carry_out(route):
        if route.request.method != "POST":
            await route.fallback()
            return
        lost.append(await route.fetch())
        await route.abort()

    console.loses_connections = True
    await page.route("**/support/views", carry_out)
    await page.get_by_role("button", name="Save view").first.click()
    await page.get_by_label("Name").fill("Deliveries")
    await page.get_by_label("Name").press("Enter")
    await expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("did not answer")
    await page.unroute("**/support/views", carry_out)
    await page.get_by_label("Name").press("Enter")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    views = (await (await client.get("/support/views")).json())["items"]
    assert [each["name"] for each in views] == ["Deliveries"]
