"""A connection that is lost while something is changed: the page says so, shows what is true, and goes on."""

from functools import partial

import pytest
from playwright.async_api import expect

from tests.support.calls import eventually, read_case, read_detail
from tests.support.console.browser import choose, lose, press, send, undo_by_key
from tests.support.console.samples import api_path, case_path, messages, open_waiting

pytestmark = pytest.mark.long
NO_ANSWER = "The service did not answer."


@pytest.fixture(autouse=True)
def breaking(console):
    """Pages of these tests lose connections."""
    console.loses_connections = True


@pytest.mark.parametrize("arrives", [False, True], ids=["request lost", "answer lost"])
async def test_claim(console, client, arrives):
    """In the queue and at the case, the page says that there was no answer, and who has the case.

    The next press takes it if nobody has.
    """
    case, other = await open_waiting(client, "First", "Second")
    page = await console.open("/console/?view=waiting")
    row, holder = page.locator("tbody tr").first, "anyone" if arrives else "unassigned"
    await lose(page, "**/support/cases/*", "PATCH", arrives=arrives)
    await page.keyboard.press("c")
    await expect(page.locator(".toast")).to_contain_text(NO_ANSWER)
    await expect(row.locator(".assignee")).to_contain_text(holder)
    await page.keyboard.press("c")
    await expect(row.locator(".assignee")).to_contain_text("anyone")
    await press(page, "j", "Enter")
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await page.keyboard.press("c")
    await expect(page.locator(".case-message")).to_contain_text(NO_ANSWER)
    await expect(page.get_by_role("button", name=f"Assignee: {holder}")).to_be_visible()
    await page.keyboard.press("c")
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()
    assert [(await read_case(client, each))["assignedAgentId"] for each in (case, other)] == ["anyone"] * 2


@pytest.mark.parametrize("key", ["c", "h"], ids=["claim", "snooze"])
async def test_first_change_of_a_browser_that_is_offline(console, client, case, key):
    """What changes a case is loaded with the first change. Once the network is back, changes work.

    The line of an undo that got no answer keeps its button. A page of another kind that could not be loaded is there
    when it is asked for again.
    """
    page = await console.open(case, await console.profile())  # whose cache is empty
    await page.context.set_offline(True)
    await page.keyboard.press(key)
    await expect(page.locator(".case-message")).to_contain_text(NO_ANSWER)
    await page.context.set_offline(False)
    await page.keyboard.press("h")
    await expect(page.get_by_role("dialog", name="Snooze until")).to_be_visible()
    await press(page, "Escape", "c")
    await expect(page.get_by_role("button", name="Assignee: anyone")).to_be_visible()
    await expect(page.locator(".case-message")).to_have_text("")
    await expect(page.locator(".toast button")).to_be_visible()
    await page.context.set_offline(True)
    await undo_by_key(page)
    await expect(page.locator(".toast")).to_contain_text("did not answer")
    assert (await read_case(client, case))["assignedAgentId"] == "anyone"
    await page.context.set_offline(False)
    await undo_by_key(page)
    await expect(page.get_by_role("button", name="Assignee: unassigned")).to_be_visible()
    assert (await read_case(client, case))["assignedAgentId"] is None
    await page.context.set_offline(True)
    await page.get_by_role("link", name="customer-17").first.click()
    await expect(page.get_by_role("main")).to_contain_text(NO_ANSWER)
    await page.context.set_offline(False)
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_role("heading", name="customer-17", level=1)).to_be_visible()


