"""Answers and timers that come when their user has gone on: they change nothing that is shown by then."""

from itertools import pairwise

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, eventually, open_case, read_case, read_detail
from tests.support.console.browser import choose, expect_accessible, follow, held, press, settled, undo_by_key
from tests.support.console.samples import api_path, case_path, messages, open_waiting

pytestmark = pytest.mark.long
SEARCH_PAUSE = 250  # ms without a key after which the queue searches
READS = "(path) => performance.getEntriesByType('resource').filter(({name}) => name.endsWith(path))"


@pytest.fixture
async def cases(client):
    return await open_waiting(client, "First", "Second", customerId="customer-1")


async def test_view_that_was_left_is_not_shown_in_the_one_before_it(console, client):
    """Its answer comes when its reader is back.

    A change of cases whose rows have left the list by then is reported, with its undo.
    """
    (case,) = await open_waiting(client, "First")
    await open_waiting(client, "Mine", assignedAgentId="anyone")
    page = await console.open("/console/?view=unassigned")
    own, bulk = "**/support/cases?*assignedAgentId=anyone*", "**/support/cases/bulk"
    released = await held(page, own)
    async with page.expect_request(own):
        await page.locator(".views a", has_text="Mine").click()
    async with page.expect_response("**/support/cases?*assignedAgentId=none*"):
        await page.go_back()
    released.set()
    await page.evaluate("new Promise(requestAnimationFrame)")
    await expect(page.locator(".views [aria-current]")).to_contain_text("Unassigned")
    await expect(page.locator(".subject a bdi")).to_have_text(["First"])
    await settled(page)
    released = await held(page, bulk)
    await page.keyboard.press("p")
    async with page.expect_request(bulk):
        await page.get_by_role("option", name="High").click()
    await page.locator(".views a", has_text="Mine").click()
    await expect(page.locator(".subject a bdi")).to_have_text(["Mine"])
    released.set()
    await expect(page.get_by_text("1 changed")).to_be_visible()
    assert (await read_case(client, case))["priority"] == "high"
    async with page.expect_response("**/undo"):
        await undo_by_key(page)
    assert (await read_case(client, case))["priority"] == "normal"


async def test_failed_change_leaves_its_cases_selected(console, cases):
    """A change of all and a merge can be tried again without selecting them again."""
    console.refused = {403}
    page = await console.open("/console/?view=waiting")
    await page.get_by_label("Select all").click()
    for path, key, option in (("**/support/cases/bulk", "p", "High"), ("**/merge", "m", "First")):
        await page.route(path, lambda route: route.fulfill(status=403))
        await page.keyboard.press(key)
        await page.get_by_role("option", name=option).click()
        await expect(page.locator(".toast.bad")).to_be_visible()
        await expect(page.locator(".bulk")).to_contain_text("2 selected")
        await page.reload()
        await page.get_by_label("Select all").click()


async def test_search_does_not_lead_away_from_the_case_that_was_opened_meanwhile(console, client):
    """A row is opened before the pause after the last key is over."""
    (case,) = await open_waiting(client, "First")
    profile = await console.profile()
    await profile.clock.install()
    page = await console.open("/console/?view=waiting", profile=profile, loads=False)
    await page.clock.run_for(1_000)
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.clock.pause_at(await page.evaluate("Date.now() + 60_000"))
    await page.locator("#search").fill("fir")
    await page.evaluate("document.querySelector('tbody .subject a').click()")
    await expect(page).to_have_url(console.address + case_path(case))
    await expect(page.locator("queue-page")).to_have_count(0)
    await page.clock.run_for(2 * SEARCH_PAUSE)
    await expect(page).to_have_url(console.address + case_path(case))


async def test_customer_is_not_shown_under_the_address_of_another(console, client):
    """Two steps back and forth: the first answer comes last."""
    for name in ("ann", "bob"):
        await open_case(client, customerId=name, subject=f"Of {name}")
        await client.put(f"/support/customers/{name}", json={"name": name.title()})
    page = await console.open("/console/customers/ann")
    released = await held(page, "**/support/customers/bob?*")
    async with page.expect_request("**/support/customers/bob?*"):
        await page.evaluate("history.pushState(null, '', 'bob'); dispatchEvent(new Event('popstate'))")
    await page.go_back()
    await expect(page.get_by_role("heading", name="Ann", level=1)).to_be_visible()
    async with page.expect_response("**/support/customers/bob?*") as late:
        released.set()
    await (await late.value).finished()
    await expect(page.get_by_text("support-service erase customer ann")).to_be_visible()
    await page.evaluate("new Promise(requestAnimationFrame)")
    await expect(page.get_by_role("heading", level=1)).to_have_text(["A Ann"])
    assert (await page.title()).startswith("Ann ")
    await expect(page.get_by_role("link", name="Of bob")).to_have_count(0)


