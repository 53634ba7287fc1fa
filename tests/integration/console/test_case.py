"""The page of a case: its timeline, macros, changes and links."""

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, eventually, expect_json, open_case, read_case, read_detail
from tests.support.console.browser import (
    ENTRY_STEP,
    NARROW,
    choose,
    expect_accessible,
    held,
    largest_step,
    press,
    record_numbers,
    send,
    settled,
    undo_by_key,
)
from tests.support.console.samples import api_path, case_path, messages, open_waiting

# How wide the hint in the composer is, and the room that it has.
HINT = """box => {
  const style = getComputedStyle(box);
  const brush = document.createElement("canvas").getContext("2d");
  brush.font = `${style.fontSize} ${style.fontFamily}`;
  const edges = parseFloat(style.paddingLeft) + parseFloat(style.paddingRight);
  return [brush.measureText(box.placeholder).width, box.clientWidth - edges];
}"""


LATE = [("continue_", "requestfinished"), pytest.param("abort", "requestfailed", marks=pytest.mark.long)]


@pytest.mark.parametrize(("outcome", "event"), LATE)
async def test_late_answer_is_not_shown_in_the_next_case(console, client, outcome, event):
    """Neither its conversation nor its failure."""
    console.loses_connections = True
    first, _ = await open_waiting(client, "First", "Second")
    page = await console.open("/console/?view=waiting")
    released = await held(page, f"**{api_path(first)}", outcome=outcome)
    await page.get_by_role("link", name="First", exact=True).click()
    await expect(page.get_by_text("Loading")).to_be_visible()
    await page.keyboard.press("j")
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await settled(page)
    async with page.expect_event(event, lambda request: request.url.endswith(api_path(first))):
        released.set()
    await page.evaluate("new Promise((resume) => setTimeout(resume))")
    await settled(page)
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await expect(page.locator(".case-message")).to_have_text("")
    assert (await page.title()).startswith("Second ")


async def test_closed_duplicate_leads_to_the_original_case(console, client, case):
    """It offers no reply, by button or by key: the customer is answered in the original case. A note can be added."""
    original = await open_case(client, subject="Where is ORD-1001?", customerId="customer-17")
    page = await console.open(case)
    await page.locator("#composer").fill("It is on its way.")
    await client.post(f"/support/cases/{case['id']}/links", json={"kind": "duplicate-of", "caseId": original["id"]})
    await expect(page.get_by_role("button", name="Status: Closed")).to_be_visible()
    await expect(page.get_by_text("This case is closed as a duplicate.")).to_be_visible()
    await expect(page.get_by_role("button", name="Send and set Pending")).to_have_count(0)
    await page.locator("#composer").press("Control+Enter")
    await expect_accessible(page)
    await page.get_by_role("button", name="Internal note").click()
    await page.locator("#composer").fill("Same parcel.")
    await page.get_by_role("button", name="Add note").click()
    await expect(page.locator(".message[data-note]")).to_be_visible()
    assert (await messages(client, case))[1:] == [("Same parcel.", "internal")]
    await page.get_by_role("button", name="Reply", exact=True).click()
    await page.get_by_role("link", name="Open the original case").click()
    await expect(page.get_by_role("heading", name="Where is ORD-1001?")).to_be_visible()
    await page.locator("#composer").click()
    await expect(page.get_by_role("button", name="Send and set Pending")).to_be_visible()


