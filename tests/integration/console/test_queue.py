"""The queue: keys of a long list, search, filters, languages, and clocks."""

import re

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, eventually, open_case, read_detail, read_timeline
from tests.support.console.browser import (
    ROW_STEP,
    choose,
    expect_accessible,
    expect_good_looks,
    held,
    largest_step,
    press,
    record_numbers,
    send,
    settled,
)
from tests.support.console.samples import open_waiting
from tests.support.service_levels import move_due_times


@pytest.mark.long
async def test_keys_reach_every_row_of_a_long_list(console, client):
    """Keys that are pressed meanwhile count; rows out of view are found by the browser's search, and are read out.

    Rows are rendered in steps: the browser can show the first ones and answer between two steps. The next page is
    shown once, also if its button is pressed twice.
    """
    await open_waiting(client, *(f"Case {number}" for number in range(70)))
    profile = await console.profile()
    await record_numbers(profile, "tbody tr")
    page = await console.open("/console/?view=waiting", profile=profile, loads=False)
    await press(page, *["j"] * 48)
    await expect(page.get_by_role("link", name="Case 47", exact=True)).to_be_focused()
    await expect(page.get_by_role("link", name="Case 47", exact=True)).to_be_in_viewport()
    rows, answers = page.locator("tbody tr"), []
    await expect(rows).to_have_count(50)
    assert await largest_step(page) == ROW_STEP
    released = await held(page, "**/support/cases?*cursor=*")
    page.on("response", lambda answer: answers.append(answer.url) if "cursor=" in answer.url else None)
    for _ in range(2):
        async with page.expect_request("**/support/cases?*cursor=*"):
            await page.locator(".more button").click()
    released.set()
    await eventually(lambda: len(answers) == 2)
    await page.evaluate("new Promise(requestAnimationFrame)")
    await expect(rows).to_have_count(70)
    assert await page.locator(".subject a").all_text_contents() == [f"Case {number}" for number in range(70)]
    await expect(page.get_by_role("row")).to_have_count(71)
    await page.evaluate("scrollTo(0, 0)")
    await page.locator("body").click(position={"x": 5, "y": 500})
    assert await page.evaluate("window.find('Case 69')")
    await expect(page.get_by_role("link", name="Case 69", exact=True)).to_be_in_viewport()


@pytest.mark.long
async def test_claim_does_not_take_a_case_from_another_agent(console, client):
    """The list may be older than the other agent's claim.

    Back from a case that is settled, the focus is on the row that stands where its row was.
    """
    first, second, _ = await open_waiting(client, "First", "Second", "Third")
    page = await console.open("/console/?view=waiting")
    await client.patch(f"/support/cases/{first['id']}", json={"assignedAgentId": "agent-9"})
    await press(page, "j", "c")
    await expect(page.get_by_text("agent-9 has this case.")).to_be_visible()
    assert (await read_detail(client, first))["assignedAgentId"] == "agent-9"
    await press(page, "Escape", "j", "Enter")
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await client.post(f"/support/cases/{second['id']}/status", json={"status": "resolved"})
    await page.keyboard.press("u")
    await expect(page.locator(".subject a bdi")).to_have_text(["First", "Third"])
    await expect(page.get_by_role("link", name="Third")).to_be_focused()


async def test_console_speaks_vietnamese(console, client):
    """The browser's language decides; the user can choose another one.

    The menu closes when it is left, by a click elsewhere, or by Escape, which keeps the focus on its button.
    """
    await open_waiting(client, "Đơn hàng thiếu", customerId="customer-1")
    page = await console.open(locale="vi-VN")
    await expect(page.get_by_role("link", name="Chờ lâu nhất")).to_be_visible()
    await expect(page.locator("html")).to_have_attribute("lang", "vi")
    await expect_accessible(page)
    menu = page.locator(".account")
    await menu.locator("summary").click()
    await page.get_by_label("Ngôn ngữ").select_option("en")
    await expect(page.get_by_role("link", name="Waiting longest")).to_be_visible()
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    language = menu.get_by_label("Language")
    await menu.locator("summary").click()
    await expect(language).to_be_visible()
    await page.get_by_role("heading", level=1).evaluate("each => each.parentElement.click()")
    await expect(language).to_be_hidden()
    await menu.locator("summary").press("Enter")
    await press(page, "Tab", "Escape")
    await expect(language).to_be_hidden()
    await expect(menu.locator("summary")).to_be_focused()