async def test_message_that_follows_before_the_one_before_it_is_done_is_sent(console, client):
    """It waits for the case to be assigned to its writer, and asks nothing: all changes are the writer's own."""
    (case,) = await open_waiting(client, "First")
    page = await console.open(case)
    box = page.get_by_label("Reply", exact=True)
    released = await held(page, "**/support/cases/*?messagesLimit=1")
    await box.fill("One")
    async with page.expect_request("**/support/cases/*?messagesLimit=1"):
        await box.press("Control+Enter")
    await box.fill("Two")
    for _ in range(2):
        await box.press("Control+Enter")
    released.set()
    await expect(box).to_have_value("")
    await expect(page.locator(".send")).to_have_attribute("aria-disabled", "false")
    stored = await read_case(client, case)
    assert [message["message"] for message in stored["messages"]][-2:] == ["One", "Two"]
    assert stored["assignedAgentId"] == "anyone"
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_page_whose_module_comes_late_is_shown(console, client, case):
    """The bar is drawn again meanwhile; the old page stays until the new one can be shown.

    Keys are for the page that is shown, also when a case that is loading is left.
    """
    page = await console.open()
    released = await held(page, "**/pages/case*.js")
    await page.get_by_role("link", name="Parcel has not arrived").click()
    await page.get_by_role("button", name="Keys").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    released.set()
    await expect(page.get_by_role("heading", name="Parcel has not arrived")).to_be_visible()
    await page.go_back()
    released = await held(page, f"**{api_path(case)}")
    await page.reload()
    await page.locator(".subject a").first.click()
    await expect(page.get_by_text("Loading")).to_be_visible()
    await page.keyboard.press("n")
    await page.go_back()
    await page.locator("#search").press("a")
    await expect(page.locator("#search")).to_have_value("a")
    released.set()


async def test_link_of_a_left_case_hides_no_change_of_the_other(console, client, cases):
    """A change of a colleague is asked about, although a link was added to the case before."""
    console.refused = {412}
    first, second = cases
    page = await console.open()
    await press(page, "j", "Enter")
    await expect(page.get_by_role("heading", name="First")).to_be_visible()
    await settled(page)
    linked = await held(page, f"**{api_path(first)}/links", "POST")
    form = page.locator(".link-form")
    await form.get_by_label("Kind of link").select_option("duplicate-of")
    await form.get_by_label("Case id or address").fill(second["id"])
    async with page.expect_request(f"**{api_path(first)}/links"):
        await form.get_by_role("button", name="Add").click()
    await page.locator("h1").click()
    await page.keyboard.press("j")
    await expect(page.get_by_role("heading", name="Second")).to_be_visible()
    await settled(page)
    await page.locator("#composer").fill("On its way")
    read = await held(page, f"**{api_path(second)}")
    async with page.expect_request(f"**{api_path(second)}"):
        linked.set()
        await expect(page.get_by_role("status").filter(has_text="Link added")).to_be_visible()
    read.set()
    await settled(page)
    await expect(page.get_by_role("link", name="First").last).to_be_visible()
    await add_message(client, second, "Solved by another")
    await expect(page.get_by_role("log").get_by_text("Solved by another")).to_be_visible()
    await page.locator("#composer").press("Control+Enter")
    await expect(page.get_by_role("dialog")).to_contain_text("Solved by another")
    assert "On its way" not in [text for text, _ in await messages(client, second)]


async def test_tags_that_are_removed_one_after_the_other_stay_removed(console, client):
    """The second click comes before the answer to the first one."""
    case = await open_case(client, subject="Tagged", tags=["a", "b", "c"])
    page = await console.open(case)
    released = await held(page, f"**{api_path(case)}", "PATCH")
    async with page.expect_request(lambda request: request.method == "PATCH"):
        await page.get_by_role("button", name="Remove the tag a").click()
    await page.get_by_role("button", name="Remove the tag b").click()
    released.set()
    await expect(page.locator(".case-aside .tags .tag bdi")).to_have_text(["c"])
    assert (await read_case(client, case))["tags"] == ["c"]