async def test_taking_a_colleagues_case_is_asked_first(console, client, case):
    """By key and by button: the case stays with the colleague unless the agent confirms.

    A page that has not heard of a change says that there was one, and shows it.
    """
    console.refused = {412}
    page = await console.open()
    await page.route("**/support/stream", lambda _: None)  # it never answers
    await page.goto(case_path(case))
    await expect(page.get_by_role("button", name="Claim")).to_be_visible()
    await client.patch(api_path(case), json={"assignedAgentId": "agent-9"})
    await page.get_by_role("button", name="Claim").click()
    await expect(page.get_by_text("Someone changed the case meanwhile.")).to_be_visible()
    await expect(page.locator(".case-head").get_by_text("agent-9")).to_be_visible()
    dialog = page.get_by_role("dialog", name="Take over the case?")
    await page.keyboard.press("c")
    await expect(dialog.get_by_text("agent-9 has this case.")).to_be_visible()
    await expect_accessible(page)
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    assert (await read_detail(client, case))["assignedAgentId"] == "agent-9"
    await page.get_by_role("button", name="Claim").click()
    await dialog.get_by_role("button", name="Take over").click()
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()
    assert (await read_detail(client, case))["assignedAgentId"] == "anyone"


async def test_macro_changes_the_case_only_when_its_message_is_sent(console, client, case):
    """The list opens under `;`, and variables are filled.

    Tags and status wait with the draft, also over a reload. A draft that is thrown away changes nothing.
    """
    macro = {"text": "Thank you.", "status": "pending", "tags": ["polite", "closing"]}
    await client.put("/support/macros/thanks", json=macro)
    await client.put("/support/macros/late-parcel", json={"text": "About {{case.subject}}:"})
    page = await console.open(case)
    composer, option = page.locator("#composer"), page.locator(".suggestions").get_by_role("option")
    await composer.click()
    await page.keyboard.type("Hello ;late")
    await expect(option).to_have_count(1)
    await page.keyboard.press("Enter")
    await expect(composer).to_have_value("Hello About Parcel has not arrived:")
    for key in ("Tab", "Enter"):
        await composer.fill("")
        await press(page, ";thanks")
        await expect(option).to_have_count(1)
        await page.keyboard.press(key)
        await expect(composer).to_have_value("Thank you.")
        await expect(page.get_by_label("Do not add the tag polite")).to_be_visible()
        await expect(page.get_by_label("Do not set the status Pending")).to_be_visible()
        if key == "Tab":
            await expect_accessible(page)
            await composer.fill("")
            await expect(page.get_by_label("Do not add the tag polite")).to_have_count(0)
            await expect(page.get_by_label("Do not set the status Pending")).to_have_count(0)
            await settled(page)
            detail = await read_detail(client, case)
            assert (detail["tags"], detail["status"]) == (["delivery"], "open")
    await page.reload()
    await page.get_by_label("Do not add the tag closing").click()
    await composer.press("Control+Enter")
    await expect(page.get_by_label("Remove the tag polite")).to_be_visible()
    await expect(page.get_by_role("button", name="Status: Pending")).to_be_visible()
    detail = await read_detail(client, case)
    assert (detail["tags"], detail["status"]) == (["delivery", "polite"], "pending")


@pytest.mark.long
async def test_message_on_its_way_changes_only_its_own_case(console, client, case):
    """A writer who opens another case meanwhile finds its draft, and its tags as they were."""
    await client.put("/support/macros/thanks", json={"text": "Thank you.", "tags": ["polite"]})
    other = await open_case(client, subject="Where is ORD-1001?", customerId="customer-17")
    page = await console.open(other)
    await page.locator("#composer").fill("Draft of the other case")
    released = await held(page, f"**{api_path(case)}/messages")
    await page.goto(case_path(case))
    await page.locator("#composer").click()
    await page.keyboard.type(";thanks")
    await expect(page.locator(".suggestions").get_by_role("option")).to_have_count(1)
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("Do not add the tag polite")).to_be_visible()
    await page.keyboard.press("Control+Enter")
    await page.get_by_role("link", name="Where is ORD-1001?").first.click()
    await expect(page.locator("#composer")).to_have_value("Draft of the other case")
    released.set()

    async def is_tagged():
        return (await read_detail(client, case))["tags"] == ["delivery", "polite"]

    await eventually(is_tagged)
    assert (await messages(client, case))[1:] == [("Thank you.", "public")]
    await page.reload()
    await expect(page.locator("#composer")).to_have_value("Draft of the other case")
    assert (await read_detail(client, other))["tags"] == []


