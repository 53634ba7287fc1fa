"""What an agent does with cases, in as few keys or clicks as promised, and without harm when things go wrong."""

import asyncio
import os
from functools import partial

import pytest
from playwright.async_api import expect

from tests.support.calls import eventually, open_case, read_detail
from tests.support.console.browser import settled
from tests.support.console.hands import Counter
from tests.support.console.samples import case_path, messages, open_waiting

RACES = int(os.environ.get("ANSWER_RACES", "10"))
LIMIT = 100  # bytes of a file
STAGED = "**/attachments?staged=true"


@pytest.fixture
def environment(environment):
    """A low limit for files."""
    return environment | {"SUPPORT_ATTACHMENT_MAX_BYTES": str(LIMIT)}


@pytest.fixture
async def waiting(client):
    """Three cases whose customers wait, and a macro."""
    await client.put("/support/macros/sorry", json={"text": "We are sorry.", "tags": ["polite"]})
    return await open_waiting(client, "Longest", "Second", "Third")


async def expect_answered(client, case, *, holder):
    """Expect that the macro was sent, that the case waits for its customer, and who has it."""
    detail = await read_detail(client, case)
    assert [each["message"] for each in detail["messages"]] == ["Hello", "We are sorry."]
    assert (detail["status"], detail["tags"], detail["assignedAgentId"]) == ("pending", ["polite"], holder)


async def test_longest_waiting_case_is_taken_answered_and_left_with_seven_keys(console, client, waiting):
    """Claimed, answered with a macro, set pending; the next case of the view is open."""
    page = await console.open()
    await expect(page.get_by_role("link", name="Longest", exact=True)).to_be_visible()
    hand = Counter(page)
    await hand.keys("j", "Enter")
    await expect(page.get_by_role("heading", name="Longest")).to_be_visible()
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


async def test_longest_waiting_case_is_answered_and_left_with_five_clicks(console, client, waiting):
    """The way to send is chosen beside the button. The next reply has it on the button, so its case is claimed, too."""
    page = await console.open()
    for case, following, holder in ((waiting[0], "Second", None), (waiting[1], "Third", "anyone")):
        hand = Counter(page)
        if case is waiting[0]:
            await hand.click(page.get_by_role("link", name="Longest", exact=True))
        else:
            await hand.click(page.get_by_role("button", name="Claim"))
        await hand.click(page.get_by_role("button", name="Macro ;"))
        await hand.click(page.get_by_role("option", name="sorry"))
        await expect(page.locator("#composer")).to_have_value("We are sorry.")
        if case is waiting[0]:
            await hand.click(page.get_by_role("button", name="Other ways to send"))
            await hand.click(page.get_by_role("option", name="Send, set Pending, next case"))
        else:
            await hand.click(page.get_by_role("button", name="Send, set Pending, next case"))
        await expect(page.get_by_role("heading", name=following)).to_be_visible()
        assert hand.count <= 5
        await expect_answered(client, case, holder=holder)


