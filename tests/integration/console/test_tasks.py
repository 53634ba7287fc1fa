"""Tasks of the queue, by keyboard alone and by mouse alone, with the keys and clicks that each takes.

A text that is typed counts once.
"""

import asyncio
import re

import pytest
from playwright.async_api import expect

from tests.support.calls import eventually, open_case, read_case, read_detail
from tests.support.console.browser import expect_accessible, expect_good_looks, undo_by_key
from tests.support.console.hands import Counter
from tests.support.console.samples import case_path, open_waiting

LONGEST = "/console/?view=waiting"


@pytest.fixture
async def colleague(client):
    """Someone whom cases can be given to."""
    await client.put("/support/agents/linh", json={"displayName": "Linh Trần", "teams": ["returns"], "role": "agent"})


@pytest.fixture
async def ten(client, colleague):
    """Ten cases that wait, and one more."""
    cases = await open_waiting(client, *(f"Case {number}" for number in range(11)))
    return cases[:10]


async def assignees(client, cases):
    """Return to whom the cases are assigned."""
    return {(await read_case(client, case))["assignedAgentId"] for case in cases}


async def test_take_the_longest_waiting_case(console, client):
    """One key: `c` takes the first case of the list. `z` gives it back."""
    first, _ = await open_waiting(client, "First", "Second")
    page = await console.open(LONGEST)
    await expect(page.locator("tbody tr")).to_have_count(2)
    hands = Counter(page)
    await hands.keys("c")
    await expect(page.locator("tbody tr").first).to_contain_text("anyone")
    assert hands.count == 1
    assert (await read_case(client, first))["assignedAgentId"] == "anyone"
    await expect(page.get_by_role("link", name="First")).to_be_focused()
    await hands.keys("z")
    await expect(page.locator("tbody tr").first).to_contain_text("unassigned")
    assert (await read_case(client, first))["assignedAgentId"] is None
    await hands.keys("Enter")
    await expect(page.get_by_role("heading", name="First")).to_be_visible()


async def test_reassign_ten_cases_by_keys(console, client, ten):
    """At most 14 keys; the focus stays in the list, and one key takes it all back."""
    page = await console.open(LONGEST)
    await expect(page.locator("tbody tr")).to_have_count(11)
    hands = Counter(page)
    await hands.keys("j", *["J"] * 9, "a")
    await expect(page.get_by_role("option", name="Linh Trần")).to_be_visible()
    await hands.type("linh")
    await hands.keys("Enter")
    assert hands.count <= 14
    await expect(page.get_by_text("10 changed")).to_be_visible()
    assert await assignees(client, ten) == {"linh"}
    await expect(page.get_by_role("link", name="Case 9")).to_be_focused()
    await expect(page.locator("tbody tr .assignee", has_text="Linh Trần")).to_have_count(10)
    await expect(page.get_by_role("group", name="Selected cases")).to_have_count(0)
    await hands.keys("z")
    await expect(page.locator("tbody tr .assignee", has_text="Linh Trần")).to_have_count(0)
    assert await assignees(client, ten) == {None}


@pytest.mark.long
@pytest.mark.parametrize(("opens", "awaited"), [(LONGEST, "**/queue-bulk.js"), ("case", "**/support/agents?*")])
async def test_keys_after_the_key_of_a_menu_are_for_the_menu(console, client, colleague, opens, awaited):
    """Also before it is there: `n` and `h` of a name neither begin a note nor snooze."""
    (case,) = await open_waiting(client, "First")
    profile = await console.profile()
    asked, let_through = asyncio.Event(), asyncio.Event()

    async def hold(route):
        asked.set()
        await let_through.wait()
        await route.continue_()

    await profile.route(awaited, hold)
    page = await console.open(case_path(case) if opens == "case" else opens, profile=profile)
    await expect(page.get_by_text("First").first).to_be_visible()
    await page.keyboard.press("a")
    await asked.wait()
    await page.keyboard.type("linh")
    let_through.set()
    await expect(page.get_by_role("option")).to_contain_text(["Linh Trần"])
    await page.keyboard.press("Enter")
    await expect(page.locator(".toast")).to_be_visible()
    assert (await read_case(client, case))["assignedAgentId"] == "linh"


