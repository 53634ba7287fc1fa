"""Values of any kind from customers and other services: the console shows each as text, and none costs another one."""

import json
import re
from functools import partial

import pytest
from playwright.async_api import expect

from tests.support.calls import add_message, open_case, upload
from tests.support.console.browser import NARROW, WIDE, expect_accessible, expect_no_sideways_scrolling, settled
from tests.support.console.samples import HOSTILE, LONG_WORD, case_path, open_waiting

DEEP = "[" * 3_000 + "]" * 3_000
LONG = ["word"] * 20_000
# What a browser, or the library that renders the pages, would take for something else than data.
VALUES = [
    *({"nodeType": 1}, {"_$litType$": 1}, {"_$litType$": 1, "strings": ["<b>", "</b>"], "values": [1]}),
    *({"_$litDirective$": 1, "values": []}, {"toString": 1, "valueOf": 1}, {"length": 1}),
    *({"__proto__": 1, "constructor": 1}, [[[[["nested"]]]]], [{"_$litType$": 1}], [], {}, None, True, 0, -1, 1e99),
    *("", "x"),
]
MEMBERS = ["eventType", "id", "status", "source", "type", "timestamp", "amount", "payload", "origin", "receivedAt"]

SHOWN_TEXTS = """async ([path, values, deep]) => {
  const own = await import(path);
  const given = [...values, JSON.parse(deep)];
  const words = [(each) => own.word("status", each), (each) => own.t("aside.remove_tag", {tag: each})];
  const shown = [...words, own.text, own.clock, own.day, own.dayKey, own.dateAndTime, own.since, own.size,
    own.duration, own.number];
  return shown.flatMap((show) => given.map((each) => [show(each), String(show), JSON.stringify(each)?.slice(0, 50)]))
    .filter(([found]) => typeof found !== "string" || found.length > 5000 || /NaN|undefined|object Object/.test(found));
}"""


async def test_every_value_has_a_text(console):
    """Texts, words, times, sizes and numbers of any JSON value are texts of bounded length. Nothing throws."""
    page = await console.open()
    module = await page.locator("link[href$='/i18n.js']").get_attribute("href")
    deep_object = '{"a":' * 3_000 + "1" + "}" * 3_000
    for deep in (DEEP, deep_object):
        assert await page.evaluate(SHOWN_TEXTS, [module, [*VALUES, LONG], deep]) == []


async def test_texts_of_customers_are_shown_as_text(console, client):
    """Markup in any text of a case, in the queue and on its page, is text, in any width.

    A long word wraps, and right-to-left text keeps its own direction.
    """
    texts = (HOSTILE, LONG_WORD, "مرحبا، أين طلبي؟ 123")
    fields = {"customerId": HOSTILE[:36], "tags": [HOSTILE[:60]], "assignedAgentId": LONG_WORD[:36]}
    case, *_ = await open_waiting(
        client,
        *texts,
        **fields,
        description=HOSTILE + LONG_WORD,
        channel=HOSTILE[:32],
        context=[{"type": HOSTILE, "note": HOSTILE}],
    )
    await upload(client, case, filename=f"{HOSTILE}.txt")
    await add_message(client, case, f"{HOSTILE} {LONG_WORD} مرحبا", attachmentUri="https://example.test/%3Cb%3E")
    page = await console.open()
    for size in (NARROW, WIDE):
        await page.set_viewport_size(size)
        for text in texts:
            await expect(page.get_by_role("link", name=text, exact=True)).to_be_visible()
        assert await page.locator("main img, main script").count() == 0
        await expect_no_sideways_scrolling(page)
    page = await console.open(case)
    for size in (NARROW, WIDE):
        await page.set_viewport_size(size)
        await expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
        await expect(page.locator(".timeline").get_by_text(HOSTILE).first).to_be_visible()
        assert await page.locator("main img, main script, main b:not(.suggestions b)").count() == 0
        await expect_no_sideways_scrolling(page)


