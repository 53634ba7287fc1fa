"""Files: chosen, dropped and pasted; cancelled, retried and refused; previewed."""

import base64
import re

import pytest
from playwright.async_api import expect

from tests.integration.console.conftest import MEGABYTE
from tests.integration.console.test_case import path
from tests.support.calls import read_detail, upload
from tests.support.console.browser import expect_accessible
from tests.support.console.hands import set_file

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


def a_file(name="photo.bin", size=10, content=None):
    """Return a file as Playwright gives it to an input."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content or b"x" * size}


async def limit_uploads(session, bytes_per_second):
    """Limit what a page sends; -1 removes the limit."""
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": bytes_per_second}
    await session.send("Network.emulateNetworkConditions", limits)


async def test_file_of_20_mb_is_stored_and_verified(console, client, case, video):
    """The browser sends its SHA-256, which the service compares."""
    page = await console.open(path(case))
    await set_file(page, video)
    await expect(page.get_by_text("stored, SHA-256 verified")).to_be_visible()
    (stored,) = (await read_detail(client, case))["attachments"]
    assert (stored["filename"], stored["sizeBytes"]) == ("video.mp4", 20 * MEGABYTE)
    await expect(page.locator(".timeline").get_by_role("link", name="video.mp4")).to_be_visible()


async def test_upload_shows_progress_and_can_be_cancelled_and_retried(console, client, case, video):
    """A cancelled file is not stored; the retry stores it once."""
    page = await console.open(path(case))
    session = await page.context.new_cdp_session(page)
    await limit_uploads(session, 2 * MEGABYTE)
    await set_file(page, video)
    await expect(page.locator(".uploads").get_by_text(re.compile(r"[1-9]\d? %"))).to_be_visible()
    await expect(page.get_by_role("progressbar", name="Progress of video.mp4")).to_be_visible()
    await expect_accessible(page)
    await page.get_by_role("button", name="Cancel video.mp4").click()
    await expect(page.locator(".uploads").get_by_text("cancelled")).to_be_visible()
    assert (await read_detail(client, case))["attachments"] == []
    await limit_uploads(session, -1)
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_text("stored, SHA-256 verified")).to_be_visible()
    assert len((await read_detail(client, case))["attachments"]) == 1


async def test_retry_after_a_lost_answer_stores_the_file_once(console, client, case):
    """It has the same idempotency key."""
    page = await console.open(path(case))

    await page.evaluate(LOSE_AN_ANSWER)
    await page.locator("input[type=file]").set_input_files(a_file())
    await expect(page.locator(".uploads").get_by_text("The service did not answer.")).to_be_visible()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_text("stored, SHA-256 verified")).to_be_visible()
    assert len((await read_detail(client, case))["attachments"]) == 1


@pytest.fixture
def small_files(environment):
    """Files of more than 100 bytes, and all but texts, are refused; requested before `client`."""
    environment |= {"SUPPORT_ATTACHMENT_MAX_BYTES": "100", "SUPPORT_ATTACHMENT_TYPES": "text/plain"}


async def test_refusal_of_a_file_is_explained(small_files, console, case):
    """Each reason is in plain words."""
    console.refused = {413, 415}
    page = await console.open(path(case))
    large = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"x" * 101}
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": PICTURE}
    for file, reason in (
        (large, "The file is too large for this service."),
        (picture, "Files of this type are not allowed."),
    ):
        await page.locator("input[type=file]").set_input_files(file)
        await expect(page.get_by_text(reason)).to_be_visible()
    await expect_accessible(page)


async def test_files_are_dropped_and_pasted(console, client, case):
    """Both ways lead to the same list; a file beside a note is internal."""
    page = await console.open(path(case))
    await page.get_by_role("button", name="Internal note").click()
    for event, name, member in (("drop", "dropped.txt", "dataTransfer"), ("paste", "pasted.txt", "clipboardData")):
        await page.evaluate(
            """([event, name, member]) => {
              const data = new DataTransfer();
              data.items.add(new File(["text"], name, {type: "text/plain"}));
              const kind = event === "paste" ? ClipboardEvent : DragEvent;
              document.querySelector("#composer").dispatchEvent(
                new kind(event, {bubbles: true, cancelable: true, [member]: data}));
            }""",
            [event, name, member],
        )
        await expect(page.locator(".timeline").get_by_role("link", name=name)).to_be_visible()
    files = (await read_detail(client, case))["attachments"]
    assert [(each["filename"], each["visibility"]) for each in files] == [
        ("dropped.txt", "internal"),
        ("pasted.txt", "internal"),
    ]


async def test_picture_is_previewed(console, client, case):
    """The dialog shows it from a blob, which the content policy allows."""
    await upload(client, case, PICTURE, filename="photo.png", content_type="image/png")
    page = await console.open(path(case))
    await page.get_by_role("button", name="Preview").click()
    picture = page.get_by_role("dialog").get_by_role("img")
    await expect(picture).to_be_visible()
    assert await picture.evaluate("each => each.complete && each.naturalWidth") == 1
    await expect_accessible(page)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
