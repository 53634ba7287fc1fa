"""Live updates: changes from the stream are shown, without moving the row or draft in use."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, eventually, read_case
from tests.support.console.browser import expect_no_shift, press, record_shifts, settled
from tests.support.console.samples import open_waiting

CHANGED = "support.case.updated.v1"
MAX_SHIFT = 0.02  # of the layout, as browsers score it


class RecordedStream:
    """Answers requests for the stream with events of the test; a request waits until the test has some."""

    def __init__(self):
        self.answers = []
        self.requests = []
        self._waiting = {}

    def add(self, *events, last=""):
        """Add a connection that delivers events, as (type, data), and then `last`, and breaks."""
        lines = [
            f"id: {len(self.answers)}-{number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
            for number, (kind, data) in enumerate(events)
        ]
        self.answers.append("".join([": open\n\n", *lines, last]))
        if waiting := self._waiting.get(len(self.answers) - 1):
            waiting.set_result(None)

    async def follow(self, profile):
        await profile.route("**/support/me", self._allow)
        await profile.route("**/support/stream", self._answer)

    async def _allow(self, route):
        answer = await route.fetch()
        me = await answer.json()
        me["permissions"] |= {"stream:read": "all", "presence:write": "all"}
        await route.fulfill(response=answer, json=me)

    async def _answer(self, route):
        number = len(self.requests)
        self.requests.append(route.request.headers.get("last-event-id"))
        if number >= len(self.answers):
            self._waiting[number] = asyncio.get_running_loop().create_future()
            await self._waiting[number]
        await route.fulfill(content_type="text/event-stream", body=self.answers[number])

    def close(self):
        for waiting in self._waiting.values():
            waiting.cancel()


@pytest.fixture
async def stream(console):
    """The stream, and a profile whose pages read it."""
    stream = RecordedStream()
    stream.profile = await console.profile()
    await stream.follow(stream.profile)
    await stream.profile.route("**/presence", lambda route: route.fulfill(status=204))
    yield stream
    stream.close()


async def changed(client, case, **fields):
    """Return the event of a change, with the case as the list shows it."""
    items = (await (await client.get("/support/cases")).json())["items"]
    row = next(item for item in items if item["id"] == case["id"])
    row = {name: value for name, value in row.items() if name != "sla"}  # the stream does not send clocks
    return CHANGED, {"caseId": case["id"], "version": 9, "changeType": "changed", "case": row | fields}


async def test_rows_change_in_place_and_new_ones_wait(console, client, stream):
    """Nothing moves under the cursor: a new case is shown when its button is pressed.

    A row is marked whose case the caller may not see any more, of which the stream tells no more.
    """
    first, _ = await open_waiting(client, "First", "Second")
    page = await console.open(profile=stream.profile)
    rows = page.locator("tbody tr")
    (third,) = await open_waiting(client, "Third")
    stream.add(await changed(client, third), await changed(client, first, priority="urgent", assignedAgentId="agent-9"))
    await expect(page.get_by_role("button", name="1 new")).to_be_visible()
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("Urgent")
    await expect(rows.first).to_contain_text("agent-9")
    await page.keyboard.press("n")
    await expect(rows).to_have_count(3)
    stream.add((CHANGED, {"caseId": first["id"], "version": 9, "changeType": "case.left"}))
    await expect(page.locator("tbody tr[data-left]")).to_have_count(1)


@pytest.mark.long
async def test_burst_of_changes_moves_nothing_and_asks_once(console, client, stream):
    """2,000 changes and new cases: the rows stay where they are, and their clocks are read once for all of them."""
    await client.put("/support/sla-policies/all", json={"targets": {"firstResponse": "PT1H"}})
    cases = await open_waiting(client, *(f"Case {number}" for number in range(20)))
    await record_shifts(stream.profile)
    page = await console.open("/console/?view=waiting", profile=stream.profile)
    await expect(page.locator("tbody tr .clock")).to_have_count(20)
    await expect(page.locator(".views .count")).to_contain_text(["20"] * 2)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    rows = {case["id"]: (await changed(client, case)) for case in cases}
    for case, (_, change) in zip(cases, rows.values(), strict=True):
        await client.patch(f"/support/cases/{case['id']}", json={"priority": "urgent"})
        change["case"] |= {"priority": "urgent"}
    (new,) = await open_waiting(client, "New")
    stream.add(*[*rows.values()] * 100, await changed(client, new))
    await expect(page.get_by_role("button", name="1 new case: show")).to_be_visible()
    await expect(page.locator("tbody .priority[data-priority=urgent]")).to_have_count(20)
    await eventually(lambda: [each for each in asked if "/support/cases" in each])
    await settled(page)
    assert len([each for each in asked if "/support/cases" in each]) == 1
    await expect_no_shift(page, MAX_SHIFT)


@pytest.mark.long
async def test_burst_of_changes_leaves_the_hand_alone(console, client, stream):
    """2,000 changes while a menu is open for two selected rows: Enter takes what was marked, for these two."""
    cases = await open_waiting(client, *(f"Case {number}" for number in range(10)), tags=["refund", "return"])
    page = await console.open("/console/?view=waiting", profile=stream.profile)
    await press(page, "x", "J")
    await expect(page.get_by_text("2 selected")).to_be_visible()
    await press(page, "p", "ArrowDown", "Escape", "t", "ArrowDown")
    active = page.locator(".choices [role=option].active")
    await expect(active).to_contain_text("return")
    changes = [await changed(client, case, priority="urgent", tags=["a", "b", "refund", "return"]) for case in cases]
    stream.add(*changes * 200)
    await expect(page.locator(".choices [role=option]")).to_have_count(4)
    await expect(page.locator("tbody .priority[data-priority=urgent]")).to_have_count(10)
    await expect(active).to_contain_text("return")
    await expect(page.get_by_text("2 selected")).to_be_visible()
    await page.keyboard.press("Enter")
    await expect(page.locator(".toast")).to_contain_text("2 changed")
    tags = [(await read_case(client, case))["tags"] for case in cases]
    assert [each.count("return") for each in tags] == [0, 0, *[1] * 8]


@pytest.mark.long
async def test_burst_of_changes_leaves_the_text_alone(console, client, stream, case):
    """2,000 changes of the case while an answer is written: the cursor stays, and no key is lost."""
    page = await console.open(case, profile=stream.profile)
    await page.locator("#composer").press_sequentially("Hello Ann")
    for _ in range(4):
        await page.keyboard.press("ArrowLeft")
    await client.patch(f"/support/cases/{case['id']}", json={"priority": "urgent"})
    row = await read_case(client, case)
    burst = [(CHANGED, {"caseId": case["id"], "version": version, "case": row}) for version in range(3, 2_003)]
    stream.add(*burst)
    await page.keyboard.type(", dear")
    await expect(page.get_by_role("button", name="Priority: Urgent")).to_be_visible()
    await page.keyboard.type(" old")
    await expect(page.locator("#composer")).to_have_value("Hello, dear old Ann")
    await expect(page.locator("#composer")).to_be_focused()


async def test_lost_stream_is_shown_and_resumed(console, stream):
    """The page says since when it may be incomplete; the next connection continues after the last event.

    A silent stream tells how far it is complete: the connection after it goes on from there, when the service asks.
    The page also says so while the connection is open, and changes of other replicas do not arrive.
    """
    stream.add(("presence", {"caseId": "other", "viewers": []}))
    page = await console.open(profile=stream.profile)
    await expect(page.locator(".live")).to_contain_text("as of")
    await eventually(lambda: len(stream.requests) > 1)
    stream.add(last=": open\nid: 7-0\n\nretry: 10\n\n")
    await eventually(lambda: len(stream.requests) > 2)
    assert stream.requests[:3] == [None, "0-0", "7-0"]
    module = "import(document.querySelector('script').src.replace('app.js', 'lib/live.js')).then(({live}) => live)"
    live = await page.evaluate_handle(module)
    await live.evaluate("live => live.setSharedState('live')")
    for comment, text in (("interrupted: the broker is away", "as of"), ("continued: it is back", "live")):
        await live.evaluate("(live, comment) => live.handleComment(comment)", comment)
        await expect(page.locator(".live")).to_contain_text(text)


@pytest.mark.long
async def test_tabs_of_a_browser_share_one_stream(console, stream, case):
    """When the tab that reads it closes, the other one goes on.

    Presence is told when it changes: a tab that is opened later gets it from the tab that reads the stream.
    """
    stream.add(("presence", {"caseId": case["id"], "viewers": [{"name": "agent-9", "state": "viewing"}]}))
    first = await console.open(case, profile=stream.profile)
    await expect(first.get_by_text("viewed by agent-9")).to_be_visible()
    await eventually(lambda: len(stream.requests) == 2)
    second = await console.open(case, profile=stream.profile)
    await expect(second.get_by_text("viewed by agent-9")).to_be_visible()
    assert len(stream.requests) == 2
    await first.close()
    await eventually(lambda: len(stream.requests) == 3)


async def test_case_shows_new_messages_and_who_is_typing(console, client, stream, case):
    """The draft stays, and is not sent over the new message without a question.

    The question shows what the service says was added since, also if this page has not read it yet.
    """
    console.refused = {412}
    stream.add(("presence", {"caseId": case["id"], "viewers": [{"name": "agent-9", "state": "typing"}]}))
    page = await console.open(case, profile=stream.profile)
    await expect(page.get_by_text("agent-9 is typing")).to_be_visible()
    await page.locator("#composer").fill("My answer")
    await add_message(client, case, "Their answer")
    version = int((await client.get(f"/support/cases/{case['id']}")).headers["ETag"].strip('"'))
    stream.add((CHANGED, {"caseId": case["id"], "version": version, "case": await read_case(client, case)}))
    await expect(page.locator(".timeline").get_by_text("Their answer")).to_be_visible()
    await expect(page.locator("#composer")).to_have_value("My answer")
    await add_message(client, case, "One more")
    await page.locator("#composer").press("Control+Enter")
    for text in ("Their answer", "One more"):
        await expect(page.get_by_role("dialog").get_by_text(text)).to_be_visible()


async def test_presence_is_told_at_once(console, stream, case):
    """When writing begins and ends, without waiting for the next repetition, and when the case is left.

    Colleagues do not see for 15 s somebody who is gone, whether the console shows something else or is left.
    """
    told = []

    async def note(route):
        told.append((route.request.post_data_json or {}).get("state") or route.request.method)
        assert urlsplit(route.request.url).path.split("/")[3] == case["id"]
        await route.fulfill(status=204)

    await stream.profile.route("**/presence", note)
    page = await console.open(case, profile=stream.profile)
    await page.locator("#composer").press_sequentially("Hi")
    await eventually(lambda: told == ["viewing", "typing"])
    await page.locator("#composer").fill("")
    await eventually(lambda: told == ["viewing", "typing", "viewing"])
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide'))")
    await eventually(lambda: told[3:] == ["DELETE"])
    await page.reload()
    await eventually(lambda: told[4:] == ["viewing"])
    await page.locator(".case-head a").first.click()
    await eventually(lambda: told[5:] == ["DELETE"])