@pytest.mark.long
@pytest.mark.parametrize("member", MEMBERS)
async def test_context_of_any_kind_costs_no_other_entry(console, client, member):
    """A case with unusual values in its context shows its messages and files, and one entry for each of the context."""
    context = [{"type": "note", "name": f"entry-{number}", member: value} for number, value in enumerate(VALUES)]
    (case,) = await open_waiting(client, "Odd", context=context)
    await upload(client, case, filename="tracking.txt")
    page = await console.open(case)
    await page.get_by_role("button", name="Everything").click()
    await settled(page)
    timeline = page.get_by_role("log", name="Timeline")
    for text in ("Hello", "tracking.txt", "Case opened"):
        await expect(timeline.get_by_text(text).first).to_be_visible()
    for number in range(len(VALUES)):
        await expect(timeline.get_by_text(f"entry-{number}", exact=True)).to_have_count(1)
    await expect_no_sideways_scrolling(page)


async def replace_answer(profile, pattern, change):
    """Let `change` alter each answer of the service that matches a pattern."""

    async def handle(route):
        response = await route.fetch()
        body = await response.json()
        change(body)
        await route.fulfill(response=response, body=json.dumps(body))

    await profile.route(pattern, handle)


async def test_entry_that_cannot_be_shown_is_one_line(console, case):
    """The line says so. The other entries are there.

    An entry without a readable time is the first, under a heading of its own: it belongs to no day.
    """
    times = ["x", 1e99, None, {"toString": 1}, [], "+275760-09-13T00:00:00.001Z"]

    def spoil(body):
        for entry in body["timeline"]:
            if entry["type"] == "case-event":
                entry["changes"] = None
        body["timeline"] += [
            {"type": "note", "name": f"entry-{number}", "timestamp": time} for number, time in enumerate(times)
        ]

    page = await console.open()
    await replace_answer(page, f"**/support/cases/{case['id']}?includeTimeline=true", spoil)
    await page.goto(case_path(case))
    await page.get_by_role("button", name="Everything").click()
    await settled(page)
    await expect(page.get_by_text("This entry can't be shown.")).to_have_count(1)
    days = page.locator(".timeline .day")
    await expect(days.first.get_by_role("heading")).to_have_text("Without a readable time")
    await expect(days.first.locator("li")).to_have_count(len(times))
    await expect(days.last.get_by_text("Where is my parcel?")).to_be_visible()
    assert "NaN" not in await page.locator("main").inner_text()
    await expect_accessible(page)


def spoil(answer, body, value):
    """Put a value into what others write: each text of a case, row, change, customer or dead letter, and figures."""
    match answer:
        case "cases/*-*":
            body |= dict.fromkeys(("subject", "description", "channel", "team", "assignedAgentId"), value)
            body |= {"tags": [value], "context": [{"type": "order", "orderId": value}, {"type": value, "id": value}]}
            body["messages"][0] |= dict.fromkeys(("sentiment", "metadata", "authorType", "sentAt"), value)
            body["attachments"][0] |= dict.fromkeys(("filename", "contentType", "sizeBytes"), value)
            for source in body["timelineSources"].values():
                source |= {"status": "unavailable", "reason": value}
        case "cases?*":
            spoiled = dict.fromkeys(("status", "priority", "team", "assignedAgentId", "waitingSince"), value)
            body["items"] = [item | spoiled | {"tags": [value]} for item in body["items"]]
        case "audit?*":
            spoiled = {"actor": value, "role": value, "changes": {"status": [value, value], "kind": [None, value]}}
            body["items"] = [item | spoiled for item in body["items"]]
        case "customers/*":
            body["references"]["orders"] = [value]
            body["files"][0] |= {"filename": value}
            body["cases"][0] |= {"createdAt": value, "status": value}
        case "oncall":
            for card in ("backlog", "outbox"):
                body[card] |= {"error": value, "oldestAgeSeconds": value}
            body["sources"]["items"][0] |= {"calls": value, "lastAnswerAt": value, "breaker": value}
        case "dead-letters?*":
            letter = dict.fromkeys(("tries", "at", "reason", "event"), value)
            body["items"] = [letter | {"id": "letter-1", "truncated": False}]


