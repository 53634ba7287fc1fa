"""The page of a case while cases change: dialogs, other tabs, what is asked about, and what undoing is refused for."""

import re

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, open_case, read_detail
from tests.support.console.browser import choose, press, send, settled, undo_by_key
from tests.support.console.samples import api_path, case_path, messages, open_waiting

pytestmark = pytest.mark.long
REFUSED = "Someone changed the case meanwhile."


async def go(page, path):
    await page.evaluate(
        "path => { history.pushState(null, '', path); dispatchEvent(new Event('console:moved')) }", path
    )


@pytest.fixture
async def two_cases(client):
    return await open_waiting(client, "First", "Second", customerId="customer-17")


async def ask_about_draft(page):
    await send(page, "Answer to the first")


def act(name):
    async def step(page):
        await choose(page, "More actions", name)

    return step


async def test_dialog_does_not_outlive_its_case(console, client, two_cases):
    """Going back closes it: what is asked about one case is not done to either of them.

    The next question is asked as usual.
    """
    console.refused = {412}
    first, second = two_cases
    for each in two_cases:
        await client.patch(api_path(each), json={"assignedAgentId": "agent-9"})
    page = await console.open(second)
    await page.locator("#composer").fill("Draft of the second")
    await go(page, case_path(first))
    await page.locator("#composer").fill("Answer to the first")
    await add_message(client, first, "One more thing", authorType="customer")
    await expect(page.get_by_role("log")).to_contain_text("One more thing")
    actions = map(act, ("Split off messages", "Merge into another case", "Snooze"))
    for step in (ask_about_draft, *actions, lambda page: page.get_by_role("button", name="Claim").click()):
        await expect(page.get_by_role("heading", name="First")).to_be_visible()
        await step(page)
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.go_back()
        await expect(page.get_by_role("heading", name="Second")).to_be_visible()
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(page.locator("#composer")).to_have_value("Draft of the second")
        await page.go_forward()
    await page.go_back()
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await page.get_by_role("button", name="Claim").click()
    await page.get_by_role("dialog", name="Take over the case?").get_by_role("button", name="Take over").click()
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()
    details = [await read_detail(client, each) for each in two_cases]
    assert [each["assignedAgentId"] for each in details] == ["agent-9", "anyone"]
    assert [len(each["messages"]) for each in details] == [2, 1]


async def test_case_outside_of_the_list_leads_back_to_the_list(console, client, two_cases):
    """After "send and open the next" of a case that was opened from another one."""
    other = await open_case(client, subject="Resolved before", customerId="customer-17")
    await client.patch(api_path(other), json={"status": "resolved"})
    page = await console.open("/console/?view=waiting")
    await page.get_by_role("link", name="Second", exact=True).click()
    await page.locator(".case-aside").get_by_role("link", name="Resolved before").click()
    await expect(page.get_by_role("heading", name="Resolved before")).to_be_visible()
    await page.locator("#composer").fill("Anything else?")
    await page.keyboard.press("Control+Shift+Enter")
    await expect(page.get_by_role("navigation", name="Views")).to_be_visible()
    assert await messages(client, other) == [("Anything else?", "public")]


async def test_tabs_of_a_user_share_a_draft(console, client, case):
    """A change of the case that another tab sees removes no draft, and what one tab has sent no other one sends."""
    first = await console.open(case)
    second = await console.open(case, profile=first.context)
    await first.locator("#composer").fill("On its way")
    await expect(second.locator("#composer")).to_have_value("On its way")
    await add_message(client, case, "Are you there?")
    for page in (first, second):
        await expect(page.get_by_role("log").get_by_text("Are you there?")).to_be_visible()
        await settled(page)
    third = await console.open(case, profile=first.context)
    await first.reload()
    for page in (first, third):
        await expect(page.locator("#composer")).to_have_value("On its way")
    console.refused = {412}
    await second.locator("#composer").press("Control+Enter")
    await second.get_by_role("dialog").get_by_role("button", name="Send").click()
    for page in (first, second, third):
        await expect(page.locator("#composer")).to_have_value("")
    sent = [text for text, _ in await messages(client, case)]
    assert sent == ["Where is my parcel?", "Are you there?", "On its way"]


