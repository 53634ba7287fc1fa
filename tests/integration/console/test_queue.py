"""The queue: order, keys, search, claims, and texts of customers."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, eventually, open_case, read_detail, read_timeline
from tests.support.console.browser import (
    NARROW,
    ROW_STEP,
    WIDE,
    expect_accessible,
    expect_good_looks,
    expect_no_sideways_scrolling,
    largest_step,
    record_numbers,
    settled,
)
from tests.support.console.samples import HOSTILE, LONG_WORD, case_path, open_waiting
from tests.support.service_levels import move_due_times

RED = "rgb(179, 38, 30)"  # --bad of styles/base.css in light mode


async def choose(page, menu, option):
    """Choose an option of a menu that is known by the beginning of its name."""
    await page.get_by_role("button", name=re.compile(f"^{menu}")).click()
    await page.get_by_role("option", name=option).click()


async def test_queue_shows_the_longest_waiting_case_first(console, client):
    """A row has subject, last words, customer, priority, time, agent, and the status unless it is open."""
    first, _ = await open_waiting(client, "First", "Second", customerId="customer-1", priority="high")
    await client.patch(f"/support/cases/{first['id']}", json={"assignedAgentId": "agent-7", "status": "pending"})
    page = await console.open()
    rows = page.locator("tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("First")
    for text in ("Hello", "customer-1", "Pending", "High", "agent-7"):
        await expect(rows.first).to_contain_text(text)
    await expect(rows.locator(".pill")).to_have_text(["Pending"])


async def test_keys_move_open_and_claim(console, client):
    """`j` and `k` move the focus between the links of rows, `c` claims, `Enter` opens."""
    first, second = await open_waiting(client, "First", "Second")
    page = await console.open()
    await expect(page.locator("tbody tr")).to_have_count(2)
    for key in ("j", "j", "k"):
        await page.keyboard.press(key)
    await expect(page.get_by_role("link", name="First")).to_be_focused()
    await page.keyboard.press("c")
    await expect(page.locator("tbody tr").first).to_contain_text("anyone")
    assert (await read_detail(client, first))["assignedAgentId"] == "anyone"
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    assert page.url.endswith(f"/console/cases/{second['id']}")
    await page.go_back()
    await expect(page.locator("tbody tr")).to_have_count(2)


@pytest.mark.long
async def test_rows_are_rendered_in_steps(console, client):
    """The browser can show the first ones and answer between two steps."""
    await open_waiting(client, *(f"Case {number}" for number in range(50)))
    profile = await console.profile()
    await record_numbers(profile, "tbody tr")
    page = await console.open("/console/?view=waiting", profile=profile)
    await expect(page.locator("tbody tr")).to_have_count(50)
    assert await largest_step(page) == ROW_STEP


@pytest.mark.long
async def test_keys_reach_every_row_of_a_long_list(console, client):
    """Keys that are pressed meanwhile count; rows out of view are found by the browser's search, and are read out."""
    await open_waiting(client, *(f"Case {number}" for number in range(70)))
    page = await console.open("/console/?view=waiting")
    rows = page.locator("tbody tr")
    for _ in range(48):
        await page.keyboard.press("j")
    await expect(page.get_by_role("link", name="Case 47", exact=True)).to_be_focused()
    await expect(page.get_by_role("link", name="Case 47", exact=True)).to_be_in_viewport()
    await expect(rows).to_have_count(50)
    await page.get_by_role("button", name="More").click()
    await expect(rows).to_have_count(70)
    assert await page.locator(".subject a").all_text_contents() == [f"Case {number}" for number in range(70)]
    await expect(page.get_by_role("row")).to_have_count(71)
    await page.evaluate("scrollTo(0, 0)")
    await page.locator("body").click(position={"x": 5, "y": 500})
    assert await page.evaluate("window.find('Case 69')")
    await expect(page.get_by_role("link", name="Case 69", exact=True)).to_be_in_viewport()


