"""What an agent does with cases, in as few keys or clicks as promised, and without harm when things go wrong.

A text that is typed counts once, and so do the files that are chosen in the browser's dialog.
"""

import asyncio
import os
from functools import partial

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.support.calls import eventually, open_case, read_detail
from tests.support.console.browser import follow, held, lose, send, settled
from tests.support.console.hands import Counter, Keyboard, Mouse
from tests.support.console.samples import messages, open_waiting

RACES = int(os.environ.get("ANSWER_RACES", "10"))
LIMIT = 100  # bytes of a file
STAGED = "**/attachments?staged=true"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_client(make_shared_client):
    return await make_shared_client(SUPPORT_ATTACHMENT_MAX_BYTES=str(LIMIT))


@pytest.fixture
async def waiting(client):
    """Three cases whose customers wait, and a macro."""
    await client.put("/support/macros/sorry", json={"text": "We are sorry.", "tags": ["polite"]})
    return await open_waiting(client, "Longest", "Second", "Third")


async def expect_answered(client, case, *, holder):
    detail = await read_detail(client, case)
    assert [each["message"] for each in detail["messages"]] == ["Hello", "We are sorry."]
    assert (detail["status"], detail["tags"], detail["assignedAgentId"]) == ("pending", ["polite"], holder)


async def test_longest_waiting_case_is_taken_answered_and_left_with_seven_keys(console, client, waiting):
    """Claimed, answered with a macro, set pending; the next case of the view is open."""
    page = await console.open()
    await expect(page.get_by_role("link", name="Longest", exact=True)).to_be_visible()
    hand = Counter(page)
    await hand.keys("j", "Enter")
    await expect(page.get_by_role("heading", name="Longest", exact=True)).to_be_visible()
    await hand.keys("c")
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()
    await hand.keys("r", ";")
    await expect(page.get_by_role("option", name="sorry")).to_be_visible()
    await hand.keys("Enter")
    await expect(page.locator("#composer")).to_have_value("We are sorry.")
    await hand.keys("Control+Shift+Enter")
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await expect(page.get_by_text("2 of 3")).to_be_visible()
    assert hand.count <= 7
    await expect_answered(client, waiting[0], holder="anyone")


async def test_longest_waiting_case_is_taken_answered_and_left_with_five_clicks(console, client, waiting):
    """A reply assigns an unassigned case to its writer. The button keeps the chosen way to send for the next reply."""
    page = await console.open()
    user = Counter(page)
    await user.click(page.get_by_role("link", name="Longest", exact=True))
    await user.click(page.get_by_role("button", name="Macro ;"))
    await user.click(page.get_by_role("option", name="sorry"))
    await expect(page.locator("#composer")).to_have_value("We are sorry.")
    await user.click(page.get_by_role("button", name="Other ways to send"))
    await user.click(page.get_by_role("option", name="Send, set Pending, next case"))
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    assert user.count <= 5
    await expect_answered(client, waiting[0], holder="anyone")

    user = Counter(page)
    await user.click(page.get_by_role("button", name="Macro ;"))
    await user.click(page.get_by_role("option", name="sorry"))
    await page.get_by_label("Do not assign the case to me").click()
    await user.click(page.get_by_role("button", name="Send, set Pending, next case"))
    await expect(page.get_by_role("heading", name="Third")).to_be_visible()
    assert user.count <= 3
    await expect_answered(client, waiting[1], holder=None)


async def lose_one(route):
    if "lost.txt" in (route.request.post_data or ""):
        await route.abort()
    else:
        await route.continue_()


