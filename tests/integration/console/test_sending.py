"""Sending: no note reaches a customer, the key does what the button says, and no key is lost."""

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, list_cases, open_case, read_case, read_detail
from tests.support.console.browser import expect_accessible, follow, held, press, send, settled, undo_by_key
from tests.support.console.samples import api_path, messages, open_waiting

CODE = "**/console/static/**/parts/{}.js"
SENT = "**/support/cases/*/messages"


@pytest.fixture
async def page(console, client, case):
    """The page of a case that is assigned to its reader, so that replies change nothing else."""
    await client.patch(f"/support/cases/{case['id']}", json={"assignedAgentId": "anyone", "status": "pending"})
    return await console.open(case)


@pytest.fixture
async def first(console, client):
    """The first of two cases, which are assigned to their reader, opened from the list of both."""
    await open_waiting(client, "First", "Second", assignedAgentId="anyone")
    page = await console.open("/console/?view=mine")
    await follow(page, "First")
    await settled(page)
    return page


def note(page):
    return page.get_by_role("textbox", name="Internal note")


def reply(page):
    return page.get_by_role("textbox", name="Reply")


async def write_reply(page, text):
    await page.keyboard.press("r")
    await expect(reply(page)).to_be_focused()
    await page.keyboard.type(text)


@pytest.mark.parametrize(
    "hand", ["key", *(pytest.param(each, marks=pytest.mark.long) for each in ("button", "menu", "menu by keys"))]
)
async def test_note_after_a_reply_stays_internal(page, client, case, hand):
    """After sending, the keys are for the conversation at once: `n` begins a note, although the reply is on its way."""
    released = await held(page, SENT)
    await write_reply(page, "On its way.")
    if hand == "key":
        await page.keyboard.press("Control+Enter")
    elif hand == "button":
        await page.get_by_role("button", name="Send reply").click()
    elif hand == "menu":
        await page.get_by_role("button", name="Other ways to send").click()
        await page.get_by_role("option", name="Send reply").first.click()
    else:
        await page.keyboard.press("Alt+Enter")
        await expect(page.locator(".choices input")).to_be_focused()
        await page.keyboard.press("1")
    await expect(page.get_by_role("log")).to_be_focused()
    await press(page, "nCarrier called.", "Control+Enter")
    released.set()
    await expect(page.locator(".message[data-note]")).to_contain_text("Carrier called.")
    assert (await messages(client, case))[1:] == [("On its way.", "public"), ("Carrier called.", "internal")]


@pytest.mark.long
async def test_note_after_a_reply_that_failed_stays_internal(page, console, client, case):
    """The keys stay with the conversation, and the reply is kept. A line says which of the two was not sent.

    A sent reply after which the case can't be read again is not said to be unsent.
    """
    console.loses_connections = True
    await page.route(SENT, lambda route: route.abort())
    await write_reply(page, "On its way.")
    await page.keyboard.press("Control+Enter")
    failure = page.locator(".composer").get_by_role("alert")
    await expect(failure).to_contain_text("The reply is not sent, and kept as a draft")
    await page.unroute(SENT)
    await page.keyboard.type("nCarrier called.")
    await expect(failure).to_be_visible()
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".message[data-note]")).to_contain_text("Carrier called.")
    await page.keyboard.press("r")
    await expect(reply(page)).to_have_value("On its way.")
    await page.route(f"**{api_path(case)}", lambda route: route.abort())
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".case-message")).to_contain_text("The service did not answer.")
    await expect(failure).to_have_count(0)
    await expect(reply(page)).to_have_value("")
    assert (await messages(client, case))[1:] == [("Carrier called.", "internal"), ("On its way.", "public")]


@pytest.mark.long
async def test_question_about_a_reply_does_not_take_a_note(page, console, client, case):
    """It opens no dialog over a note that is being written, and a dialog takes no text for an answer."""
    console.refused = {412}
    released = await held(page, SENT)
    await write_reply(page, "On its way.")
    await add_message(client, case, "Solved by another")
    await expect(page.get_by_role("log")).to_contain_text("Solved by another")
    await press(page, "Control+Enter", "nCarrier ")
    released.set()
    await expect(page.locator(".composer").get_by_role("alert")).to_contain_text("The reply is not sent")
    await page.keyboard.type("called.")
    await expect(note(page)).to_have_value("Carrier called.")
    await press(page, "Escape", "r", "Control+Enter")
    question = page.get_by_role("dialog", name="The case has changed")
    await expect(question).to_be_visible()
    await page.keyboard.type("nThe carrier")
    await expect(question).to_be_visible()
    await press(page, "Enter", "Enter")
    await expect(reply(page)).to_be_focused()
    await expect(reply(page)).to_have_value("On its way.")
    assert (await messages(client, case))[1:] == [("Solved by another", "public")]