@pytest.mark.long
async def test_claim_does_not_take_a_case_from_another_agent(console, client):
    """The list may be older than the other agent's claim."""
    (case,) = await open_waiting(client, "First")
    page = await console.open()
    await expect(page.locator("tbody tr")).to_have_count(1)
    await client.patch(f"/support/cases/{case['id']}", json={"assignedAgentId": "agent-9"})
    await page.keyboard.press("j")
    await page.keyboard.press("c")
    await expect(page.get_by_text("agent-9 has this case.")).to_be_visible()
    assert (await read_detail(client, case))["assignedAgentId"] == "agent-9"


async def test_address_holds_view_filters_and_search(console, client):
    """A link to a list shows the same list to another user."""
    await open_waiting(client, "Parcel lost", "Charged twice", priority="urgent")
    await open_waiting(client, "Parcel late", priority="low")
    page = await console.open()
    await page.keyboard.press("/")
    await page.keyboard.type("parcel")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await expect(page.locator("mark").first).to_have_text("Parcel")
    await choose(page, "Priority", "Urgent")
    await expect(page.locator("tbody tr")).to_have_count(1)
    address = page.url
    other = await console.open(address.removeprefix(console.address))
    await expect(other.locator("tbody tr")).to_have_count(1)
    await expect(other.get_by_label("Search cases")).to_have_value("parcel")


@pytest.mark.long
async def test_saved_views_have_counts(console, client):
    """Views of the user stand beside the views that everyone has."""
    await open_waiting(client, "Parcel lost", tags=["delivery"])
    await client.post("/support/views", json={"name": "Deliveries", "query": {"tag": ["delivery"]}})
    page = await console.open()
    link = page.get_by_role("link", name="Deliveries")
    await expect(link).to_contain_text("1")
    await expect(page.get_by_role("link", name="Unassigned")).to_contain_text("1")
    await link.click()
    await expect(page.locator("tbody tr")).to_have_count(1)


async def test_texts_of_customers_are_shown_as_text(console, client):
    """Markup is text, a long word wraps, and right-to-left text keeps its own direction; also in a narrow window."""
    texts = (HOSTILE, LONG_WORD, "مرحبا، أين طلبي؟ 123")
    await open_waiting(client, *texts, customerId=HOSTILE[:36], tags=[HOSTILE[:60]], assignedAgentId=LONG_WORD[:36])
    page = await console.open()
    for size in (NARROW, WIDE):
        await page.set_viewport_size(size)
        for text in texts:
            await expect(page.get_by_role("link", name=text, exact=True)).to_be_visible()
        assert await page.locator("main img, main script").count() == 0
        await expect_no_sideways_scrolling(page)


@pytest.mark.long
async def test_queue_is_accessible_in_both_modes_and_widths(console, client):
    """There is no finding of axe-core, also with the list of keys open and in an empty list."""
    await open_waiting(client, "Parcel lost", tags=["delivery"], customerId="customer-1", priority="urgent")
    await open_waiting(client, "Parcel late", priority="high")
    page = await console.open()
    await page.locator("tbody tr").first.wait_for()
    await page.keyboard.press("j")
    await expect_good_looks(page)
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    await expect_good_looks(page)
    await page.keyboard.press("Escape")
    await page.get_by_role("link", name="Mine").click()
    await expect(page.get_by_text("No cases here.")).to_be_visible()
    await expect_accessible(page)


async def test_console_speaks_vietnamese(console, client):
    """The browser's language decides; the user can choose another one."""
    await open_waiting(client, "Đơn hàng thiếu", customerId="customer-1")
    page = await console.open(locale="vi-VN")
    await expect(page.get_by_role("link", name="Chờ lâu nhất")).to_be_visible()
    await expect(page.locator("html")).to_have_attribute("lang", "vi")
    await expect_accessible(page)
    await page.locator(".account summary").click()
    await page.get_by_label("Ngôn ngữ").select_option("en")
    await expect(page.get_by_role("link", name="Waiting longest")).to_be_visible()
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("lang", "en")


