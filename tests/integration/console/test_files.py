"""Files: chosen, dropped and pasted; cancelled, retried and refused; sent with a message, or deleted; previewed."""

import base64
import re

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, read_detail, stored_files, upload
from tests.support.console.browser import expect_accessible
from tests.support.console.hands import set_file
from tests.support.console.samples import MEGABYTE, case_path

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


async def send(page, text="See the files."):
    """Send a message, and wait until its draft is empty."""
    await page.locator("#composer").fill(text)
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#composer")).to_have_value("")


async def test_file_of_20_mb_is_stored_and_verified(console, client, case, video):
    """The browser sends its SHA-256, which the service compares. The case has the file with its message."""
    page = await console.open(case_path(case))
    await set_file(page, video)
    await expect(page.get_by_text("stored, SHA-256 verified")).to_be_visible()
    assert (await read_detail(client, case))["attachments"] == []
    await send(page)
    (stored,) = (await read_detail(client, case))["attachments"]
    assert (stored["filename"], stored["sizeBytes"]) == ("video.mp4", 20 * MEGABYTE)
    await expect(page.locator(".timeline .message").get_by_role("link", name="video.mp4")).to_be_visible()
    await expect(page.locator(".uploads")).to_have_count(0)


@pytest.mark.long
async def test_upload_shows_progress_and_can_be_cancelled_and_retried(console, client, case, video):
    """A message leaves out a cancelled file; the retry stores it once."""
    page = await console.open(case_path(case))
    session = await page.context.new_cdp_session(page)
    await limit_uploads(session, MEGABYTE / 4)
    await set_file(page, video)
    await expect(page.locator(".uploads").get_by_text(re.compile(r"[1-9]\d? %"))).to_be_visible()
    await expect(page.get_by_role("progressbar", name="Progress of video.mp4")).to_be_visible()
    await expect_accessible(page)
    await page.get_by_role("button", name="Cancel video.mp4").click()
    await expect(page.locator(".uploads").get_by_text("cancelled")).to_be_visible()
    await send(page, "Without the file.")
    assert (await read_detail(client, case))["attachments"] == []
    await limit_uploads(session, -1)
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_text("stored, SHA-256 verified")).to_be_visible()
    await send(page)
    assert len((await read_detail(client, case))["attachments"]) == 1


@pytest.mark.long
async def test_retry_after_a_lost_answer_stores_the_file_once(console, client, case):
    """It has the same idempotency key."""
    page = await console.open(case_path(case))

    await page.evaluate(LOSE_AN_ANSWER)
    await page.locator("input[type=file]").set_input_files(a_file())
    await expect(page.locator(".uploads").get_by_text("The service did not answer.")).to_be_visible()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_text("stored, SHA-256 verified")).to_be_visible()
    await send(page)
    assert len((await read_detail(client, case))["attachments"]) == 1


@pytest.fixture
def small_files(environment):
    """Files of more than 100 bytes, and all but texts, are refused; requested before `client`."""
    environment |= {"SUPPORT_ATTACHMENT_MAX_BYTES": "100", "SUPPORT_ATTACHMENT_TYPES": "text/plain"}


async def test_refusal_of_a_file_is_explained(small_files, console, case):
    """Each reason is in plain words."""
    console.refused = {413, 415}
    page = await console.open(case_path(case))
    large = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"x" * 101}
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": PICTURE}
    for file, reason in (
        (large, "larger than 100 B, the most that is taken"),
        (picture, "Files of this type are not allowed."),
    ):
        await page.locator("input[type=file]").set_input_files(file)
        await expect(page.get_by_text(reason)).to_be_visible()
    await expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    await expect_accessible(page)


async def test_files_are_dropped_and_pasted(console, client, case):
    """Both ways lead to the same list, which belongs to the note; its files are internal."""
    page = await console.open(case_path(case))
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
        await expect(page.locator(".uploads").get_by_text(name)).to_be_visible()
    await expect(page.get_by_text("stored, SHA-256 verified")).to_have_count(2)
    await page.get_by_role("button", name="Reply").click()
    await send(page, "No files here.")
    assert (await read_detail(client, case))["attachments"] == []
    await page.get_by_role("button", name="Internal note").click()
    await send(page)
    for name in ("dropped.txt", "pasted.txt"):
        await expect(page.locator(".message[data-note]").get_by_role("link", name=name)).to_be_visible()
    files = (await read_detail(client, case))["attachments"]
    assert [(each["filename"], each["visibility"]) for each in files] == [
        ("dropped.txt", "internal"),
        ("pasted.txt", "internal"),
    ]