@pytest.mark.long
async def test_long_conversation_shows_its_newest_part_first(console, client, case):
    """The older entries are one click away, and what is in view stays in its place when they come.

    A message that the address names is marked and in view, also if it is not shown at first.
    """
    for number in range(210):
        await add_message(client, case, f"message {number}")
    profile = await console.profile()
    await record_numbers(profile, ".timeline .message")
    page = await console.open(case, profile=profile)
    assert await largest_step(page) == ENTRY_STEP
    await expect(page.get_by_text("message 209")).to_be_in_viewport()
    await expect(page.locator(".timeline .message")).to_have_count(200)
    await expect(page.get_by_text("Where is my parcel?")).to_have_count(0)
    oldest = page.get_by_text("message 10", exact=True)
    await oldest.scroll_into_view_if_needed()
    before = (await oldest.bounding_box())["y"]
    await page.get_by_role("button", name=re.compile("earlier entries")).click()
    await expect(page.get_by_text("Where is my parcel?")).to_have_count(1)
    await settled(page)
    first = ["The tracking page has not changed.", "Where is my parcel?"]
    texts = await page.locator(".timeline .message .text").all_inner_texts()
    assert texts == [*first, *(f"message {number}" for number in range(210))]
    assert (await oldest.bounding_box())["y"] == pytest.approx(before, abs=1)  # px; the browser rounds
    wanted = (await read_detail(client, case))["messages"][3]
    await page.goto(f"{case_path(case)}?message={wanted['id']}")
    await expect(page.locator("[data-marked] .text")).to_have_text("message 2")
    await expect(page.locator("[data-marked]")).to_be_in_viewport()