@pytest.mark.parametrize("arrives", [False, True], ids=["requests lost", "answers lost"])
async def test_merge_in_the_queue(console, client, arrives):
    """Each request is sent again with its key: the cases are merged once, and the undo opens them.

    The page of a case shows the case as it is, closed if the answer was lost.
    """
    cases = await open_waiting(client, "First", "Second", "Third", customerId="customer-1")
    page = await console.open("/console/?view=waiting")
    lost = await lose(page, "**/merge", arrives=arrives)
    await press(page, "x", "J", "J", "m")
    await page.locator(".choices [role=option]").filter(has_text="First").click()
    await expect(page.get_by_text("2 merged")).to_be_visible()
    assert len(lost) == 2
    details = [await read_detail(client, case) for case in cases]
    assert [(each["status"], len(each["links"])) for each in details] == [("open", 2), ("closed", 1), ("closed", 1)]
    await undo_by_key(page)

    async def are_apart():
        details = [await read_detail(client, case) for case in cases]
        return [(each["status"], each["links"]) for each in details] == [("open", [])] * 3

    await eventually(are_apart)
    await page.goto(case_path(cases[0]))
    await lose(page, "**/merge", arrives=arrives)
    await choose(page, "More actions", "Merge into another case")
    await page.get_by_role("dialog").get_by_role("button", name="Second").click()
    await expect(page.locator(".case-message")).to_contain_text(NO_ANSWER)
    await expect(page.get_by_role("button", name=f"Status: {'Closed' if arrives else 'Open'}")).to_be_visible()


async def test_bulk_change(console, client):
    """What can't be sent leaves the rows selected. One whose answer is lost is repeated with its key, and made once."""
    cases = await open_waiting(client, "First", "Second")
    page = await console.open("/console/?view=waiting")
    await press(page, "x", "J")
    await expect(page.get_by_text("2 selected")).to_be_visible()
    change = partial(page.get_by_role("group", name="Selected cases").get_by_role("button", name="Priority").click)
    await page.context.set_offline(True)
    await change()
    await page.get_by_role("option", name="Urgent").click()
    await expect(page.locator(".toast")).to_contain_text(NO_ANSWER)
    await expect(page.get_by_text("2 selected")).to_be_visible()
    await page.context.set_offline(False)
    lost = await lose(page, "**/support/cases/bulk")
    async with page.expect_event("requestfinished", lambda request: request.url.endswith("/bulk")) as repeated:
        await change()
        await page.get_by_role("option", name="Urgent").click()
    await expect(page.locator(".toast")).to_contain_text("2 changed")
    keys = [each.headers["idempotency-key"] for each in (*lost, await repeated.value)]
    assert (len(keys), len(set(keys))) == (2, 1)
    assert [(await read_case(client, case))["priority"] for case in cases] == ["urgent"] * 2
    assert (await client.get(api_path(cases[0]))).headers["ETag"].startswith('"2')


async def test_view_is_saved_once(console, client):
    """The answer is lost: the second press repeats the first."""
    page = await console.open()
    await lose(page, "**/support/views")
    await page.get_by_role("button", name="Save view").first.click()
    await page.get_by_label("Name").fill("Deliveries")
    await page.get_by_label("Name").press("Enter")
    await expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("did not answer")
    await page.get_by_label("Name").press("Enter")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    views = (await (await client.get("/support/views")).json())["items"]
    assert [each["name"] for each in views] == ["Deliveries"]


@pytest.mark.parametrize("answer", ["of another program", "none", "lost"])
async def test_message_is_kept_and_sent_once(console, client, case, answer):
    """A proxy that asks for a sign-in answers 200; a service that answers nothing is given up after a minute.

    A message that is changed after its answer was lost is not taken for the sent one, also over a reload.
    """
    console.refused = {422}
    page = await console.open(case, await console.profile())  # whose clock goes with it
    composer, failure, got = page.locator("#composer"), page.locator(".composer [role=alert]"), []

    async def handle(route):
        if answer == "of another program":
            got.append(await route.fulfill(content_type="text/html", body="<h1>Sign in</h1>"))
        else:
            got.append(await route.fetch())  # the service has it; its answer gets lost
        if answer == "lost":
            await route.abort()

    await page.route("**/messages", handle)
    await page.clock.install()
    await send(page, "On its way")
    await eventually(lambda: got)
    await page.clock.run_for(61_000)
    await expect(failure).to_contain_text("did not answer")
    await expect(composer).to_have_value("On its way")
    await page.unroute("**/messages", handle)
    if answer == "lost":
        await page.reload()
        await expect(composer).to_have_value("On its way")
        await send(page, "On its way, in other words")
        await expect(failure).to_contain_text("was sent already")
        await expect(composer).to_have_value("On its way, in other words")
    else:
        await composer.press("Control+Enter")
        await expect(composer).to_have_value("")
    assert [text for text, _ in await messages(client, case)] == ["Where is my parcel?", "On its way"]