@pytest.mark.long
async def test_overdue_answer_is_not_hidden_by_a_later_due_time(console, client):
    """The row of a case that has no message shows the first answer in red and in words, until an agent answers.

    The case shows all clocks. That of the resolution pauses while it is pending. The rail says in words how many cases
    are late, also of a saved view.
    """
    await client.put("/support/sla-policies/all", json={"targets": {"firstResponse": "PT30M", "resolution": "PT4H"}})
    await client.post("/support/views", json={"name": "Open", "query": {"status": "open"}})
    case = await open_case(client, subject="First")
    await move_due_times(client, 11 / 60, ["firstResponse"])

    async def is_reported():
        timeline = await read_timeline(client, case)
        return "sla.breached" in [each.get("action") for each in timeline]

    await eventually(is_reported)  # a change of the case, which must not come between the page and the answer
    page = await console.open("/console/?view=all")
    mark, red = page.locator("tbody .clock"), ("color", "rgb(179, 38, 30)")  # --bad of styles/base.css in light mode
    await expect(mark).to_have_attribute("data-level", "late")
    await expect(mark.locator("[aria-hidden]")).to_have_text("11 min late")
    await expect(mark.locator(".visually-hidden")).to_contain_text("First answer overdue 11 min")
    await expect(mark).to_have_css(*red)
    for view in ("Unassigned", "SLA at risk", "Open"):
        await expect(page.locator(".views a", has_text=view)).to_have_text(re.compile(r"1 late\s+1$"))
    await expect(page.locator(".views .late").first).to_have_css(*red)
    await expect_good_looks(page)
    await page.get_by_role("link", name="First", exact=True).click()
    clocks = page.locator(".case-aside .sla")
    due = re.compile("Resolution due in (4 h|3 h 59 min)")
    await expect(clocks).to_have_text([re.compile("First answer overdue 11 min"), due])
    await expect(clocks.first).to_have_css(*red)
    await page.locator("#composer").fill("Sorry for the delay.")
    await press(page, "Alt+Enter", "1")  # and leave the case open
    await expect(clocks.first).to_have_text("First answer too late")
    await page.keyboard.press("u")
    await expect(mark.locator("[aria-hidden]")).to_have_text(re.compile("^(4 h|3 h 59 min)$"))
    await page.go_back()
    await choose(page, "Status: Open", "Pending")
    await expect(clocks.last).to_have_text(re.compile("Resolution paused, (4 h|3 h 59 min) left"))
    await choose(page, "Status: Pending", "Resolved")
    await expect(clocks.last).to_have_text("Resolution in time")
    (other,) = await open_waiting(client, "Second")
    await page.goto(f"/console/cases/{other['id']}")
    await expect(clocks.first).to_have_attribute("data-state", "risk")
    await send(page, "We look into it.")
    await expect(clocks.first).to_have_text("First answer in time")


@pytest.mark.long
async def test_keys_pressed_while_the_list_loads_move_then(console, client):
    """Nobody has to wait before the first key. Enter in a search opens no case of the list before."""
    await open_waiting(client, "First", "Second")
    profile = await console.profile()
    released = await held(profile, "**/support/cases?*")
    page = await console.open(profile=profile, loads=False)
    await press(page, "j", "j")
    released.set()
    await expect(page.get_by_role("link", name="Second")).to_be_focused()
    released = await held(page, "**/support/cases?*q=second*")
    async with page.expect_request("**/support/cases?*q=second*"):
        await page.locator("#search").fill("second")
    await page.locator("#search").press("Enter")
    await page.keyboard.press("Enter")
    released.set()
    await expect(page.locator(".subject a bdi")).to_have_text(["Second"])
    assert "/cases/" not in page.url
    await expect(page.locator("tbody tr").first.locator("a").first).to_be_focused()


