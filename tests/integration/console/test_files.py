"""Files: cancelled, retried and refused; deleted; previewed."""

import base64
import re

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, read_detail, upload
from tests.support.console.browser import expect_accessible, send
from tests.support.console.hands import set_file
from tests.support.console.samples import MEGABYTE
from tests.support.service import own_client

client = own_client

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)

# The next request is sent, and looks as if its connection was lost before the answer came.
LOSE_AN_ANSWER = """() => {
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (body) {
    XMLHttpRequest.prototype.send = send;
    this.onload = () => this.onerror();
    send.call(this, body);
  };
}"""


async def limit_uploads(session, bytes_per_second):
    """Limit what a page sends; -1 removes the limit."""
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    await session.send("Network.emulateNetworkConditions", limits)


@pytest.mark.long
async def test_upload_shows_progress_and_can_be_cancelled_and_retried(console, client, case, video):
    """A message leaves out a cancelled file; the retry stores it once.

    So does the retry of one whose answer was lost: it has the same idempotency key.
    """
    page = await console.open(case)
    session = await page.context.new_cdp_session(page)
    await limit_uploads(session, MEGABYTE / 4)
    await set_file(page, video)
    await expect(page.locator(".uploads").get_by_text(re.compile(r"[1-9]\d? %"))).to_be_visible()
    await expect(page.get_by_role("progressbar", name="Progress of video.mp4")).to_be_visible()
    await expect_accessible(page)
    await page.get_by_role("button", name="Cancel video.mp4").click()
    await expect(page.locator(".uploads").get_by_text("cancelled")).to_be_visible()
    await send(page, "Without the file.", is_sent=True)
    assert (await read_detail(client, case))["attachments"] == []
    await limit_uploads(session, -1)
    await page.evaluate(LOSE_AN_ANSWER)
    for failure in ("The service did not answer.", None):
        await page.get_by_role("button", name="Try again").click()
        if failure:
            await expect(page.locator(".uploads").get_by_text(failure)).to_be_visible()
    await expect(page.get_by_text("stored, SHA-256 verified")).to_be_visible()
    await send(page, "See the files.", is_sent=True)
    assert len((await read_detail(client, case))["attachments"]) == 1


@pytest.fixture
def small_files(environment):
    """Files of more than 100 bytes, and all but texts, are refused; requested before `client`."""
    environment |= {"SUPPORT_ATTACHMENT_MAX_BYTES": "100", "SUPPORT_ATTACHMENT_TYPES": "text/plain"}


async def test_refusal_of_a_file_is_explained(small_files, console, client, case):
    """Each reason is in plain words. Sending without such a file asks first; what is stored goes with the message."""
    console.refused = {413, 415}
    page = await console.open(case)
    large = {"name": "large.txt", "mimeType": "text/plain", "buffer": b"x" * 101}
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": PICTURE}
    reasons = ("stored, SHA-256 verified", "Files of this type are not allowed.", "larger than 100 B, the most that is")
    for file, reason in zip((large | {"name": "good.txt", "buffer": b"x"}, picture, large), reasons, strict=True):
        await page.locator("input[type=file]").set_input_files(file)
        await expect(page.get_by_text(reason)).to_be_visible()
    await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    await send(page, "See the files.")
    dialog = page.get_by_role("dialog", name="Send without these files?")
    await expect(dialog.get_by_text("Not uploaded: a.png, large.txt")).to_be_visible()
    await expect_accessible(page)
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#composer")).to_have_value("See the files.")
    assert (await read_detail(client, case))["attachments"] == []
    await page.get_by_role("button", name="Send and set Pending").click()
    await dialog.get_by_role("button", name="Send without them").click()
    await expect(page.locator("#composer")).to_have_value("")
    assert [file["filename"] for file in (await read_detail(client, case))["attachments"]] == ["good.txt"]
    await expect(page.locator(".uploads li")).to_have_count(2)


async def test_an_agent_deletes_a_file_of_the_case_after_a_question(console, client, case):
    """It is gone for everybody, and the history says who deleted it."""
    await upload(client, case, filename="wrong.txt")
    page = await console.open(case)
    await page.locator(".timeline").get_by_role("button", name="Delete wrong.txt").click()
    dialog = page.get_by_role("dialog", name="Delete the file?")
    await expect_accessible(page)
    await dialog.get_by_role("button", name="Cancel").click()
    assert len((await read_detail(client, case))["attachments"]) == 1
    await page.locator(".timeline").get_by_role("button", name="Delete wrong.txt").click()
    await dialog.get_by_role("button", name="Delete the file").click()
    await expect(page.get_by_role("link", name="wrong.txt")).to_have_count(0)
    await page.get_by_role("button", name="Changes", exact=True).click()
    await expect(page.locator(".fact").get_by_text("File removed")).to_be_visible()
    assert (await read_detail(client, case))["attachments"] == []


async def test_pictures_of_a_message_are_small_and_open(console, client, case):
    """Each has 96 px; the arrow keys lead from one to the next. When one is deleted, the other stays as it is.

    A picture that came with no message has a preview, which shows it from a blob, as the content policy allows.
    """
    sent = [await upload(client, case, PICTURE, filename=name, content_type="image/png") for name in ("a.png", "b.png")]
    await add_message(client, case, "Two pictures", attachmentIds=[each["id"] for each in sent])
    page = await console.open(case)
    dialog, small = page.get_by_role("dialog"), page.locator(".message", has_text="Two pictures").locator(".thumbnail")
    await expect(small.locator("img")).to_have_count(2)
    box = await small.locator("img").first.bounding_box()
    assert (box["width"], box["height"]) == (96, 96)
    await page.wait_for_function("() => document.querySelector('.thumbnail img').naturalWidth == 1")
    await page.get_by_role("button", name="Show a.png").click()
    for name, key in (("a.png", "ArrowRight"), ("b.png", "ArrowRight"), ("a.png", "Escape")):
        await expect(page.get_by_role("dialog", name=name).get_by_role("img", name=name)).to_be_visible()
        await expect_accessible(page)
        await page.keyboard.press(key)
    await expect(page.get_by_role("button", name="Show a.png")).to_be_focused()
    await small.nth(1).evaluate("each => each.id = 'of-b'")
    await client.delete(f"/support/cases/{case['id']}/attachments/{sent[0]['id']}")
    await expect(small).to_have_count(1)
    await expect(small).to_have_attribute("aria-label", "Show b.png")
    await expect(small).to_have_id("of-b")
    await upload(client, case, PICTURE, filename="photo.png", content_type="image/png")
    await page.locator(".timeline").get_by_role("button", name="Preview").click()
    await expect(dialog.get_by_role("img")).to_be_visible()
    assert await dialog.get_by_role("img").evaluate("each => each.complete && each.naturalWidth") == 1
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