@pytest.mark.long
@pytest.mark.parametrize("value", [{"nodeType": 1}, {"_$litType$": 1}, {"toString": 1}, [["nested"]]], ids=json.dumps)
async def test_no_value_costs_a_page(console, client, case, value):
    """In each text of the queue, a case, a customer, the audit log and on-call: the rest of the page is shown."""
    await upload(client, case, filename="tracking.txt")
    page = await console.open("/console/team")
    for answer in ("cases/*-*", "cases?*", "audit?*", "customers/*", "oncall", "dead-letters?*"):
        await replace_answer(page, f"**/support/{answer}", partial(spoil, answer, value=value))
    for address, text in (
        ("/console/", "Parcel has not arrived"),
        (case_path(case), "Where is my parcel?"),
        ("/console/customers/customer-17", "Parcel has not arrived"),
        ("/console/audit", "Case opened"),
        ("/console/oncall", "letter-1"),
    ):
        await page.goto(address)
        await expect(page.get_by_text(text).filter(visible=True).first).to_be_visible()
        await settled(page)


@pytest.mark.long
async def test_name_that_every_object_has_is_a_text(console, client):
    """Agents, channels and customers may be called like a member of every object in the browser."""
    page = await console.open()
    for name in ("constructor", "toString", "__proto__"):
        fields = {"channel": name, "assignedAgentId": name, "team": name, "customerId": name, "tags": [name]}
        case = await open_case(client, subject=f"Of {name}", **fields)
        await add_message(client, case, f"From {name}")
        await page.goto("/console/?view=all")
        row = page.locator("tbody tr").filter(has_text=f"Of {name}")
        await expect(row.locator(".channel path")).to_have_attribute("d", re.compile("^M8 2a6 6"))
        await expect(row.locator(".assignee .person")).to_contain_text(name)
        await page.get_by_role("link", name=f"Of {name}").click()
        await expect(page.get_by_role("heading", name=f"Of {name}")).to_be_visible()
        await expect(page.locator(".case-head .person")).to_contain_text(name)
        await expect(page.get_by_text(f"From {name}")).to_be_visible()


@pytest.mark.long
@pytest.mark.parametrize(
    ("message", "links", "folds"),
    [("ORD-1001 " * 7_000 + "The end", 100, 0), ("> a\nb\n" * 10_000 + "The end", 0, 51)],
    ids=["ids", "quotes"],
)
async def test_message_of_thousands_of_parts_has_few(console, client, message, links, folds):
    """The rest of it is one text, which says so."""
    first = {"authorType": "customer", "message": message}
    page = await console.open(case_path(await open_case(client, subject="Long", initialMessage=first)))
    shown = page.locator(".message .text")
    await expect(shown).to_contain_text("The end")
    await expect(shown.locator("a > bdi")).to_have_count(links)
    await expect(shown.locator("details")).to_have_count(folds)
    if links:
        await expect(shown).to_contain_text("Only the first 100 addresses are links.")
    else:
        await expect(shown.locator("summary").last).to_have_text("The rest of the message")
    await expect_accessible(page)


FILL = """() => {
  for (let size = 1 << 22, number = 0; size; size >>= 1) {
    try { for (;;) localStorage.setItem(`other-${number++}`, "x".repeat(size)); } catch {}
  }
}"""


@pytest.mark.long
async def test_draft_that_the_browser_cannot_keep_is_said_to_be_lost(console, case):
    """Its storage is full of something else; once there is room, the draft is kept."""
    page = await console.open(case)
    await page.locator("#composer").fill("A")
    await page.evaluate(FILL)
    await page.locator("#composer").fill("A longer answer")
    await expect(page.get_by_text("This browser can't keep the draft.")).to_be_visible()
    await expect_accessible(page)
    await page.evaluate(
        "Object.keys(localStorage).forEach((name) => name.startsWith('other') && localStorage.removeItem(name))"
    )
    await page.locator("#composer").press_sequentially("!")
    await expect(page.get_by_text("This browser can't keep the draft.")).to_have_count(0)
    await page.reload()
    await expect(page.locator("#composer")).to_have_value("A longer answer!")