async def test_views_of_every_agent_have_their_cases_and_counts(console, client):
    """Mine, unassigned, waiting longest and at risk: each lists what its count says, in its order."""
    targets = {"firstResponse": "PT1H", "resolution": "P1D"}
    policy = {"match": {"priority": ["urgent"]}, "targets": targets}
    await client.put("/support/sla-policies/urgent", json=policy)
    await open_waiting(client, "Mine", assignedAgentId="anyone")
    await open_waiting(client, "Nobody's")
    await open_waiting(client, "At risk", priority="urgent", assignedAgentId="agent-9")
    await open_case(client, subject="Answered", assignedAgentId="agent-9")
    page = await console.open()
    for view, subjects in (
        ("Mine", ["Mine"]),
        ("Unassigned", ["Nobody's"]),
        ("Waiting longest", ["Mine", "Nobody's", "At risk", "Answered"]),
        ("SLA at risk", ["At risk"]),
    ):
        link = page.locator(".views a", has_text=view)
        await expect(link.locator(".count")).to_have_text(str(len(subjects)))
        await link.click()
        await expect(page.locator(".subject a bdi")).to_have_text(subjects)
    await expect(page.locator(".clock .visually-hidden")).to_have_text(re.compile("First answer due in (1 h|59 min)"))


@pytest.mark.long
async def test_clocks_follow_the_answer(console, client):
    """A case shows all clocks; a row shows the clock that something waits for."""
    targets = {"firstResponse": "PT30M", "resolution": "PT5H"}
    await client.put("/support/sla-policies/all", json={"targets": targets})
    (case,) = await open_waiting(client, "First")
    page = await console.open(f"/console/cases/{case['id']}")
    await expect(page.locator(".case-aside .sla").first).to_have_attribute("data-state", "risk")
    await page.locator("#composer").fill("We look into it.")
    await page.locator("#composer").press("Control+Enter")
    await expect(page.locator(".case-aside .sla").first).to_have_text("First answer in time")
    await expect(page.locator(".case-aside .sla").last).to_contain_text(
        re.compile("Resolution due in (5 h|4 h 59 min)")
    )
    await expect_accessible(page)
    await page.get_by_role("button", name="Status: Pending").click()
    await page.get_by_role("option", name="Resolved").click()
    await expect(page.locator(".case-aside .sla").last).to_have_text("Resolution in time")


@pytest.mark.long
async def test_overdue_answer_is_not_hidden_by_a_later_due_time(console, client):
    """The row of a case that has no message shows the first answer in red and in words, until an agent answers."""
    targets = {"firstResponse": "PT30M", "resolution": "PT4H"}
    await client.put("/support/sla-policies/all", json={"targets": targets})
    case = await open_case(client, subject="First")
    await move_due_times(client, 11 / 60, ["firstResponse"])

    async def is_reported():
        timeline = await read_timeline(client, case)
        return "sla.breached" in [each.get("action") for each in timeline]

    await eventually(is_reported)  # a change of the case, which must not come between the page and the answer
    page = await console.open("/console/?view=all")
    mark = page.locator("tbody .clock")
    await expect(mark).to_have_attribute("data-level", "late")
    await expect(mark.locator("[aria-hidden]")).to_have_text("11 min late")
    await expect(mark.locator(".visually-hidden")).to_contain_text("First answer overdue 11 min")
    await expect(mark).to_have_css("color", RED)
    await expect_good_looks(page)
    await page.get_by_role("link", name="First", exact=True).click()
    clocks = page.locator(".case-aside .sla")
    await expect(clocks).to_have_text(
        [re.compile("First answer overdue 11 min"), re.compile("Resolution due in (4 h|3 h 59 min)")]
    )
    await expect(clocks.first).to_have_css("color", RED)
    await page.locator("#composer").fill("Sorry for the delay.")
    await page.locator("#composer").press("Alt+Enter")
    await page.keyboard.press("1")  # and leave the case open
    await expect(clocks.first).to_have_text("First answer too late")
    await page.keyboard.press("u")
    await expect(mark.locator("[aria-hidden]")).to_have_text(re.compile("^(4 h|3 h 59 min)$"))