@pytest.mark.long
async def test_next_case_does_not_take_the_text_of_a_note(first, client):
    """A writer who begins a note while "send, next case" is on its way stays at the case."""
    released = await held(first, SENT)
    await write_reply(first, "On its way.")
    await press(first, "Control+Shift+Enter", "nCarrier")
    released.set()
    await expect(first.get_by_role("button", name="Status: Pending")).to_be_visible()
    await press(first, " called.", "Control+Shift+Enter")
    await expect(first.get_by_role("heading", name="Second")).to_be_visible()
    cases = {each["subject"]: each for each in (await list_cases(client))["items"]}
    sent = [("On its way.", "public"), ("Carrier called.", "internal")]
    assert (await messages(client, cases["First"]))[1:] == sent
    assert cases["Second"]["status"] == "open"


@pytest.mark.long
async def test_sent_reply_is_no_draft_where_its_writer_has_come_back(first):
    """Its case was left and opened again while it was on its way. A note that was begun there stays."""
    released = await held(first, SENT)
    await write_reply(first, "On its way.")
    await press(first, "Control+Enter", "j")
    await expect(first.get_by_role("heading", name="Second")).to_be_visible()
    await first.keyboard.press("k")
    await expect(first.get_by_role("heading", name="First")).to_be_visible()
    await first.keyboard.type("nCarrier called.")
    released.set()
    await expect(first.locator(".message").last).to_contain_text("On its way.")
    await expect(note(first)).to_have_value("Carrier called.")
    await first.get_by_role("button", name="Reply", exact=True).click()
    await expect(reply(first)).to_have_value("")


async def test_unfilled_macro_is_not_sent(page, client, case):
    """Sending asks and selects the first gap. A variable of macros can't be sent, other braces are asked about once."""
    text = "Follow {{shipment.trackingNumber}} of {{order.id}}."
    await client.put("/support/macros/late", json={"text": text, "status": "resolved"})
    released = await held(page, "**/preview")
    await write_reply(page, ";late")
    await expect(page.locator(".suggestions").get_by_role("option")).to_have_count(1)
    await page.keyboard.press("Enter")
    await page.keyboard.press("Control+Enter")  # before the macro is there
    released.set()
    question = page.get_by_role("dialog", name="The reply has a gap")
    await expect(question).to_contain_text("{{shipment.trackingNumber}}")
    await expect(question.get_by_role("button")).to_have_text(["Keep editing"])
    await expect_accessible(page)
    await page.keyboard.press("Enter")
    await expect(reply(page)).to_be_focused()
    await page.keyboard.type("VN1")
    await expect(reply(page)).to_have_value("Follow VN1 of ORD-1001.")
    await press(page, " {{name}}", "Control+Enter")
    await question.get_by_role("button", name="Send anyway").click()
    await expect(page.get_by_role("log")).to_be_focused()
    await expect(page.get_by_role("log")).to_contain_text("Follow VN1 {{name}} of ORD-1001.")
    assert len(await messages(client, case)) == 2


@pytest.mark.long
async def test_reply_that_mentions_a_colleague_is_asked_about_once(page, console, client, case):
    """Neither an address nor a note is asked about."""
    console.loses_connections = True
    await page.route(SENT, lambda route: route.abort())
    await write_reply(page, "@jon: please call ann@example.org.")
    await page.keyboard.press("Control+Enter")
    question = page.get_by_role("dialog", name="The reply mentions a colleague")
    await expect(question).to_contain_text("The customer would read @jon.")
    await expect_accessible(page)
    await page.keyboard.press("Enter")
    await expect(reply(page)).to_be_focused()
    assert await page.evaluate("getSelection().toString()") == "@jon"
    await page.keyboard.press("Control+Enter")
    await question.get_by_role("button", name="Send anyway").click()
    await expect(page.locator(".composer").get_by_role("alert")).to_be_visible()
    await page.unroute(SENT)
    await press(page, "r", "Control+Enter")
    await expect(page.locator(".message").last).to_contain_text("@jon: please call")
    await press(page, "n@jon: done", "Control+Enter")
    await expect(page.locator(".message[data-note]")).to_contain_text("@jon: done")
    assert len(await messages(client, case)) == 3