PHONES = [
    ("en", "Details", "23 h 59 min late"),
    pytest.param("vi", "Chi tiết", "trễ 23 giờ 59 phút", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("language", "details", "late"), PHONES)
async def test_narrow_page_has_the_newest_end_and_the_rest_in_a_sheet(console, client, case, language, details, late):
    """The composer stays at the bottom; the sheet has the customer and the tags, and Escape closes it.

    The hint in the composer has room, for a reply and for a note. The head has two lines: a clock that becomes longer
    while somebody reads moves nothing below it.
    """
    for number in range(60):
        await add_message(client, case, f"message {number}")
    page = await console.open(case, viewport=NARROW, locale=language)
    await expect(page.get_by_text("message 59", exact=True)).to_be_in_viewport()
    await expect(page.locator("#composer")).to_be_in_viewport()
    assert await page.evaluate("scrollY") == 0
    await page.get_by_role("button", name=details).click()
    sheet = page.get_by_role("dialog", name=details)
    await expect(sheet.get_by_role("link", name="customer-17")).to_be_visible()
    await expect(sheet.locator(".tag", has_text="delivery")).to_be_visible()
    await expect_accessible(page)
    await page.keyboard.press("Escape")
    await expect(sheet).to_have_count(0)
    for key in ("r", "n"):
        await press(page, key, "Escape")
        await expect(page.locator(".composer[data-open]")).to_have_count(0)
        text, room = await page.locator("#composer").evaluate(HINT)
        assert 0 < text <= room
    await add_message(client, case, "Any news?", authorType="customer")
    clock, head = page.locator(".case-head .clock > span").first, page.locator(".case-head")
    await clock.wait_for()
    height = await head.evaluate("(box) => box.clientHeight")
    await clock.evaluate("(clock, text) => { clock.textContent = text; }", late)
    assert await head.evaluate("(box) => box.clientHeight") == height


async def test_case_opens_at_the_oldest_unanswered_message(console, client, case):
    """It stands below the line "Not answered yet"; answered ones are above. An answer takes the line away.

    What is read stays in view: the composer grows when it gets the focus, and does not cover the last message. A new
    message moves nothing for a reader of older ones; a button leads to it.
    """
    for number in range(40):
        await add_message(client, case, f"answer {number}")
    for number in range(40):
        await add_message(client, case, f"question {number}", authorType="customer")
    page = await console.open(case)
    line, newest, timeline = page.locator(".unanswered-line"), page.locator(".timeline .message").last, ".timeline"
    await expect(page.locator(".unanswered-line + .message .text")).to_have_text("question 0")
    await expect(line).to_be_in_viewport()
    assert await page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    await expect(page.get_by_text("question 39", exact=True)).not_to_be_in_viewport()
    await expect(page.get_by_text("answer 20", exact=True)).not_to_be_in_viewport()
    await send(page, "All of it, one after the other.")
    await expect(newest).to_contain_text("All of it, one after the other.")
    await expect(newest).to_be_in_viewport()
    await expect(line).to_have_count(0)
    await page.reload()
    await settled(page)
    await expect(newest).to_be_in_viewport(ratio=1)
    height = await page.locator(timeline).evaluate("(box) => box.clientHeight")
    await page.locator("#composer").focus()
    await page.wait_for_function("(height) => document.querySelector('.timeline').clientHeight < height", arg=height)
    await expect(newest).to_be_in_viewport(ratio=1)
    await page.locator(timeline).hover()
    await page.mouse.wheel(0, -100_000)
    await expect(page.get_by_text("Where is my parcel?")).to_be_in_viewport()
    await add_message(client, case, "One more thing")
    await page.get_by_role("button", name="1 new message").click()
    await expect(page.get_by_text("One more thing")).to_be_in_viewport()
    await expect(page.get_by_role("button", name="1 new message")).to_have_count(0)


@pytest.mark.long
async def test_entries_are_in_words_with_links_and_folds(console, client, case):
    """Addresses, mail addresses and ids are links; quotes and signatures open. Nothing else of the text is changed.

    A message that was sent long before it arrived says so. Who changed the case has a name, and so has the channel. An
    address that customers give stays one address, and adds no receiver to a mail.
    """
    text = "See https://example.test/a?b=1. Mail lan@example.test about ORD-1001!\n"
    quoted = "On Monday Lan wrote:\n> Where is it?\n"
    contact = {"kind": "email", "value": "anna@example.org?bcc=eve@example.org"}
    await client.put("/support/customers/customer-17", json={"contacts": [contact]})
    await add_message(client, case, f"{text}{quoted}Thanks\n-- \nLan, Example Ltd")
    await add_message(client, case, "By letter", sentAt="2026-01-01T08:30:00Z")
    await client.put("/support/agents/anyone", json={"displayName": "Ann Lee"})
    await client.patch(api_path(case), json={"assignedAgentId": "anyone"})
    page = await console.open(case)
    message, aside = page.locator(".message", has_text="Thanks"), page.locator(".case-aside")
    for place, name, href in (
        (message, "https://example.test/a?b=1", "https://example.test/a?b=1"),
        (message, "lan@example.test", "mailto:lan@example.test"),
        (message, "ORD-1001", "/console/?view=all&q=ORD-1001"),
        (aside, contact["value"], "mailto:anna@example.org%3Fbcc%3Deve@example.org"),
    ):
        await expect(place.get_by_role("link", name=name, exact=True)).to_have_attribute("href", href)
    for hidden, summary in (("> Where is it?", "Quoted text"), ("Lan, Example Ltd", "Signature")):
        await expect(message.get_by_text(hidden)).to_be_hidden()
        await message.get_by_text(summary).click()
        await expect(message.get_by_text(hidden)).to_be_visible()
    await expect(message.get_by_text("On Monday Lan wrote:")).to_be_visible()
    await expect(page.locator(".message").filter(has_text="received")).to_have_count(1)
    await expect(page.locator(".message").filter(has_text="By letter")).to_contain_text("received")
    await page.get_by_role("button", name="Changes", exact=True).click()
    await expect(page.locator(".fact").last.locator("bdi")).to_have_text(["Ann Lee", "Ann Lee"])  # who, and to whom
    await expect(aside).to_contain_text("Channel E-mail")


async def test_each_change_can_be_undone(console, client, case):
    """Status, also closed, priority, assignee and tags by keys; `z` gives back the former value.

    After a choice the focus is on its menu, and after Claim on the assignee.
    """
    page = await console.open(case)
    before = {name: case[name] for name in ("status", "priority", "assignedAgentId", "tags")}
    for key, name, choice in (("s", "Status", "Closed"), ("p", "Priority", "Urgent"), ("a", "Assignee", "anyone")):
        await page.keyboard.press(key)
        await page.keyboard.type(choice)
        await page.keyboard.press("Enter")
        changed = page.get_by_role("button", name=f"{name}: {choice}")
        await expect(changed).to_be_visible()
        await undo_by_key(page)
        await expect(changed).to_have_count(0)
        await page.get_by_role("button", name=f"{name}: ").press("Enter")
        await page.keyboard.type(choice)
        await page.keyboard.press("Enter")
        await expect(changed).to_be_focused()
        await undo_by_key(page)
        await expect(changed).to_have_count(0)
    await page.get_by_role("button", name="Claim").press("Enter")
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_focused()
    await undo_by_key(page)
    await page.get_by_label("Remove the tag delivery").click()
    await expect(page.get_by_label("Remove the tag delivery")).to_have_count(0)
    await page.locator(".toast").get_by_role("button").click()
    await expect(page.get_by_label("Remove the tag delivery")).to_be_visible()
    await page.get_by_label("New tag").fill("carrier")
    await page.get_by_label("New tag").press("Enter")
    await expect(page.get_by_label("Remove the tag carrier")).to_be_visible()
    await page.locator(".toast").get_by_role("button").click()
    await expect(page.get_by_label("Remove the tag carrier")).to_have_count(0)
    detail = await read_detail(client, case)
    assert {name: detail[name] for name in before} == before


async def test_duplicate_is_linked_and_unlinked(console, client, case):
    """The other cases of the customer are offered; the link closes this case, and without it the case is open.

    After a colleague's change, the link is not undone.
    """
    console.refused = {412}
    other = await open_case(client, subject="Where is ORD-1001?", customerId="customer-17", context=case["context"])
    page = await console.open(case)
    field, remove = page.get_by_label("Case id or address"), page.get_by_label("Remove the link")
    await expect(page.get_by_text("Other cases of this order")).to_be_visible()
    await field.fill(f"{console.address}{case_path(other)}")
    await field.press("Enter")
    await expect(page.get_by_role("button", name="Status: Closed")).to_be_visible()
    await remove.click()
    await expect(page.get_by_role("button", name="Status: Open")).to_be_visible()
    await page.get_by_role("combobox", name="Kind of link").select_option("related")
    await field.fill(other["id"])
    await field.press("Enter")
    await expect(remove).to_be_visible()
    await client.patch(api_path(case), json={"priority": "urgent"})
    await page.locator(".toast").get_by_role("button").click()
    await expect(page.locator(".toast")).to_contain_text("Someone changed the case meanwhile.")
    assert len((await read_detail(client, case))["links"]) == 1


async def test_case_is_snoozed_merged_and_split(console, client, case):
    """Each from the menu, and each undone."""
    other = await open_case(client, subject="Where is ORD-1001?", customerId="customer-17")
    await add_message(client, case, "Another parcel is broken.", authorType="customer")
    page = await console.open(case)

    await page.keyboard.press("h")
    await page.get_by_role("button", name="Tomorrow morning").click()
    await expect(page.get_by_role("button", name="Status: Pending")).to_be_visible()
    assert (await read_detail(client, case))["snoozedUntil"]
    await undo_by_key(page)
    await expect(page.get_by_role("button", name="Status: Open")).to_be_visible()

    await choose(page, "More actions", "Merge into another case")
    await page.get_by_role("dialog").get_by_role("button", name="Where is ORD-1001?").click()
    await expect(page.get_by_role("button", name="Status: Closed")).to_be_visible()
    assert (await read_detail(client, case))["mergedInto"] == other["id"]
    await expect(page.get_by_role("button", name="More actions")).to_be_focused()
    await undo_by_key(page)
    await expect(page.get_by_role("button", name="Status: Open")).to_be_visible()

    await choose(page, "More actions", "Split off messages")
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Subject of the new case").fill("Broken parcel")
    await dialog.get_by_role("checkbox", name="Another parcel is broken.").check()
    await dialog.get_by_role("button", name="Split off").click()
    await expect(page.locator(".timeline .message")).to_have_count(2)
    await expect(page.get_by_text("Split off: Broken parcel")).to_be_visible()
    await undo_by_key(page)
    await expect(page.locator(".timeline .message")).to_have_count(3)
    assert [text for text, _ in await messages(client, case)] == ["Where is my parcel?", "Another parcel is broken."]


async def test_note_mentions_people_of_the_directory(console, client, case):
    """The list opens under `@` in a note, and not in a reply."""
    await client.put("/support/agents/agent-7", json={"displayName": "Linh Trần", "teams": ["returns"]})
    page = await console.open(case)
    await page.locator("#composer").fill("")
    await page.keyboard.type("@lin")
    await page.get_by_role("button", name="Internal note").click()
    await page.keyboard.type("Can you help, @lin")
    await expect(page.get_by_role("option", name="agent-7")).to_be_visible()
    await expect_accessible(page)
    await page.keyboard.press("Enter")
    await expect(page.locator("#composer")).to_have_value("Can you help, @agent-7 ")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".message[data-note]")).to_contain_text("Can you help, @agent-7")
    assert "agent-7" in str(await expect_json(client.get(f"{api_path(case)}/followers")))