@pytest.mark.long
async def test_reassign_ten_cases_by_clicks(console, client, ten):
    """At most 14 clicks: a box, a box with Shift, the menu, the colleague. Undo is one more."""
    page = await console.open(LONGEST)
    await expect(page.locator("tbody tr")).to_have_count(11)
    hands = Counter(page)
    await hands.click(page.get_by_label("Select Case 0"))
    await hands.click(page.get_by_label("Select Case 9"), modifiers=["Shift"])
    await expect(page.get_by_text("10 selected")).to_be_visible()
    await expect_good_looks(page)
    await hands.click(page.get_by_role("group", name="Selected cases").get_by_role("button", name="Assign"))
    await expect_accessible(page)
    await hands.click(page.get_by_role("option", name="Linh Trần"))
    assert hands.count <= 14
    await expect(page.get_by_text("10 changed")).to_be_visible()
    assert await assignees(client, ten) == {"linh"}
    await hands.click(page.get_by_role("button", name="Undo"))
    await expect(page.locator("tbody tr .assignee", has_text="Linh Trần")).to_have_count(0)
    assert await assignees(client, ten) == {None}


@pytest.mark.parametrize("hand", ["keys", pytest.param("mouse", marks=pytest.mark.long)])
async def test_find_by_a_phrase_merge_and_undo(console, client, hand):
    """At most 12: a phrase that neither customer wrote like this finds both cases; the older one stays; then undone."""
    original = await open_about(client, "Kettle", "The lid of my kettle is leaking.")
    duplicate = await open_about(client, "Still waiting", "As I wrote: my kettle has a lid that leaks!")
    await open_about(client, "Something else", "The lid of my pot is blue.")
    page = await console.open("/console/?view=all")
    await expect(page.locator("tbody tr")).to_have_count(3)
    user = Counter(page)
    await (user.keys("/") if hand == "keys" else user.click(page.get_by_role("searchbox")))
    await user.type("kettle lid")
    if hand == "keys":
        await user.keys("Enter")
    await expect(page.locator("tbody tr")).to_have_count(2)
    if hand == "keys":
        await expect(page.locator("tbody tr").first.get_by_role("link").first).to_be_focused()
        await user.keys("J", "m")
    else:
        await user.click(page.get_by_label("Select Kettle"))
        await user.click(page.get_by_label("Select Still waiting"))
        await user.click(page.get_by_role("group", name="Selected cases").get_by_role("button", name="Merge"))
    options = page.locator(".choices [role=option]")
    await expect(options).to_have_count(2)
    await (user.keys("Enter") if hand == "keys" else user.click(options.filter(has_text="Kettle")))
    await expect(page.get_by_text("1 merged")).to_be_visible()
    assert (await read_case(client, duplicate))["status"] == "closed"
    assert [each["caseId"] for each in (await read_detail(client, original))["links"]] == [duplicate["id"]]
    await (user.keys("z") if hand == "keys" else user.click(page.get_by_role("button", name="Undo")))
    await eventually_open(client, duplicate)
    assert (await read_detail(client, original))["links"] == []
    assert user.count <= 12


async def open_about(client, subject, text):
    """Open a case in which a customer writes a text."""
    message = {"authorType": "customer", "message": text}
    return await open_case(client, subject=subject, customerId="customer-1", initialMessage=message)


async def eventually_open(client, case):
    """Wait until a case is open."""

    async def is_open():
        return (await read_case(client, case))["status"] == "open"

    await eventually(is_open)


@pytest.mark.parametrize(
    ("keys", "option", "field", "value"),
    [
        ("p", "Urgent", "priority", "urgent"),
        ("s", "Pending", "status", "pending"),
        ("t", "delivery", "tags", ["delivery"]),
    ],
)
async def test_keys_change_the_case_in_use(console, client, keys, option, field, value):
    """Without a selection, a menu is for the row that has the focus; a tag can be a new one."""
    (case,) = await open_waiting(client, "First")
    page = await console.open(LONGEST)
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.keyboard.press("j")
    await page.keyboard.press(keys)
    await page.get_by_placeholder("Type to filter").fill(option)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("1 changed")).to_be_visible()
    assert (await read_case(client, case))[field] == value
    await expect(page.get_by_role("link", name="First")).to_be_focused()