async def test_removed_link_is_added_again_to_its_own_case(console, client, cases):
    """Also if another case is shown meanwhile."""
    first, second = cases
    third = await open_case(client, subject="Third")
    await client.post(f"{api_path(first)}/links", json={"kind": "related", "caseId": third["id"]})
    page = await console.open(first)
    remove = page.get_by_label("Remove the link")
    await remove.click()
    await expect(remove).to_have_count(0)
    await follow(page, "Second")
    await page.locator(".toast").get_by_role("button").click()

    async def is_linked():
        return (await read_detail(client, first))["links"]

    assert [each["caseId"] for each in await eventually(is_linked)] == [third["id"]]
    assert (await read_detail(client, second))["links"] == []


async def test_case_that_changes_again_and_again_is_read_every_two_seconds(console, client, case):
    """Also if each change comes when the one before it is shown."""
    page = await console.open(case)
    await page.evaluate("performance.clearResourceTimings()")
    for priority in ("urgent", "low", "high", "normal"):
        await client.patch(api_path(case), json={"priority": priority})
        await expect(page.get_by_role("button", name=f"Priority: {priority.title()}")).to_be_visible()
    starts = await page.evaluate(f"{READS}.map((each) => each.startTime)", api_path(case))
    assert len(starts) == 4
    # ms; the pause begins a little before the request
    assert min(later - earlier for earlier, later in pairwise(starts)) >= 1_500


async def test_search_for_an_original_shows_what_was_typed_last(console, client, cases):
    """The answer to what was typed before comes later."""
    await open_waiting(client, "Parcel lost", "Charged twice")
    page = await console.open(cases[0])
    await choose(page, "Actions", "Merge")
    dialog = page.get_by_role("dialog")
    released = await held(page, "**/support/cases?q=parcel*")
    async with page.expect_response("**/support/cases?q=parcel*") as late:
        async with page.expect_request("**/support/cases?q=parcel*"):
            await dialog.get_by_role("searchbox").fill("parcel")
        await dialog.get_by_role("searchbox").fill("charged")
        await expect(dialog.get_by_role("button", name="Charged twice")).to_be_visible()
        released.set()
    await (await late.value).finished()
    await expect(dialog.get_by_role("button", name="Charged twice")).to_be_visible()
    await expect(dialog.get_by_role("button", name="Parcel lost")).to_have_count(0)


async def test_case_of_a_background_tab_is_seen_once_the_tab_is(console, client):
    """The row is unread until then."""
    await open_waiting(client, "First")
    profile = await console.profile()
    await profile.add_init_script("Object.defineProperty(document, 'hidden', {get: () => window.isHidden ?? false})")
    page = await console.open("/console/?view=waiting", profile=profile)
    await expect(page.locator(".unread-dot")).to_have_count(1)
    hide = "hidden => { isHidden = hidden; document.dispatchEvent(new Event('visibilitychange')) }"
    await page.evaluate("window.isHidden = true")
    for is_hidden, dots in ((True, 1), (False, 0)):
        await follow(page, "First")
        await settled(page)
        await page.evaluate(hide, is_hidden)
        await page.keyboard.press("u")
        await expect(page.get_by_role("link", name="First", exact=True)).to_be_visible()
        await expect(page.locator(".unread-dot")).to_have_count(dots)


async def test_list_beside_a_case_is_the_one_that_was_left(console, client):
    """All its rows, also beyond the first page, in their order, also after an answer, at the left of a wide page.

    `j` and `k` open the next and the previous case of it.
    """
    cases = await open_waiting(client, *(f"Case {number}" for number in range(55)))
    page = await console.open("/console/?view=waiting", viewport={"width": 1700, "height": 900})
    await page.get_by_role("button", name="Show more").click()
    await page.get_by_role("link", name="Case 52", exact=True).click()
    await expect(page.get_by_text("53 of 55")).to_be_visible()
    neighbours = page.get_by_role("navigation", name="Cases of this view")
    await expect(neighbours.get_by_role("link")).to_have_count(55)
    await add_message(client, cases[0], "An answer")
    for key, number in (("k", 51), ("j", 52), ("j", 53)):
        await settled(page)
        await page.keyboard.press(key)
        await expect(page.get_by_role("heading", name=f"Case {number}")).to_be_visible()
        await expect(neighbours.locator("[aria-current=true]")).to_contain_text(f"Case {number}")
    assert await page.locator(".neighbours .subject").all_inner_texts() == [f"Case {number}" for number in range(55)]
    await expect_accessible(page)
    await page.keyboard.press("u")
    await expect(page.get_by_role("link", name="Case 53", exact=True)).to_be_focused()