async def test_agent_comes_back_to_where_the_case_was_opened(console, client):
    """A click anywhere in a row opens its case; back in the queue, view, filters and row are as before."""
    await open_waiting(client, "First", "Second", priority="high")
    page = await console.open("/console/?view=all&priority=high")
    await page.locator("tbody tr").nth(1).locator(".priority").click()
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await page.keyboard.press("u")
    await expect(page.get_by_role("link", name="First")).to_be_focused()
    assert page.url.endswith("/console/?view=all&priority=high")
    await page.keyboard.press("k")
    await expect(page.get_by_role("link", name="Second")).to_be_focused()


@pytest.mark.long
async def test_keys_pressed_while_the_list_loads_move_then(console, client):
    """Nobody has to wait before the first key."""
    await open_waiting(client, "First", "Second")
    profile = await console.profile()
    loaded = asyncio.Event()

    async def hold(route):
        await loaded.wait()
        await route.continue_()

    await profile.route("**/support/cases?*", hold)
    page = await console.open(profile=profile)
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    loaded.set()
    await expect(page.get_by_role("link", name="Second")).to_be_focused()


@pytest.mark.long
async def test_menu_closes_when_it_is_left(console):
    """By a click elsewhere, or by Escape, which keeps the focus on its button."""
    page = await console.open()
    menu = page.locator(".account")
    await menu.locator("summary").click()
    await expect(menu.get_by_label("Language")).to_be_visible()
    await page.get_by_role("heading", level=1).evaluate("each => each.parentElement.click()")
    await expect(menu.get_by_label("Language")).to_be_hidden()
    await menu.locator("summary").press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Escape")
    await expect(menu.get_by_label("Language")).to_be_hidden()
    await expect(menu.locator("summary")).to_be_focused()


@pytest.mark.long
async def test_next_case_takes_the_place_of_a_resolved_one(console, client):
    """Back from a case that is settled, the focus is on the row that stands where its row was."""
    _, second, _ = await open_waiting(client, "First", "Second", "Third")
    page = await console.open("/console/?view=waiting")
    await expect(page.locator("tbody tr")).to_have_count(3)
    for key in ("j", "j", "Enter"):
        await page.keyboard.press(key)
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await client.post(f"/support/cases/{second['id']}/status", json={"status": "resolved"})
    await page.keyboard.press("u")
    await expect(page.locator(".subject a bdi")).to_have_text(["First", "Third"])
    await expect(page.get_by_role("link", name="Third")).to_be_focused()


@pytest.mark.long
async def test_failing_list_leaves_the_former_one_and_says_so(console, client):
    """The view whose cases are shown stays marked; the rows are marked as old, until the list can be read."""
    await open_waiting(client, "Mine", assignedAgentId="anyone")
    await open_waiting(client, "Nobody's")
    console.loses_connections = True
    profile = await console.profile()
    page = await console.open("/console/?view=waiting", profile=profile)
    await expect(page.locator("tbody tr")).to_have_count(2)
    await profile.route("**/support/cases?*", lambda route: route.abort())
    await page.get_by_role("link", name="Unassigned").click()
    said = page.get_by_text("“Unassigned” could not be loaded. These are the cases of “Waiting longest” as of")
    await expect(said).to_be_visible()
    await expect(page.locator(".views [aria-current]")).to_contain_text("Waiting longest")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Waiting longest")
    await expect(page.locator(".cases[data-old] tbody tr")).to_have_count(2)
    await expect_good_looks(page)
    await profile.unroute("**/support/cases?*")
    await page.get_by_role("button", name="Try again").click()
    await expect(page.locator(".subject a bdi")).to_have_text(["Nobody's"])
    await expect(page.locator(".views [aria-current]")).to_contain_text("Unassigned")
    await expect(page.locator(".cases[data-old]")).to_have_count(0)