@pytest.mark.long
async def test_failing_list_leaves_the_former_one_and_says_so(console, client):
    """The view whose cases are shown stays marked; the rows are marked as old, until the list can be read.

    So they are while the browser is offline. Once it is back, the list is read again without a click.
    """
    await open_waiting(client, "Mine", assignedAgentId="anyone")
    await open_waiting(client, "Nobody's")
    console.loses_connections = True
    profile = await console.profile()
    page = await console.open("/console/?view=waiting", profile=profile)
    subjects, current = page.locator(".subject a bdi"), page.locator(".views [aria-current]")
    await profile.route("**/support/cases?*", lambda route: route.abort())
    await page.get_by_role("link", name="Unassigned").click()
    said = page.get_by_text("“Unassigned” could not be loaded. These are the cases of “Waiting longest” as of")
    await expect(said).to_be_visible()
    await expect(current).to_contain_text("Waiting longest")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Waiting longest")
    await expect(page.locator(".cases[data-old] tbody tr")).to_have_count(2)
    await expect_good_looks(page)
    await profile.unroute("**/support/cases?*")
    await page.get_by_role("button", name="Try again").click()
    await expect(subjects).to_have_text(["Nobody's"])
    await expect(current).to_contain_text("Unassigned")
    await expect(page.locator(".cases[data-old]")).to_have_count(0)
    await profile.set_offline(True)
    await expect(page.get_by_text("You are offline. These cases are as of")).to_be_visible()
    await expect(page.locator(".cases[data-old] tbody tr")).to_have_count(1)
    await open_waiting(client, "Second")
    await profile.set_offline(False)
    await expect(subjects).to_have_text(["Nobody's", "Second"])
    await expect(page.locator(".cases[data-old]")).to_have_count(0)


@pytest.mark.long
async def test_search_in_a_view_counts_in_all_of_them(console, client):
    """What is in another view is one click away. The link of a row names the message that matches."""
    (case,) = await open_waiting(client, "The kettle leaks", assignedAgentId="agent-9")
    await add_message(client, case, "The samovar is broken", authorType="customer")
    page = await console.open("/console/?view=mine")
    await press(page, "/", "samovar")
    await expect(page.get_by_text("0 here, 1 in all cases:")).to_be_visible()
    await expect_accessible(page)
    await page.get_by_role("link", name="show").click()
    link = page.locator(".subject a")
    await expect(link).to_have_text(["The kettle leaks"])
    await expect(page.get_by_role("heading", level=1)).to_have_text("All cases")
    found = next(each["id"] for each in (await read_detail(client, case))["messages"] if "samovar" in each["message"])
    await expect(link).to_have_attribute("href", f"/console/cases/{case['id']}?message={found}")
    await page.goto("/console/?view=mine&q=teapot")
    await expect(page.get_by_text("No case matches.")).to_be_visible()
    await expect(page.get_by_role("link", name="show")).to_have_count(0)


async def test_row_is_unread_until_its_case_was_opened(console, client):
    """A later message makes it unread again. A draft, which is in the browser, is marked, and has a view."""
    first, _ = await open_waiting(client, "First", "Second")
    page = await console.open("/console/?view=waiting")
    unread = page.locator("tbody tr", has=page.locator(".unread-dot")).locator(".subject a bdi")
    await expect(unread).to_have_text(["First", "Second"])
    await page.get_by_role("link", name="First").click()
    await page.locator("#composer").fill("Half an answer")
    await press(page, "Escape", "u")
    await expect(unread).to_have_text(["Second"])
    await add_message(client, first, "Are you there?", authorType="customer")
    await page.reload()
    await expect(unread).to_have_text(["First", "Second"])
    await expect(page.locator("tbody tr", has_text="draft").locator(".subject a bdi")).to_have_text(["First"])
    link = page.locator(".views a", has_text="Drafts")
    await expect(link.locator(".count")).to_have_text("1")
    await link.click()
    await expect(page.locator(".subject a bdi")).to_have_text(["First"])
    await expect_accessible(page)


async def test_filters_are_chips_that_can_be_removed(console, client):
    """Filters of the view too. The address has view, filters and search: a link shows the same list to another user."""
    await open_waiting(client, "Parcel late", tags=["delivery"], priority="high")
    await open_waiting(client, "Broken parcel", tags=["return"])
    await open_waiting(client, "Charged twice", tags=["return"])
    page = await console.open("/console/?view=waiting")
    subjects = page.locator(".subject a bdi")
    await press(page, "/", "parcel")
    await expect(subjects).to_have_text(["Parcel late", "Broken parcel"])
    await expect(page.locator("mark").first).to_have_text("Parcel")
    await choose(page, re.compile("^Tag"), "delivery")
    await page.get_by_role("button", name="Apply").click()
    await expect(subjects).to_have_text(["Parcel late"])
    await expect(page.get_by_role("button", name="Tag: delivery")).to_be_visible()
    await expect_accessible(page)
    other = await console.open(page.url.removeprefix(console.address))
    await expect(other.locator(".subject a bdi")).to_have_text(["Parcel late"])
    await expect(other.get_by_label("Search cases")).to_have_value("parcel")
    await page.get_by_role("button", name="Remove the filter Tag").click()
    await expect(subjects).to_have_text(["Parcel late", "Broken parcel"])
    await page.get_by_role("button", name="Remove the filter Status").click()
    assert page.url.endswith("/console/?view=waiting&q=parcel&status=")
    await choose(page, re.compile("^Order:"), "Newest first")
    await expect(subjects).to_have_text(["Broken parcel", "Parcel late"])
    await page.get_by_role("button", name="Remove the filter Order").click()
    await expect(subjects).to_have_text(["Parcel late", "Broken parcel"])
    await choose(page, re.compile("^Priority"), "High")
    await expect(subjects).to_have_text(["Parcel late"])