@pytest.mark.long
async def test_a_file_is_deleted_before_it_is_sent(console, client, case, attachment_dir):
    """Its button takes it off the list, and its bytes off the disk; the message names the other file only."""
    page = await console.open(case_path(case))
    await page.locator("input[type=file]").set_input_files([a_file("a.bin"), a_file("b.bin", 11)])
    await expect(page.get_by_text("stored, SHA-256 verified")).to_have_count(2)
    await page.get_by_role("button", name="Remove a.bin").click()
    await expect(page.locator(".uploads li")).to_have_count(1)
    assert [file.stat().st_size for file in stored_files(attachment_dir)] == [11]
    await send(page)
    detail = await read_detail(client, case)
    assert [file["filename"] for file in detail["attachments"]] == ["b.bin"]
    assert detail["messages"][-1]["attachmentIds"] == [file["id"] for file in detail["attachments"]]


@pytest.mark.long
async def test_sending_without_a_failed_file_asks_first(small_files, console, client, case):
    """Nothing is sent until the agent agrees; the stored files go with the message, the failed one stays listed."""
    console.refused = {413}
    page = await console.open(case_path(case))
    for name, size in (("good.txt", 5), ("large.txt", 101)):
        file = {"name": name, "mimeType": "text/plain", "buffer": b"x" * size}
        await page.locator("input[type=file]").set_input_files(file)
    await expect(page.get_by_text("stored, SHA-256 verified")).to_be_visible()
    await expect(page.get_by_text("larger than 100 B, the most that is taken")).to_be_visible()
    await page.locator("#composer").fill("See the files.")
    await page.keyboard.press("Control+Enter")
    dialog = page.get_by_role("dialog", name="Send without these files?")
    await expect(dialog.get_by_text("Not uploaded: large.txt")).to_be_visible()
    await expect_accessible(page)
    await dialog.get_by_role("button", name="Cancel").click()
    await expect(dialog).to_have_count(0)
    await expect(page.locator("#composer")).to_have_value("See the files.")
    assert (await read_detail(client, case))["attachments"] == []
    await page.get_by_role("button", name="Send and set Pending").click()
    await dialog.get_by_role("button", name="Send without them").click()
    await expect(page.locator("#composer")).to_have_value("")
    assert [file["filename"] for file in (await read_detail(client, case))["attachments"]] == ["good.txt"]
    await expect(page.locator(".uploads li")).to_have_count(1)


async def test_an_agent_deletes_a_file_of_the_case_after_a_question(console, client, case):
    """It is gone for everybody, and the history says who deleted it."""
    await upload(client, case, filename="wrong.txt")
    page = await console.open(case_path(case))
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


@pytest.mark.long
async def test_pictures_of_a_message_are_small_and_open(console, client, case):
    """Each has 96 px; the arrow keys lead from one to the next."""
    sent = [await upload(client, case, PICTURE, filename=name, content_type="image/png") for name in ("a.png", "b.png")]
    await add_message(client, case, "Two pictures", attachmentIds=[each["id"] for each in sent])
    page = await console.open(case_path(case))
    small = page.locator(".message", has_text="Two pictures").locator(".thumbnail img")
    await expect(small).to_have_count(2)
    box = await small.first.bounding_box()
    assert (box["width"], box["height"]) == (96, 96)
    await page.wait_for_function("document.querySelector('.thumbnail img').naturalWidth == 1")
    await page.get_by_role("button", name="Show a.png").click()
    for name, key in (("a.png", "ArrowRight"), ("b.png", "ArrowRight"), ("a.png", "Escape")):
        await expect(page.get_by_role("dialog", name=name).get_by_role("img", name=name)).to_be_visible()
        await expect_accessible(page)
        await page.keyboard.press(key)
    await expect(page.get_by_role("button", name="Show a.png")).to_be_focused()


@pytest.mark.long
async def test_deleted_picture_is_not_shown_under_the_name_of_another(console, client, case):
    """The other one stays as it is."""
    sent = [await upload(client, case, PICTURE, filename=name, content_type="image/png") for name in ("a.png", "b.png")]
    await add_message(client, case, "Two pictures", attachmentIds=[each["id"] for each in sent])
    page = await console.open(case_path(case))
    small = page.locator(".message", has_text="Two pictures").locator(".thumbnail")
    await expect(small.locator("img")).to_have_count(2)
    await small.nth(1).evaluate("each => each.id = 'of-b'")
    await client.delete(f"/support/cases/{case['id']}/attachments/{sent[0]['id']}")
    await expect(small).to_have_count(1)
    await expect(small).to_have_attribute("aria-label", "Show b.png")
    await expect(small).to_have_id("of-b")


async def test_picture_is_previewed(console, client, case):
    """The dialog shows it from a blob, which the content policy allows."""
    await upload(client, case, PICTURE, filename="photo.png", content_type="image/png")
    page = await console.open(case_path(case))
    await page.locator(".timeline").get_by_role("button", name="Preview").click()
    picture = page.get_by_role("dialog").get_by_role("img")
    await expect(picture).to_be_visible()
    assert await picture.evaluate("each => each.complete && each.naturalWidth") == 1
    await expect_accessible(page)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