@pytest.mark.long
async def test_offline_browser_is_said(console, client):
    """The rows stay and are marked; once the browser is back, the list is read again without a click."""
    await open_waiting(client, "First")
    console.loses_connections = True
    profile = await console.profile()
    page = await console.open("/console/?view=waiting", profile=profile)
    await expect(page.locator("tbody tr")).to_have_count(1)
    await profile.set_offline(True)
    await expect(page.get_by_text("You are offline. These cases are as of")).to_be_visible()
    await expect(page.locator(".cases[data-old] tbody tr")).to_have_count(1)
    await open_waiting(client, "Second")
    await profile.set_offline(False)
    await expect(page.locator(".subject a bdi")).to_have_text(["First", "Second"])
    await expect(page.locator(".cases[data-old]")).to_have_count(0)


@pytest.mark.long
async def test_search_in_a_view_counts_in_all_of_them(console, client):
    """What is in another view is one click away."""
    await open_waiting(client, "The kettle leaks", assignedAgentId="agent-9")
    page = await console.open("/console/?view=mine")
    await page.keyboard.press("/")
    await page.keyboard.type("kettle")
    await expect(page.get_by_text("0 here, 1 in all cases:")).to_be_visible()
    await expect_accessible(page)
    await page.get_by_role("link", name="show").click()
    await expect(page.locator(".subject a bdi")).to_have_text(["The kettle leaks"])
    await expect(page.get_by_role("heading", level=1)).to_have_text("All cases")
    await page.goto("/console/?view=mine&q=teapot")
    await expect(page.get_by_text("No case matches.")).to_be_visible()
    await expect(page.get_by_role("link", name="show")).to_have_count(0)


@pytest.mark.long
async def test_drafts_have_a_view_and_a_mark(console, client):
    """They are in the browser: the view lists the cases that have one."""
    first, _ = await open_waiting(client, "First", "Second")
    page = await console.open(case_path(first))
    await page.locator("#composer").fill("Half an answer")
    await page.goto("/console/?view=waiting")
    await expect(page.locator("tbody tr", has_text="draft").locator(".subject a bdi")).to_have_text(["First"])
    link = page.locator(".views a", has_text="Drafts")
    await expect(link.locator(".count")).to_have_text("1")
    await link.click()
    await expect(page.locator(".subject a bdi")).to_have_text(["First"])
    await expect_accessible(page)


async def test_row_is_unread_until_its_case_was_opened(console, client):
    """A later message makes it unread again."""
    first, _ = await open_waiting(client, "First", "Second")
    page = await console.open("/console/?view=waiting")
    unread = page.locator("tbody tr", has=page.locator(".unread-dot")).locator(".subject a bdi")
    await expect(unread).to_have_text(["First", "Second"])
    await page.get_by_role("link", name="First").click()
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await page.keyboard.press("u")
    await expect(unread).to_have_text(["Second"])
    await add_message(client, first, "Are you there?", authorType="customer")
    await page.reload()
    await expect(unread).to_have_text(["First", "Second"])


async def test_filters_are_chips_that_can_be_removed(console, client):
    """Filters of the view too; a tag may be any text, and the address has them."""
    await open_waiting(client, "Late", tags=["delivery"], priority="high")
    await open_waiting(client, "Broken", tags=["return"])
    page = await console.open("/console/?view=waiting")
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.get_by_role("button", name="Tag").click()
    await page.get_by_role("option", name="delivery").click()
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator(".subject a bdi")).to_have_text(["Late"])
    await expect(page.get_by_role("button", name="Tag: delivery")).to_be_visible()
    await expect_accessible(page)
    await page.get_by_role("button", name="Remove the filter Tag").click()
    await expect(page.locator("tbody tr")).to_have_count(2)
    await page.get_by_role("button", name="Remove the filter Status").click()
    assert page.url.endswith("/console/?view=waiting&status=")
    await choose(page, "Order:", "Newest first")
    await expect(page.locator(".subject a bdi")).to_have_text(["Broken", "Late"])
    await page.get_by_role("button", name="Remove the filter Order").click()
    await expect(page.locator(".subject a bdi")).to_have_text(["Late", "Broken"])