async def test_own_changes_and_their_undo_ask_no_question(console, client, case):
    """Also before a reload, and if an undo takes two changes."""
    await client.patch(api_path(case), json={"status": "pending"})
    page = await console.open(case)
    await page.locator("#composer").fill("An answer")
    await choose(page, "Status: Pending", "Closed")
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


async def add_link_that_is_there(page, other):
    await page.get_by_role("combobox", name="Kind of link").select_option("related")
    await page.get_by_label("Case id or address").fill(other["id"])
    await page.get_by_label("Case id or address").press("Enter")
    await expect(page.locator(".toast")).to_contain_text("related to")


async def remove_link(page, _):
    """Remove the link, which is one version, also if the case was closed before it was linked as a duplicate."""
    await page.get_by_label("Remove the link").click()
    await expect(page.get_by_label("Remove the link")).to_have_count(0)


async def remove_link_and_undo(page, other):
    await remove_link(page, other)
    await undo_by_key(page)
    await expect(page.get_by_label("Remove the link")).to_be_visible()


@pytest.mark.parametrize("own_change", [add_link_that_is_there, remove_link, remove_link_and_undo])
async def test_change_by_a_colleague_is_asked_about_after_an_own_one(console, client, two_cases, own_change):
    """An own change hides none of a colleague that follows."""
    console.refused = {412}
    first, second = two_cases
    kind = "related"
    if own_change is remove_link:
        kind = "duplicate-of"
        await client.patch(api_path(first), json={"status": "closed"})
    await client.post(f"{api_path(first)}/links", json={"kind": kind, "caseId": second["id"]})
    page = await console.open(first)
    await press(page, "n", "A note")
    await own_change(page, second)
    await settled(page)
    await client.patch(api_path(first), json={"priority": "urgent"})
    await expect(page.get_by_role("button", name="Priority: Urgent")).to_be_visible()
    await page.locator("#composer").press("Control+Enter")
    await expect(page.get_by_role("dialog", name="The case has changed")).to_be_visible()
    assert len(await messages(client, first)) == 1


async def test_undo_of_a_merge_is_refused_after_a_colleagues_change(console, client, two_cases):
    """At the case and in the queue: the merge stays."""
    console.refused = {412}
    first = two_cases[0]
    page = await console.open(first)
    await act("Merge into another case")(page)
    await page.get_by_role("dialog").get_by_role("button", name="Second").click()
    await expect(page.get_by_role("button", name="Status: Closed")).to_be_visible()
    await expect(page.get_by_label(re.compile("Remove the link"))).to_be_visible()
    await client.patch(api_path(first), json={"priority": "urgent"})
    await page.locator(".toast").get_by_role("button").click()
    await expect(page.locator(".toast")).to_contain_text(REFUSED)
    assert len((await read_detail(client, first))["links"]) == 1

    third, fourth = await open_waiting(client, "Third", "Fourth")
    await page.goto("/console/?view=unassigned")
    for subject in ("Third", "Fourth"):
        await page.get_by_label(f"Select {subject}").click()
    await page.get_by_role("group", name="Selected cases").get_by_role("button", name="Merge").click()
    await page.locator(".choices [role=option]").filter(has_text="Third").click()
    await expect(page.get_by_text("1 merged")).to_be_visible()
    await client.patch(api_path(third), json={"priority": "urgent"})
    await page.get_by_role("button", name="Undo").click()
    await expect(page.locator(".toast")).to_contain_text(REFUSED)
    assert [each["caseId"] for each in (await read_detail(client, third))["links"]] == [fourth["id"]]