async def test_key_does_what_the_button_says(console, client, case):
    """Ctrl+Enter does what is on the button. Each way in the menu has a digit, and the button keeps the last one.

    The undo of a reply says what it undoes: the changes that came with it. Its line leaves the composer free.
    """
    page = await console.open(case)
    button, toast = page.locator("button.send"), page.locator(".toast")
    await write_reply(page, "On its way.")
    await expect(button).to_have_text("Send and set Pending")
    await expect(button).to_have_attribute("title", "Ctrl + Enter")
    await page.keyboard.press("Control+Enter")
    await expect(toast).to_contain_text("Sent. Status: Pending. Assignee: anyone")
    line, composer = await toast.bounding_box(), await page.locator(".composer").bounding_box()
    assert line["x"] >= composer["x"] + composer["width"]
    await toast.get_by_role("button", name="Undo").click()
    await expect(toast).to_have_text("Undone: Status: Pending. Assignee: anyone")
    detail = await read_detail(client, case)
    assert (detail["status"], detail["assignedAgentId"]) == ("open", None)
    assert detail["messages"][-1]["message"] == "On its way."
    await write_reply(page, "It has arrived.")
    await page.keyboard.press("Alt+Enter")
    ways = page.get_by_role("listbox", name="Other ways to send").get_by_role("option")
    await expect(ways.locator("kbd")).to_have_text(list("123456"))
    await expect(ways.nth(2)).to_contain_text("Ctrl + Enter")
    await expect(ways.nth(3)).to_contain_text("Ctrl + Shift + Enter")
    await expect_accessible(page)
    await page.keyboard.press("5")
    await expect(page.get_by_role("button", name="Status: Resolved")).to_be_visible()
    await undo_by_key(page)
    await expect(page.get_by_role("button", name="Status: Open")).to_be_visible()
    await write_reply(page, "Really.")
    await expect(button).to_have_text("Send and set Resolved")
    await page.keyboard.press("Control+Enter")
    await expect(page.get_by_role("button", name="Status: Resolved")).to_be_visible()


@pytest.mark.long
async def test_keys_for_a_dialog_that_is_loading_reach_it(console, client, case):
    """None of them is a command of the page, such as `c`. The second time is chosen, and the text is searched."""
    other = await open_case(client, subject="Carton damaged", customerId="customer-17")
    page = await console.open(case)
    for name in ("case-actions", "case-dialogs"):
        released = await held(page, CODE.format(name))
        async with page.expect_request(CODE.format(name)):
            await page.keyboard.press("h")
        for key in ("c", "Tab", "Enter"):
            await page.keyboard.press(key)
        released.set()
        await expect(page.get_by_role("status").filter(has_text="Snoozed until")).to_be_visible()
        detail = await read_detail(client, case)
        assert (detail["status"], detail["assignedAgentId"]) == ("pending", None)
        await undo_by_key(page)
        await expect(page.get_by_role("button", name="Status: Open")).to_be_visible()
        await page.reload()
        await settled(page)
    released = await held(page, CODE.format("case-dialogs"))
    await page.get_by_role("button", name="More actions").press("Enter")
    async with page.expect_request(CODE.format("case-dialogs")):
        await press(page, "merge", "Enter")
    await page.keyboard.type("carton")
    released.set()
    dialog = page.get_by_role("dialog")
    await expect(dialog.get_by_role("searchbox")).to_have_value("carton")
    await expect(dialog.get_by_role("button", name=other["subject"])).to_be_visible()


@pytest.mark.long
async def test_what_is_typed_before_the_case_is_shown_is_in_the_note(console, client, case):
    """Right after `Enter` in the queue, while the page and its case are loading. Enter begins a line.

    None of its keys is a command: `gr` would open a view, and `c` claim the case. Ctrl+Enter adds the note. What
    follows is for the conversation.
    """
    page = await console.open()
    code, answer = await held(page, "**/pages/case.js"), await held(page, f"**{api_path(case)}")
    await page.keyboard.press("j")
    async with page.expect_request("**/pages/case.js"):
        await page.keyboard.press("Enter")
    await page.keyboard.type("ngreat: carrier")
    code.set()
    await expect(page.get_by_text("Loading")).to_be_visible()
    await press(page, " calledd", "Backspace", "Enter", "It is lost.", "Control+Enter", "rSorry")
    answer.set()
    await expect(reply(page)).to_have_value("Sorry")
    await expect(reply(page)).to_be_focused()
    await expect(page.locator(".message[data-note]")).to_contain_text("It is lost.")
    assert (await messages(client, case))[1:] == [("great: carrier called\nIt is lost.", "internal")]
    assert (await read_case(client, case))["assignedAgentId"] is None