@pytest.mark.long
async def test_rail_says_how_many_cases_are_late(console, client):
    """In words beside the number of all; also for a saved view."""
    await client.put("/support/sla-policies/all", json={"targets": {"firstResponse": "PT30M"}})
    await open_waiting(client, "Late", "Late, too")
    await move_due_times(client, 11 / 60, ["firstResponse"])
    await client.post("/support/views", json={"name": "Open", "query": {"status": "open"}})
    page = await console.open()
    for view in ("Unassigned", "SLA at risk", "Open"):
        await expect(page.locator(".views a", has_text=view)).to_have_text(re.compile(r"2 late\s+2$"))
    await expect(page.locator(".views .late").first).to_have_css("color", RED)
    await expect_accessible(page)


@pytest.mark.long
async def test_unread_mentions_are_counted_in_the_newest_notifications_only(console, client):
    """The number is the least of them, if there are more notifications than one page has."""
    items = [{"id": f"id-{number}", "caseId": f"case-{number}", "kind": "mention"} for number in range(3)]
    page = await console.open()

    async def answer(route):
        await route.fulfill(json={"items": items, "unread": 100, "moreUnread": True, "nextCursor": "next"})

    await page.route("**/support/notifications?*", answer)
    await page.reload()
    await expect(page.locator(".views a", has_text="Mentioned").locator(".count")).to_have_text("3+")


@pytest.mark.long
async def test_search_opens_a_case_at_the_message_that_matches(console, client):
    """The link of the row names the message."""
    case, _ = await open_waiting(client, "First", "Second")
    await add_message(client, case, "The samovar is broken", authorType="customer")
    page = await console.open("/console/?view=all&q=samovar")
    link = page.locator(".subject a")
    await expect(link).to_have_text(["First"])
    messages = (await read_detail(client, case))["messages"]
    found = next(each["id"] for each in messages if "samovar" in each["message"])
    await expect(link).to_have_attribute("href", f"/console/cases/{case['id']}?message={found}")


@pytest.mark.long
@pytest.mark.parametrize(
    "typed", ['say "hello', "100% cotton", "back\\slash", "it's_a", "<b>bold</b> & co", "%", "\\", '"']
)
async def test_search_takes_any_text(console, client, typed):
    """Quotes, wildcards and HTML are what they are: the case that has them is found, also by the address."""
    await open_waiting(client, f"Subject {typed} of it", "Another")
    page = await console.open("/console/?view=all")
    await expect(page.locator("tbody tr")).to_have_count(2)
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
async def test_end_of_a_snooze_covers_nothing(console, client, width):
    """It stands beside the subject, of which something is left, and ends before the time."""
    (case,) = await open_waiting(client, "A parcel that has not arrived", customerId="customer-1")
    until = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    await client.post(f"/support/cases/{case['id']}/status", json={"status": "pending", "until": until})
    page = await console.open("/console/?view=all", viewport={"width": width, "height": 844})
    mark = page.locator("tbody .pill")
    await expect(mark).to_contain_text("Snoozed until")
    subject, ended, time = [
        await part.bounding_box() for part in (page.locator("tbody .subject a"), mark, page.locator("tbody .time"))
    ]
    assert subject["width"] >= 48
    assert subject["x"] + subject["width"] <= ended["x"]
    assert ended["x"] + ended["width"] <= time["x"] + time["width"]
    clock = await page.locator("tbody .time .line").first.locator("> *").bounding_box()
    assert ended["x"] + ended["width"] <= clock["x"]