@pytest.mark.long
async def test_snoozed_case_is_in_its_view(console, client):
    """`h` offers times; the case then stands in the view of snoozed cases, with its time."""
    (case,) = await open_waiting(client, "First", assignedAgentId="anyone")
    page = await console.open("/console/?view=mine")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.keyboard.press("h")
    await page.get_by_role("option", name="Tomorrow morning").click()
    await expect(page.get_by_text("1 changed")).to_be_visible()
    assert (await read_case(client, case))["snoozedUntil"] is not None
    await expect(page.locator(".pill")).to_have_text(re.compile("Snoozed until"))
    await page.get_by_role("link", name="Snoozed").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Snoozed")
    await expect(page.locator(".subject a bdi")).to_have_text(["First"])


async def test_outcomes_name_what_was_refused_and_why(console, client):
    """A closed case can't become pending; the other one can, and its change can be undone."""
    first, second = await open_waiting(client, "First", "Second")
    await client.post(f"/support/cases/{second['id']}/status", json={"status": "closed"})
    page = await console.open("/console/?view=all")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.get_by_label("Select all").click()
    await page.keyboard.press("s")
    await page.get_by_role("option", name="Pending").click()
    await expect(page.get_by_role("status").filter(has_text="1 changed, 1 refused: ")).to_be_visible()
    assert (await read_case(client, first))["status"] == "pending"
    await undo_by_key(page)
    await eventually_open(client, first)


async def test_change_without_an_answer_is_sent_again_with_its_key(console, client):
    """The connection breaks after the request: the repeat has the same key, so that it is carried out once."""
    (case,) = await open_waiting(client, "First")
    console.loses_connections = True
    profile = await console.profile()
    keys = []

    async def lose_the_first(route):
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            await route.fetch()
            await route.abort()
        else:
            await route.continue_()

    await profile.route("**/support/cases/bulk", lose_the_first)
    page = await console.open(LONGEST, profile=profile)
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.keyboard.press("j")
    await page.keyboard.press("p")
    await page.get_by_role("option", name="High").click()
    await expect(page.get_by_text("1 changed")).to_be_visible()
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert (await read_case(client, case))["priority"] == "high"
    assert (await client.get(f"/support/cases/{case['id']}")).headers["ETag"].startswith('"2')


async def test_view_is_saved_changed_and_deleted(console, client):
    """For oneself: it stands in the rail with its count. Deleting it can be undone."""
    await open_waiting(client, "Urgent", priority="urgent")
    await open_case(client, subject="Other")
    page = await console.open("/console/?view=all&priority=urgent")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("button", name="Save view").click()
    await page.get_by_label("Name").fill("Hot")
    await expect_accessible(page)
    await page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
    link = page.locator(".views a", has_text="Hot")
    await expect(link).to_have_attribute("aria-current", "true")
    await expect(link.locator(".count")).to_have_text("1")
    (view,) = (await (await client.get("/support/views")).json())["items"]
    assert view["query"] == {"priority": "urgent"}
    await page.get_by_role("button", name="Save view").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(link).to_have_count(0)
    await undo_by_key(page)
    await expect(link).to_have_count(1)


@pytest.mark.long
async def test_view_is_saved_for_a_team(console, client, colleague):
    """The teams are the teams of the people whom the user may know."""
    await open_waiting(client, "First")
    page = await console.open("/console/?view=unassigned")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("button", name="Save view").click()
    await page.get_by_label("Name").fill("Nobody's")
    await page.get_by_role("dialog").get_by_label("For").select_option("Team returns")
    await page.get_by_role("dialog").get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator(".views a", has_text="Nobody's")).to_have_attribute("aria-current", "true")
    (view,) = (await (await client.get("/support/views")).json())["items"]
    query = {"assignedAgentId": "none", "status": "open,pending", "sort": "waiting"}
    assert (view["team"], view["query"]) == ("returns", query)