@pytest.mark.long
async def test_views_are_those_of_the_name_that_the_user_works_as(console, client):
    """Claims go to the new name at once, and so does the list of own cases.

    Unread mentions are counted in the newest notifications only: their number is the least, if there are more.
    """
    await open_waiting(client, "Ann's", assignedAgentId="ann")
    await open_waiting(client, "Anyone's", assignedAgentId="anyone")
    items = [{"id": f"id-{number}", "caseId": f"case-{number}", "kind": "mention"} for number in range(3)]
    answer = {"items": items, "unread": 100, "moreUnread": True, "nextCursor": "next"}
    page = await console.open("/console/?view=mine")
    await page.route("**/support/notifications?*", lambda route: route.fulfill(json=answer))
    await page.reload()
    await expect(page.locator(".views a", has_text="Mentioned").locator(".count")).to_have_text("3+")
    await expect(page.locator(".subject a bdi")).to_have_text(["Anyone's"])
    await page.locator(".account summary").click()
    await page.get_by_label("Work as").fill("ann")
    await page.get_by_label("Work as").press("Enter")
    await expect(page.locator(".subject a bdi")).to_have_text(["Ann's"])


@pytest.mark.long
@pytest.mark.parametrize(
    "typed", ['say "hello', "100% cotton", "back\\slash", "it's_a", "<b>bold</b> & co", "%", "\\", '"']
)
async def test_search_takes_any_text(console, client, typed):
    """Quotes, wildcards and HTML are what they are: the case that has them is found, also by the address."""
    await open_waiting(client, f"Subject {typed} of it", "Another")
    page = await console.open("/console/?view=all")
    await page.keyboard.press("/")
    await page.keyboard.type(typed)
    await page.wait_for_function("typed => new URLSearchParams(location.search).get('q') === typed", arg=typed)
    await settled(page)
    for _ in range(2):
        await expect(page.locator("#search")).to_have_value(typed)
        await expect(page.locator(".strip")).not_to_have_attribute("data-old", "true")
        if any(character.isalnum() for character in typed):
            await expect(page.locator("tbody .subject a bdi")).to_have_text([f"Subject {typed} of it"])
        await page.reload()
        await settled(page)


@pytest.mark.long
@pytest.mark.parametrize("width", [390, 1280])
async def test_snoozed_case_is_in_its_view(console, client, width):
    """`h` offers times. The end of the snooze is between the subject, of which something is left, and the time."""
    (case,) = await open_waiting(client, "A parcel that has not arrived", assignedAgentId="anyone")
    page = await console.open("/console/?view=mine", viewport={"width": width, "height": 844})
    await page.keyboard.press("h")
    await page.get_by_role("option", name="Tomorrow morning").click()
    await expect(page.get_by_text("1 changed")).to_be_visible()
    assert (await read_detail(client, case))["snoozedUntil"] is not None
    await page.goto("/console/?view=snoozed")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Snoozed")
    mark = page.locator("tbody .pill")
    await expect(mark).to_contain_text("Snoozed until")
    time = page.locator("tbody .time")
    parts = (page.locator("tbody .subject a"), mark, time, time.locator(".line").first.locator("> *"))
    subject, ended, time, clock = [await part.bounding_box() for part in parts]
    assert subject["width"] >= 48
    assert subject["x"] + subject["width"] <= ended["x"]
    assert ended["x"] + ended["width"] <= time["x"] + time["width"]
    assert ended["x"] + ended["width"] <= clock["x"]
