"""Tasks of the queue, by keyboard alone and by mouse alone, with the keys and clicks that each takes.

A text that is typed counts once.
"""

import pytest
from playwright.async_api import expect

from tests.support.calls import eventually, open_case, read_case, read_detail
from tests.support.console.browser import held, press, undo_by_key
from tests.support.console.hands import Counter
from tests.support.console.samples import open_waiting

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
    return {(await read_case(client, case))["assignedAgentId"] for case in cases}


async def test_take_the_longest_waiting_case(console, client):
    """One key: `c` takes the first case of the list. `z` gives it back."""
    first, _ = await open_waiting(client, "First", "Second")
    page = await console.open(LONGEST)
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


@pytest.mark.parametrize("hand", ["keys", pytest.param("mouse", marks=pytest.mark.long)])
async def test_reassign_ten_cases(console, client, ten, hand):
    """At most 14 keys, or clicks: a box, a box with Shift, the menu, the colleague.

    The focus stays in the list, and one key, or click, takes it all back.
    """
    page = await console.open(LONGEST)
    user, given = Counter(page), page.locator("tbody tr .assignee", has_text="Linh Trần")
    if hand == "keys":
        await user.keys("j", *["J"] * 9, "a")
        await expect(page.get_by_role("option", name="Linh Trần")).to_be_visible()
        await user.type("linh")
        await user.keys("Enter")
    else:
        await user.click(page.get_by_label("Select Case 0"))
        await user.click(page.get_by_label("Select Case 9"), modifiers=["Shift"])
        await expect(page.get_by_text("10 selected")).to_be_visible()
        await user.click(page.get_by_role("group", name="Selected cases").get_by_role("button", name="Assign"))
        await user.click(page.get_by_role("option", name="Linh Trần"))
    assert user.count <= 14
    await expect(page.get_by_text("10 changed")).to_be_visible()
    assert await assignees(client, ten) == {"linh"}
    await expect(given).to_have_count(10)
    await expect(page.get_by_role("group", name="Selected cases")).to_have_count(0)
    if hand == "keys":
        await expect(page.get_by_role("link", name="Case 9")).to_be_focused()
    await (user.keys("z") if hand == "keys" else user.click(page.get_by_role("button", name="Undo")))
    await expect(given).to_have_count(0)
    assert await assignees(client, ten) == {None}


@pytest.mark.long
@pytest.mark.parametrize(("opens", "awaited"), [(LONGEST, "**/queue-bulk.js"), ("case", "**/support/agents?*")])
async def test_keys_after_the_key_of_a_menu_are_for_the_menu(console, client, colleague, opens, awaited):
    """Also before it is there: `n` and `h` of a name neither begin a note nor snooze."""
    (case,) = await open_waiting(client, "First")
    page = await console.open(case if opens == "case" else opens)
    released = await held(page, awaited)
    async with page.expect_request(awaited):
        await page.keyboard.press("a")
    await page.keyboard.type("linh")
    released.set()
    await expect(page.get_by_role("option")).to_contain_text(["Linh Trần"])
    await page.keyboard.press("Enter")
    await expect(page.locator(".toast")).to_be_visible()
    assert (await read_case(client, case))["assignedAgentId"] == "linh"


@pytest.mark.parametrize("hand", ["keys", pytest.param("mouse", marks=pytest.mark.long)])
async def test_find_by_a_phrase_merge_and_undo(console, client, hand):
    """At most 12: a phrase that neither customer wrote like this finds both cases; the older one stays; then undone."""
    original = await open_about(client, "Kettle", "The lid of my kettle is leaking.")
    duplicate = await open_about(client, "Still waiting", "As I wrote: my kettle has a lid that leaks!")
    await open_about(client, "Something else", "The lid of my pot is blue.")
    page = await console.open("/console/?view=all")
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
    message = {"authorType": "customer", "message": text}
    return await open_case(client, subject=subject, customerId="customer-1", initialMessage=message)


async def eventually_open(client, case):
    async def is_open():
        return (await read_case(client, case))["status"] == "open"

    await eventually(is_open)