async def test_files_that_fail_and_a_lost_connection_cost_nothing(console, client, case):
    """One of three files is too large, one meets a lost connection: nothing is sent without a yes, and nothing is lost.

    The answer to the message itself is lost too; the page is loaded again, and the repeat does not send it twice.
    """
    console.refused = {413}
    console.loses_connections = True
    page = await console.open(case_path(case))
    sizes = {"good.txt": LIMIT // 2, "large.txt": LIMIT + 1, "lost.txt": LIMIT // 2}
    files = [{"name": name, "mimeType": "text/plain", "buffer": b"x" * size} for name, size in sizes.items()]

    async def lose(route):
        if "lost.txt" in (route.request.post_data or ""):
            await route.abort()
        else:
            await route.continue_()

    await page.route(STAGED, lose)
    await page.locator("input[type=file]").set_input_files(files)
    uploads = page.locator(".uploads li")
    large, lost = (uploads.filter(has_text=name) for name in ("large.txt", "lost.txt"))
    await expect(large).to_contain_text(f"larger than {LIMIT} B")
    await expect(large.get_by_role("button", name="Try again")).to_have_count(0)
    await expect(lost).to_contain_text("The service did not answer.")
    await page.locator("#composer").fill("See the files.")
    await page.keyboard.press("Control+Enter")
    question = page.get_by_role("dialog", name="Send without these files?")
    await expect(question).to_contain_text("Not uploaded: large.txt, lost.txt")
    await page.keyboard.press("Escape")
    await expect(question).to_have_count(0)
    assert len(await messages(client, case)) == 1
    await page.unroute(STAGED)
    await lost.get_by_role("button", name="Try again").click()
    await expect(uploads.get_by_text("stored, SHA-256 verified")).to_have_count(2)
    await large.get_by_role("button", name="Remove large.txt").click()

    async def lose_answer(route):
        await route.fetch()
        await route.abort()

    await page.route("**/messages", lose_answer)
    await page.locator("#composer").press("Control+Enter")
    await expect(page.locator(".composer").get_by_role("alert")).to_contain_text("The service did not answer.")
    await expect(page.locator("#composer")).to_have_value("See the files.")
    await page.unroute("**/messages")
    await page.locator("#composer").press("Control+Enter")
    await expect(page.locator("#composer")).to_have_value("")
    detail = await read_detail(client, case)
    assert [each["message"] for each in detail["messages"][1:]] == ["See the files."]
    assert sorted(each["filename"] for each in detail["attachments"]) == ["good.txt", "lost.txt"]


async def test_draft_keeps_its_key_over_a_reload(console, client, case):
    """A message whose answer was lost is not sent twice, and a changed one is not taken for it."""
    console.loses_connections = True
    console.refused = {422}
    page = await console.open(case_path(case))
    sent = []

    async def lose_answer(route):
        sent.append(route.request.headers["idempotency-key"])
        await route.fetch()
        await route.abort()

    for text, expected in (("On its way.", ["On its way."]), ("Another.", ["On its way.", "Another."])):
        await page.route("**/messages", lose_answer)
        await page.locator("#composer").fill(text)
        await page.locator("#composer").press("Control+Enter")
        await expect(page.locator(".composer").get_by_role("alert")).to_be_visible()
        await page.unroute("**/messages")
        await page.reload()
        await expect(page.locator("#composer")).to_have_value(text)
        await page.locator("#composer").press("Control+Enter")
        await expect(page.locator("#composer")).to_have_value("")
        assert [text for text, _ in await messages(client, case)][1:] == expected
    assert len(set(sent)) == 2

    await page.route("**/messages", lose_answer)
    await page.locator("#composer").fill("A third one.")
    await page.locator("#composer").press("Control+Enter")
    await expect(page.locator(".composer").get_by_role("alert")).to_be_visible()
    await page.unroute("**/messages")
    await page.locator("#composer").fill("A third one, in other words.")
    await page.locator("#composer").press("Control+Enter")
    await expect(page.locator(".composer").get_by_role("alert")).to_contain_text("was sent already")
    await expect(page.locator("#composer")).to_have_value("A third one, in other words.")
    assert len(await messages(client, case)) == 4


async def sent_after(client, case, known):
    """Return all texts of a case once it has others than the known ones; they begin with these."""
    texts = [text for text, _ in await messages(client, case)]
    assert texts[: len(known)] == known
    return texts if len(texts) > len(known) else None


async def test_no_race_has_a_double_answer(console, client):
    """Two agents answer at the same moment: one answer is sent, and the other writer is asked, and keeps editing."""
    console.refused = {412}
    case = await open_case(client, subject="Race", initialMessage={"authorType": "customer", "message": "Hello"})
    pages = [await console.open(case_path(case)) for _ in range(2)]
    answers = ["Hello"]
    for number in range(RACES):
        for writer, page in enumerate(pages):
            await expect(page.locator(".timeline .message .text").last).to_have_text(answers[-1])
            await settled(page)
            await page.locator("#composer").fill(f"Answer {number} of {writer}")
        await asyncio.gather(*(page.locator("#composer").press("Control+Enter") for page in pages))
        sent = await eventually(partial(sent_after, client, case, answers))
        winner = 0 if sent[-1].endswith("of 0") else 1
        loser = 1 - winner
        question = pages[loser].get_by_role("dialog", name="The case has changed")
        await expect(question.get_by_role("button", name="Keep editing")).to_be_focused()
        await expect(pages[winner].get_by_role("dialog")).to_have_count(0)
        await pages[loser].keyboard.press("Enter")
        await expect(pages[loser].locator("#composer")).to_have_value(f"Answer {number} of {loser}")
        await expect(pages[winner].locator("#composer")).to_have_value("")
        await pages[loser].locator("#composer").fill("")
        answers = [text for text, _ in await messages(client, case)]
        assert answers == sent
    assert len(answers) == RACES + 1
