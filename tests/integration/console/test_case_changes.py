"""The page of a case while cases change: late answers, dialogs, other tabs, and what undoing is refused for."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, eventually, open_case, read_detail
from tests.support.console.browser import settled
from tests.support.console.samples import case_path, messages, open_waiting

REFUSED = "Someone changed the case meanwhile."
ROOMY = {"width": 1700, "height": 900}


def api_path(case):
    """Return the path of a case at the API."""
    return f"/support/cases/{case['id']}"


async def go(page, path):
    """Show another address, as a link of the page does."""
    await page.evaluate(
        "path => { history.pushState(null, '', path); dispatchEvent(new Event('console:moved')) }", path
    )


@pytest.fixture
async def two_cases(client):
    """Two cases of one customer."""
    return await open_waiting(client, "First", "Second", customerId="customer-17")


@pytest.mark.parametrize(
    ("outcome", "event"),
    [("continue_", "requestfinished"), pytest.param("abort", "requestfailed", marks=pytest.mark.long)],
)
async def test_late_answer_is_not_shown_in_the_next_case(console, two_cases, outcome, event):
    """Neither its conversation nor its failure."""
    console.loses_connections = True
    first, _ = two_cases
    page = await console.open("/console/?view=waiting")
    is_let_through = asyncio.Event()

    async def hold(route):
        await is_let_through.wait()
        await getattr(route, outcome)()

    path = re.compile(re.escape(api_path(first)) + "$")
    await page.route(path, hold)
    await page.get_by_role("link", name="First", exact=True).click()
    await expect(page.get_by_text("Loading")).to_be_visible()
    await page.keyboard.press("j")
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await settled(page)
    async with page.expect_event(event, lambda request: path.search(request.url)):
        is_let_through.set()
    await page.evaluate("new Promise((resume) => setTimeout(resume))")
    await settled(page)
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await expect(page.locator(".case-message")).to_have_text("")
    assert (await page.title()).startswith("Second ")


@pytest.mark.long
async def test_question_about_a_draft_does_not_outlive_its_case(console, client, two_cases):
    """Going back closes it, and the draft of the other case is not sent."""
    console.refused = {412}
    first, second = two_cases
    page = await console.open(case_path(second))
    await page.locator("#composer").fill("Draft of the second")
    await go(page, case_path(first))
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await page.locator("#composer").fill("Answer to the first")
    await add_message(client, first, "One more thing", authorType="customer")
    await page.locator("#composer").press("Control+Enter")
    await expect(page.get_by_role("dialog").get_by_text("One more thing")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(page.locator("#composer")).to_have_value("Draft of the second")
    assert await messages(client, second) == [("Hello", "public")]


@pytest.mark.long
@pytest.mark.parametrize("action", ["Split off messages", "Merge into another case", "Snooze"])
async def test_dialog_does_not_outlive_its_case(console, two_cases, action):
    """What is typed for one case is not done to another one."""
    first, second = two_cases
    page = await console.open(case_path(second))
    await go(page, case_path(first))
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await page.get_by_role("button", name="More actions").click()
    await page.get_by_role("option", name=action).click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await expect(page.get_by_role("dialog")).to_have_count(0)


@pytest.mark.long
async def test_unanswered_question_takes_no_case(console, client, two_cases):
    """Going back from "Take over the case?" means no, for both cases; the next question is asked as usual."""
    first, second = two_cases
    for each in two_cases:
        await client.patch(api_path(each), json={"assignedAgentId": "agent-9"})
    page = await console.open(case_path(second))
    await go(page, case_path(first))
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    dialog = page.get_by_role("dialog", name="Take over the case?")
    await page.keyboard.press("c")
    await expect(dialog).to_be_visible()
    await page.go_back()
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await expect(dialog).to_have_count(0)
    await page.keyboard.press("c")
    await dialog.get_by_role("button", name="Take over").click()
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()
    assert [(await read_detail(client, each))["assignedAgentId"] for each in two_cases] == ["agent-9", "anyone"]


@pytest.mark.long
async def test_case_outside_of_the_list_leads_back_to_the_list(console, client, two_cases):
    """After "send and open the next" of a case that was opened by its address."""
    other = await open_case(client, subject="Resolved before")
    await client.patch(api_path(other), json={"status": "resolved"})
    page = await console.open("/console/?view=waiting")
    await expect(page.get_by_role("link", name="Second", exact=True)).to_be_visible()
    await go(page, case_path(other))
    await expect(page.get_by_role("heading", name="Resolved before")).to_be_visible()
    await page.locator("#composer").fill("Anything else?")
    await page.keyboard.press("Control+Shift+Enter")
    await expect(page.get_by_role("navigation", name="Views")).to_be_visible()
    assert await messages(client, other) == [("Anything else?", "public")]


@pytest.mark.long
async def test_case_of_a_background_tab_is_seen_once_the_tab_is(console, client):
    """The row is unread until then."""
    await open_waiting(client, "First")
    profile = await console.profile()
    await profile.add_init_script("Object.defineProperty(document, 'hidden', {get: () => window.isHidden ?? false})")
    page = await console.open("/console/?view=waiting", profile=profile)
    await expect(page.locator(".unread-dot")).to_have_count(1)
    await page.evaluate("window.isHidden = true")
    await page.get_by_role("link", name="First", exact=True).click()
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await settled(page)
    for is_hidden, dots in ((True, 1), (False, 0)):
        await page.evaluate(
            "hidden => { isHidden = hidden; document.dispatchEvent(new Event('visibilitychange')) }", is_hidden
        )
        await page.keyboard.press("u")
        await expect(page.get_by_role("link", name="First", exact=True)).to_be_visible()
        await expect(page.locator(".unread-dot")).to_have_count(dots)
        if dots:
            await page.get_by_role("link", name="First", exact=True).click()
            await expect(page.get_by_role("heading", name="First")).to_be_visible()


@pytest.mark.long
async def test_list_beside_a_case_is_the_one_that_was_left(console, client):
    """All its rows, also beyond the first page, in their order, also after an answer."""
    cases = await open_waiting(client, *(f"Case {number}" for number in range(55)))
    page = await console.open("/console/?view=waiting", viewport=ROOMY)
    await page.get_by_role("button", name="Show more").click()
    await page.get_by_role("link", name="Case 52", exact=True).click()
    await expect(page.get_by_text("53 of 55")).to_be_visible()
    links = page.get_by_role("navigation", name="Cases of this view").get_by_role("link")
    await expect(links).to_have_count(55)
    await expect(page.locator(".neighbours [aria-current=true]")).to_contain_text("Case 52")
    await add_message(client, cases[0], "An answer")
    await page.keyboard.press("k")
    await expect(page.locator(".neighbours [aria-current=true]")).to_contain_text("Case 51")
    assert await page.locator(".neighbours .subject").all_inner_texts() == [f"Case {number}" for number in range(55)]


@pytest.mark.long
async def test_draft_is_not_lost_to_another_tab(console, client, case):
    """The other tab, which has the case open without a text, follows a change and writes nothing over the draft."""
    profile = await console.profile()
    writer, other = [await console.open(case_path(case), profile=profile) for _ in range(2)]
    await settled(other)
    await writer.locator("#composer").fill("A long answer")
    await client.patch(api_path(case), json={"priority": "urgent"})
    for page in (writer, other):
        await expect(page.get_by_role("button", name="Priority: Urgent")).to_be_visible()
    await writer.reload()
    await expect(writer.locator("#composer")).to_have_value("A long answer")


@pytest.mark.long
async def test_own_changes_and_their_undo_ask_no_question(console, client, case):
    """Also before a reload, and if an undo takes two changes; a colleague's change after a link that was there asks."""
    console.refused = {412}
    await client.patch(api_path(case), json={"status": "pending"})
    page = await console.open(case_path(case))
    await page.locator("#composer").fill("An answer")
    await page.get_by_role("button", name="Status: Pending").click()
    await page.get_by_role("option", name="Closed").click()
    await expect(page.get_by_role("button", name="Status: Closed")).to_be_visible()
    await page.locator(".toast").get_by_role("button").click()
    await expect(page.get_by_role("button", name="Status: Pending")).to_be_visible()
    await page.get_by_label("Remove the tag delivery").click()
    await expect(page.get_by_label("Remove the tag delivery")).to_have_count(0)
    await settled(page)
    await page.reload()
    await page.locator("#composer").press("Control+Enter")
    await expect(page.locator("#composer")).to_have_value("")
    assert [text for text, _ in await messages(client, case)][1:] == ["An answer"]