async def test_keys_change_the_case_in_use(console, client):
    """Without a selection, a menu is for the row that has the focus; a tag can be a new one.

    The outcome names what was refused and why: a closed case can't become pending, and the change of the other one can
    be undone.
    """
    case, closed = await open_waiting(client, "First", "Second")
    await client.post(f"/support/cases/{closed['id']}/status", json={"status": "closed"})
    page = await console.open("/console/?view=all")
    for key, option in (("p", "Urgent"), ("s", "Resolved"), ("t", "delivery"), ("s", "Open")):
        await page.get_by_role("link", name="First").focus()
        await page.keyboard.press(key)
        await page.get_by_placeholder("Type to filter").fill(option)
        async with page.expect_response("**/support/cases/bulk"):
            await page.keyboard.press("Enter")
        await expect(page.get_by_text("1 changed")).to_be_visible()
        await expect(page.get_by_role("link", name="First")).to_be_focused()
    changed = await read_case(client, case)
    assert (changed["priority"], changed["status"], changed["tags"]) == ("urgent", "open", ["delivery"])
    await page.get_by_label("Select all").click()
    await page.keyboard.press("s")
    await page.get_by_role("option", name="Pending").click()
    await expect(page.get_by_role("status").filter(has_text="1 changed, 1 refused: ")).to_be_visible()
    assert (await read_case(client, case))["status"] == "pending"
    await undo_by_key(page)
    await eventually_open(client, case)


async def test_view_is_saved_changed_and_deleted(console, client, colleague):
    """For oneself or for a team: it stands in the rail with its count, and lists its cases. Deleting it can be undone.

    The teams are the teams of the people whom the user may know.
    """
    await open_waiting(client, "Urgent", priority="urgent")
    await open_case(client, subject="Other")
    page = await console.open("/console/?view=all&priority=urgent")
    dialog, link = page.get_by_role("dialog"), page.locator(".views a", has_text="Hot")
    await page.get_by_role("button", name="Save view").click()
    await page.get_by_label("Name").fill("Hot")
    await dialog.get_by_role("button", name="Save", exact=True).click()
    await expect(link).to_have_attribute("aria-current", "true")
    await expect(link.locator(".count")).to_have_text("1")
    await page.locator(".views a", has_text="All cases").click()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await link.click()
    await expect(page.locator(".subject a bdi")).to_have_text(["Urgent"])
    await page.get_by_role("button", name="Save view").click()
    await dialog.get_by_role("button", name="Delete").click()
    await expect(link).to_have_count(0)
    await undo_by_key(page)
    await expect(link).to_have_count(1)
    await page.goto("/console/?view=unassigned")
    await page.wait_for_function("() => document.querySelector('queue-page')?.people.length")
    await page.get_by_role("button", name="Save view").click()
    await page.get_by_label("Name").fill("Nobody's")
    await dialog.get_by_label("For").select_option("Team returns")
    await dialog.get_by_role("button", name="Save", exact=True).click()
    await expect(page.locator(".views a", has_text="Nobody's")).to_have_attribute("aria-current", "true")
    views = {each["name"]: each for each in (await (await client.get("/support/views")).json())["items"]}
    assert views["Hot"]["query"] == {"priority": "urgent"}
    query = {"assignedAgentId": "none", "status": "open,pending", "sort": "waiting"}
    assert (views["Nobody's"]["team"], views["Nobody's"]["query"]) == ("returns", query)


async def test_queue_shows_the_longest_waiting_case_first(console, client):
    """A row has subject, last words, customer, priority, time, agent, and the status unless it is open."""
    first, _ = await open_waiting(client, "First", "Second", customerId="customer-1", priority="high")
    await client.patch(f"/support/cases/{first['id']}", json={"assignedAgentId": "agent-7", "status": "pending"})
    page = await console.open()
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(2)
    for text in ("First", "Hello", "customer-1", "Pending", "High", "agent-7"):
        await expect(rows.first).to_contain_text(text)
    await expect(rows.locator(".pill")).to_have_text(["Pending"])
    await page.get_by_role("link", name="Mine").click()
    await expect(page.get_by_text("No cases here.")).to_be_visible()


async def test_keys_and_clicks_open_a_case_and_lead_back_to_where_it_was_opened(console, client):
    """A click anywhere in a row opens its case, and so does Enter; `j` and `k` move between the links of rows.

    Back in the queue, view, filters and row are as before.
    """
    _, second = await open_waiting(client, "First", "Second", priority="high")
    page = await console.open("/console/?view=all&priority=high")
    await page.locator("tbody tr").nth(1).locator(".priority").click()
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await page.keyboard.press("u")
    await expect(page.get_by_role("link", name="First")).to_be_focused()
    assert page.url.endswith("/console/?view=all&priority=high")
    await press(page, "k", "j", "k")
    await expect(page.get_by_role("link", name="Second")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    assert page.url.endswith(f"/console/cases/{second['id']}")
    await page.go_back()
    await expect(page.locator("tbody tr")).to_have_count(2)