@pytest.mark.parametrize("hand", [pytest.param("keys", marks=pytest.mark.long), "mouse"])
async def test_files_that_fail_and_a_lost_connection_cost_nothing(console, client, case, hand):
    """One of three files is too large, one meets a lost connection: nothing is sent without a yes, and nothing is lost.

    The answer to the message itself is lost too; the page is loaded again with its files, and the repeat does not
    send it twice.
    """
    console.refused = {413}
    console.loses_connections = True
    page = await console.open(case)
    user, way = Counter(page), Keyboard() if hand == "keys" else Mouse()
    sizes = {"good.txt": LIMIT // 2, "large.txt": LIMIT + 1, "lost.txt": LIMIT // 2}
    files = [{"name": name, "mimeType": "text/plain", "buffer": b"x" * size} for name, size in sizes.items()]
    composer, send = page.locator("#composer"), page.get_by_role("button", name="Send and set Pending")

    async def send_it():
        await (user.keys("Control+Enter") if hand == "keys" else user.click(send))

    await page.route(STAGED, lose_one)
    await expect(composer).to_be_visible()
    if hand == "mouse":
        await user.click(composer)  # its buttons are there as soon as it is in use
    add = partial(user.keys, "f") if hand == "keys" else partial(user.click, page.locator("label.file-button"))
    await user.choose_file(files, add)
    uploads = page.locator(".uploads li")
    large, lost = (uploads.filter(has_text=name) for name in ("large.txt", "lost.txt"))
    await expect(large).to_contain_text(f"larger than {LIMIT} B")
    await expect(large.get_by_role("button", name="Try again")).to_have_count(0)
    await expect(lost).to_contain_text("The service did not answer.")
    await (user.keys("r") if hand == "keys" else user.click(composer))
    await user.type("See the files.")
    await send_it()
    question = page.get_by_role("dialog", name="Send without these files?")
    await expect(question).to_contain_text("Not uploaded: large.txt, lost.txt")
    await (user.keys("Escape") if hand == "keys" else user.click(question.get_by_role("button", name="Cancel")))
    await expect(question).to_have_count(0)
    assert len(await messages(client, case)) == 1
    await page.unroute(STAGED)
    await way.press(lost.get_by_role("button", name="Try again"))
    await expect(uploads.get_by_text("stored, SHA-256 verified")).to_have_count(2)
    await way.press(large.get_by_role("button", name="Remove large.txt"))
    await expect(uploads).to_have_count(2)

    await lose(page, "**/messages")
    await way.reach(composer)
    await send_it()
    await expect(page.locator(".composer").get_by_role("alert")).to_contain_text("The service did not answer.")
    await page.reload()
    await expect(composer).to_have_value("See the files.")
    await expect(uploads.get_by_text("stored, SHA-256 verified")).to_have_count(2)
    await way.reach(composer)
    await send_it()
    await expect(composer).to_have_value("")
    await expect(uploads).to_have_count(0)
    detail = await read_detail(client, case)
    assert [each["message"] for each in detail["messages"][1:]] == ["See the files."]
    assert sorted(each["filename"] for each in detail["attachments"]) == ["good.txt", "lost.txt"]
    assert detail["messages"][1]["attachmentIds"] == [each["id"] for each in detail["attachments"]]


@pytest.mark.long
async def test_files_of_a_draft_wait_for_their_writer(console, client, case):
    """An upload goes on while the writer looks at another case. After a reload, what was not stored is named."""
    await open_case(client, subject="Another case", customerId="customer-17")
    page = await console.open(case)
    released = await held(page, STAGED)
    file = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"notes"}
    async with page.expect_request(STAGED):
        await page.locator("input[type=file]").set_input_files(file)
    await follow(page, "Another case")
    await expect(page.locator(".uploads")).to_have_count(0)
    released.set()
    await page.go_back()
    stored = page.locator(".uploads").get_by_text("stored, SHA-256 verified")
    await expect(stored).to_be_visible()

    released = await held(page, STAGED)
    async with page.expect_request(STAGED):
        await page.locator("input[type=file]").set_input_files(file | {"name": "second.txt"})
    await page.reload()
    await expect(stored).to_have_count(1)
    second = page.locator(".uploads li").filter(has_text="second.txt")
    await expect(second).to_contain_text("Not uploaded when the page was closed. Add it again.")
    await expect(second.get_by_role("button", name="Try again")).to_have_count(0)
    released.set()
    await second.get_by_role("button", name="Remove second.txt").click()
    await send(page, "See the file.")
    await expect(page.locator(".uploads")).to_have_count(0)
    assert [each["filename"] for each in (await read_detail(client, case))["attachments"]] == ["notes.txt"]


async def sent_after(client, case, known):
    """Return all texts of a case once it has others than the known ones; they begin with these."""
    texts = [text for text, _ in await messages(client, case)]
    assert texts[: len(known)] == known
    return texts if len(texts) > len(known) else None


@pytest.mark.long
async def test_no_race_has_a_double_answer(console, client):
    """Two agents answer at the same moment: one answer is sent, and the other writer is asked, and keeps editing.

    Each of them uses the keyboard in one half of the races, and the mouse in the other.
    """
    console.refused = {412}
    (case,) = await open_waiting(client, "Race", assignedAgentId="anyone")
    await client.post(f"/support/cases/{case['id']}/status", json={"status": "pending"})  # replies change nothing else
    pages = [await console.open(case) for _ in range(2)]
    answers = ["Hello"]
    for number in range(RACES):
        users = [Keyboard() if number >> writer & 1 else Mouse() for writer in range(2)]
        for writer, page in enumerate(pages):
            await expect(page.locator(".timeline .message .text").last).to_have_text(answers[-1])
            await settled(page)
            if isinstance(users[writer], Keyboard):
                await page.keyboard.press("r")
            else:
                await page.locator("#composer").click()
            await page.keyboard.type(f"Answer {number} of {writer}")
        await asyncio.gather(*(send_as(user, page) for user, page in zip(users, pages, strict=True)))
        sent = await eventually(partial(sent_after, client, case, answers))
        winner = 0 if sent[-1].endswith("of 0") else 1
        loser = 1 - winner
        question = pages[loser].get_by_role("dialog", name="The case has changed")
        keep = question.get_by_role("button", name="Keep editing")
        await expect(keep).to_be_focused()
        await expect(pages[winner].get_by_role("dialog")).to_have_count(0)
        await (keep.press("Enter") if isinstance(users[loser], Keyboard) else keep.click())
        await expect(pages[loser].locator("#composer")).to_have_value(f"Answer {number} of {loser}")
        await expect(pages[winner].locator("#composer")).to_have_value("")
        await pages[loser].locator("#composer").fill("")
        for page in pages:
            await page.locator("#composer").blur()
        answers = [text for text, _ in await messages(client, case)]
        assert answers == sent
    assert len(answers) == RACES + 1


async def send_as(user, page):
    if isinstance(user, Keyboard):
        await page.keyboard.press("Control+Enter")
    else:
        await page.get_by_role("button", name="Send reply").click()