@pytest.mark.long
async def test_macros_that_cannot_be_read_are_asked_for_again(console, client, case):
    """The composer says why there are none."""
    console.loses_connections = True
    await client.put("/support/macros/thanks", json={"text": "Thank you."})
    page = await console.open(case)
    await page.route("**/support/macros?**", lambda route: route.abort())
    await page.locator("#composer").click()
    await page.keyboard.type(";")
    await expect(page.locator(".composer").get_by_text("The service did not answer.")).to_be_visible()
    await page.get_by_role("button", name="Macro").click()
    await expect(page.locator(".composer").get_by_text("The service did not answer.")).to_be_visible()
    await page.unroute("**/support/macros?**")
    await page.locator("#composer").click()
    await page.keyboard.type("th")
    await expect(page.get_by_role("option", name="thanks")).to_be_visible()
    await expect(page.locator(".composer").get_by_text("The service did not answer.")).to_have_count(0)


@pytest.mark.long
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu"])
async def test_snooze_ends_at_the_time_of_the_readers_zone(console, client, case, zone):
    """Tomorrow at nine is nine where the browser is, and so is a time that is typed."""
    page = await console.open(case, timezone_id=zone)
    await page.keyboard.press("h")
    await page.get_by_role("dialog").get_by_role("button", name="Tomorrow morning").click()
    await expect(page.locator(".toast")).to_contain_text("09:00")
    until = datetime.fromisoformat((await read_case(client, case))["snoozedUntil"]).astimezone(ZoneInfo(zone))
    assert (until.hour, until.minute) == (9, 0)
    assert (until.date() - datetime.now(ZoneInfo(zone)).date()).days in (0, 1)
    typed = (until + timedelta(days=3)).replace(hour=16, minute=45, tzinfo=None)
    await undo_by_key(page)
    await expect(page.get_by_role("button", name="Status: Open")).to_be_visible()
    await page.keyboard.press("h")
    await page.get_by_label("Another time").fill(typed.isoformat(timespec="minutes"))
    await page.keyboard.press("Enter")
    await expect(page.locator(".toast")).to_contain_text("16:45")
    until = datetime.fromisoformat((await read_case(client, case))["snoozedUntil"])
    assert until.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == typed