@pytest.mark.long
async def test_keys_that_are_held_are_for_what_they_were_typed_for(page, client, case):
    """What is typed while a message is on its way becomes the next one of its kind, and no part of the first.

    It stays out of the palette, and of the reply that its writer opens in place of a note.
    """
    released = await held(page, SENT)
    await write_reply(page, "One")
    await press(page, "Control+Enter", "rTwo")
    await expect(reply(page)).to_have_value("One")
    await page.keyboard.press("Control+k")
    await expect(page.locator(".palette input")).to_be_focused()
    await page.keyboard.type("audit")
    released.set()
    await expect(reply(page)).to_have_value("Two")
    await expect(page.locator(".palette input")).to_have_value("audit")
    await press(page, "Escape", "r", "Control+Enter")
    await expect(page.get_by_role("log")).to_contain_text("Two")
    released = await held(page, SENT)
    await press(page, "nThree", "Control+Enter", "nFour")
    await page.get_by_role("button", name="Reply", exact=True).click()
    await page.keyboard.type("Dear customer")
    released.set()
    await expect(page.get_by_role("button", name="Internal note")).to_have_attribute("data-draft", "")
    await expect(reply(page)).to_have_value("Dear customer")
    await press(page, "Escape", "n")
    await expect(note(page)).to_have_value("Four")
    assert (await messages(client, case))[1:] == [("One", "public"), ("Two", "public"), ("Three", "internal")]


@pytest.mark.long
async def test_note_survives_a_reply_that_another_tab_sends(page, console, case):
    """A tab takes up what another one has written, also while it sends."""
    released = await held(page, SENT)
    other = await console.open(case, profile=page.context)
    await settled(other)
    await write_reply(page, "On its way.")
    await page.keyboard.press("Control+Enter")
    await other.keyboard.type("nCarrier called.")
    await expect(page.get_by_role("button", name="Internal note")).to_have_attribute("data-draft", "")
    released.set()
    await expect(page.get_by_role("log")).to_contain_text("On its way.")
    await expect(reply(page)).to_have_value("")
    await other.reload()
    await settled(other)
    await other.keyboard.press("n")
    await expect(note(other)).to_have_value("Carrier called.")


@pytest.mark.long
async def test_macros_that_are_chosen_fast_are_filled(page, client, case):
    """Enter waits for the list, letters after the button for macros are no commands, and all macros are filled."""
    await client.put("/support/macros/late", json={"text": "It is late, and we are sorry."})
    await client.put("/support/macros/bye", json={"text": "Goodbye."})
    listed = await held(page, "**/support/macros?*")
    filled = await held(page, "**/preview")
    await page.get_by_role("button", name="Reply", exact=True).click()
    async with page.expect_request("**/support/macros?*"):
        await page.locator("button.macro").click()
    await press(page, "Escape", ";late", "Enter")
    listed.set()
    await press(page, " ;bye", "Enter", "Control+Enter")
    filled.set()
    await expect(page.get_by_role("log")).to_contain_text("Goodbye.")
    assert (await messages(client, case))[1:] == [("It is late, and we are sorry. Goodbye.", "public")]


@pytest.mark.long
async def test_note_for_the_next_case_gets_into_no_reply(first):
    """All of it is typed while a reply is on its way: the reply after it, `Esc`, `j`, and a note."""
    released = await held(first, SENT)
    await write_reply(first, "One")
    await press(first, "Control+Enter", "rTwo", "Escape", "jnCarrier called.")
    released.set()
    await expect(first.get_by_role("heading", name="Second")).to_be_visible()
    await expect(note(first)).to_have_value("Carrier called.")
    await press(first, "Escape", "kr")
    await expect(first.get_by_role("heading", name="First")).to_be_visible()
    await expect(reply(first)).to_have_value("Two")