@pytest.mark.long
async def test_change_by_a_colleague_is_asked_about_after_an_own_one_without_effect(console, client, case):
    """A link that was there already is no version, and so hides none."""
    console.refused = {412}
    other = await open_case(client, subject="Another", customerId="customer-17")
    await client.post(f"{api_path(case)}/links", json={"kind": "related", "caseId": other["id"]})
    page = await console.open(case_path(case))
    await page.locator("#composer").fill("An answer")
    await page.get_by_role("combobox", name="Kind of link").select_option("related")
    await page.get_by_label("Case id or address").fill(other["id"])
    await page.get_by_label("Case id or address").press("Enter")
    await expect(page.locator(".toast")).to_contain_text("related to")
    await settled(page)
    await client.patch(api_path(case), json={"priority": "urgent"})
    await expect(page.get_by_role("button", name="Priority: Urgent")).to_be_visible()
    await page.locator("#composer").press("Control+Enter")
    await expect(page.get_by_role("dialog", name="The case has changed")).to_be_visible()
    assert len(await messages(client, case)) == 1


@pytest.mark.long
async def test_change_by_a_colleague_is_asked_about_after_a_link_is_removed(console, client, two_cases):
    """The case was closed before it was linked: removing the link is one version, and the next one a colleague's."""
    console.refused = {412}
    first, second = two_cases
    await client.patch(api_path(first), json={"status": "closed"})
    await client.post(f"{api_path(first)}/links", json={"kind": "duplicate-of", "caseId": second["id"]})
    page = await console.open(case_path(first))
    await settled(page)
    await page.keyboard.press("n")
    await page.keyboard.type("A note")
    remove = page.get_by_label(re.compile("Remove the link"))
    await remove.click()
    await expect(remove).to_have_count(0)
    await settled(page)
    await client.patch(api_path(first), json={"priority": "urgent"})
    await expect(page.get_by_role("button", name="Priority: Urgent")).to_be_visible()
    await page.locator("#composer").press("Control+Enter")
    await expect(page.get_by_role("dialog", name="The case has changed")).to_be_visible()
    assert len(await messages(client, first)) == 1


@pytest.mark.parametrize("change", [pytest.param("merge", marks=pytest.mark.long), "link"])
async def test_undo_is_refused_after_a_colleagues_change(console, client, two_cases, change):
    """A merge and a link stay."""
    console.refused = {412}
    first, second = two_cases
    page = await console.open(case_path(first))
    await settled(page)
    if change == "merge":
        await page.get_by_role("button", name="More actions").click()
        await page.get_by_role("option", name="Merge into another case").click()
        await page.get_by_role("dialog").get_by_role("button", name="Second").click()
        await expect(page.get_by_role("button", name="Status: Closed")).to_be_visible()
    else:
        await page.get_by_role("combobox", name="Kind of link").select_option("related")
        await page.get_by_label("Case id or address").fill(second["id"])
        await page.get_by_label("Case id or address").press("Enter")
    await expect(page.get_by_label(re.compile("Remove the link"))).to_be_visible()
    await client.patch(api_path(first), json={"priority": "urgent"})
    await page.locator(".toast").get_by_role("button").click()
    await expect(page.locator(".toast")).to_contain_text(REFUSED)
    assert len((await read_detail(client, first))["links"]) == 1


@pytest.mark.long
async def test_removed_link_is_added_again_to_its_own_case(console, client, two_cases):
    """Also if another case is shown meanwhile."""
    first, second = two_cases
    third = await open_case(client, subject="Third")
    await client.post(f"{api_path(first)}/links", json={"kind": "related", "caseId": third["id"]})
    page = await console.open(case_path(first))
    await page.get_by_label(re.compile("Remove the link")).click()
    await expect(page.get_by_label(re.compile("Remove the link"))).to_have_count(0)
    await go(page, case_path(second))
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await page.locator(".toast").get_by_role("button").click()

    async def is_linked():
        return (await read_detail(client, first))["links"]

    assert [each["caseId"] for each in await eventually(is_linked)] == [third["id"]]
    assert (await read_detail(client, second))["links"] == []


@pytest.mark.long
async def test_undo_of_a_merge_in_the_queue_is_refused_after_a_colleagues_change(console, client, two_cases):
    """The original, which was changed, keeps its duplicate."""
    console.refused = {412}
    first, second = two_cases
    page = await console.open("/console/?view=waiting")
    for subject in ("First", "Second"):
        await page.get_by_label(f"Select {subject}").click()
    await page.get_by_role("group", name="Selected cases").get_by_role("button", name="Merge").click()
    await page.locator(".choices [role=option]").filter(has_text="First").click()
    await expect(page.get_by_text("1 merged")).to_be_visible()
    await client.patch(api_path(first), json={"priority": "urgent"})
    await page.get_by_role("button", name="Undo").click()
    await expect(page.locator(".toast")).to_contain_text(REFUSED)
    assert [each["caseId"] for each in (await read_detail(client, first))["links"]] == [second["id"]]