async def test_reply_and_note_have_drafts_of_their_own(console, client, case):
    """The text of a note never gets into a reply, not even by undoing. Both drafts survive a reload.

    After sending nothing is left. Programs that drive the page find the composer as the last text box.
    """
    page = await console.open(case)
    composer = page.locator("#composer")
    assert await page.get_by_role("textbox").last.get_attribute("id") == "composer"
    await page.get_by_role("button", name="Internal note").click()
    await expect(composer).to_be_focused()
    await page.keyboard.type("The customer is on the fraud list.")
    await page.get_by_role("button", name="Reply", exact=True).click()
    await expect(composer).to_have_value("")
    await expect(composer).to_be_focused()
    await page.keyboard.press("Control+z")
    await expect(composer).to_have_value("")
    await page.keyboard.type("We are looking into it.")
    await page.reload()
    await expect(composer).to_have_value("We are looking into it.")
    await page.get_by_role("button", name="Internal note").click()
    await expect(composer).to_have_value("The customer is on the fraud list.")
    await page.get_by_role("button", name="Reply", exact=True).click()
    await composer.press("Control+Enter")
    await expect(composer).to_have_value("")
    await page.get_by_role("button", name="Internal note").click()
    await expect(composer).to_have_value("The customer is on the fraud list.")
    await settled(page)
    await composer.press("Control+Enter")  # the own reply raises no question
    await expect(page.locator(".message[data-note]")).to_be_visible()
    await page.reload()
    await expect(composer).to_have_value("")
    sent = [("We are looking into it.", "public"), ("The customer is on the fraud list.", "internal")]
    assert (await messages(client, case))[1:] == sent


async def test_neither_of_two_agents_answers_over_the_other(console, client, case):
    """The second one sees the first one's answer, and decides: to keep editing, or to send it all the same."""
    console.refused = {412}
    first, second = await console.open(case), await console.open(case)
    composer, dialog = second.locator("#composer"), second.get_by_role("dialog")
    await composer.fill("Second answer")
    await send(first, "First answer")
    await expect(first.get_by_role("button", name="Assignee: anyone")).to_be_visible()  # the answer's last change
    await composer.press("Control+Enter")
    await expect(dialog.get_by_text("First answer")).to_be_visible()
    await expect_accessible(second)
    await dialog.get_by_role("button", name="Keep editing").click()
    await expect(composer).to_have_value("Second answer")
    assert len(await messages(client, case)) == 2
    await add_message(client, case, "One more")
    await expect(second.get_by_role("log")).to_contain_text("One more")
    await composer.press("Control+Enter")
    await dialog.get_by_role("button", name="Send anyway").click()
    await expect(composer).to_have_value("")
    sent = [text for text, _ in await messages(client, case)][1:]
    assert sent == ["First answer", "One more", "Second answer"]


GIVE = """([event, name, member]) => {
  const data = new DataTransfer();
  data.items.add(new File([name], name, {type: "text/plain"}));
  const kind = event === "paste" ? ClipboardEvent : DragEvent;
  document.querySelector("#composer").dispatchEvent(
    new kind(event, {bubbles: true, cancelable: true, [member]: data}));
}"""


async def test_files_are_dropped_and_pasted(console, client, case):
    """Both ways lead to the same list, which belongs to the note; its files are internal.

    A button takes a file off the list, and deletes it; the message names the others only.
    """
    page = await console.open(case)
    await page.get_by_role("button", name="Internal note").click()
    for event, name, member in (
        ("drop", "dropped.txt", "dataTransfer"),
        ("paste", "pasted.txt", "clipboardData"),
        ("drop", "removed.txt", "dataTransfer"),
    ):
        await page.evaluate(GIVE, [event, name, member])
        await expect(page.locator(".uploads").get_by_text(name)).to_be_visible()
    await expect(page.get_by_text("stored, SHA-256 verified")).to_have_count(3)
    async with page.expect_response(lambda answer: answer.request.method == "DELETE") as deleted:
        await page.get_by_role("button", name="Remove removed.txt").click()
    assert (await deleted.value).status == 204
    await expect(page.locator(".uploads li")).to_have_count(2)
    await page.get_by_role("button", name="Reply").click()
    await send(page, "No files here.", is_sent=True)
    assert (await read_detail(client, case))["attachments"] == []
    await page.get_by_role("button", name="Internal note").click()
    await send(page, "See the files.", is_sent=True)
    for name in ("dropped.txt", "pasted.txt"):
        await expect(page.locator(".message[data-note]").get_by_role("link", name=name)).to_be_visible()
    detail = await read_detail(client, case)
    files = [(each["filename"], each["visibility"]) for each in detail["attachments"]]
    assert files == [("dropped.txt", "internal"), ("pasted.txt", "internal")]
    assert detail["messages"][-1]["attachmentIds"] == [each["id"] for each in detail["attachments"]]
