"""The on-call page: state of the parts, overrides, dead letters and webhook deliveries, in every kind of outage."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from support_service.oncall.judge import OncallTimings
from support_service.platform.telemetry.telemetry import TelemetryTimings
from support_service.timeline.source_health import BreakerTimings
from support_service.timings import TimelineTimings
from tests.support.calls import eventually, expect_json, open_case, read_detail
from tests.support.console.browser import address_of, expect_accessible, expect_good_looks, undo_by_key, watched_console
from tests.support.console.hands import Counter
from tests.support.console.samples import HOSTILE, LONG_WORD, overrides
from tests.support.events.dead_letters import give_up
from tests.support.service import own_client
from tests.support.timings import patient_timings

client = own_client

ADDRESS = "/console/oncall"
PARTS = 13  # three upstream services, and ten parts of the service itself
READ_INTERVAL = 6_000  # ms after which the page has read the state again


@pytest.fixture
def environment(environment, no_consumer):
    """Links to runbooks and panels; no consumer, so that dead letters stay where they are."""
    return environment | {
        "SUPPORT_RUNBOOKS_URL": "https://ops.example/runbooks",
        "SUPPORT_GRAFANA_URL": "https://grafana.example",
    }


@pytest.fixture
def timings():
    """Timings with which a circuit breaker stays open, and the event loop of the tests counts as never late."""
    return patient_timings(
        timeline=TimelineTimings(breaker=BreakerTimings(open_for=3600, max_open_for=3600)),
        oncall=OncallTimings(sample_interval=0.5),
        telemetry=TelemetryTimings(lag_sample_interval=3600),
    )


async def open_watched(console, **options):
    """Open the page; `clock.fast_forward` then lets it read the state again."""
    profile = await console.profile(**options)
    await profile.clock.install()
    page = await console.open(ADDRESS, profile=profile)
    await expect(page.locator("[data-part]")).to_have_count(PARTS)
    return page


def part(page, name):
    """Return a part of the service, or an upstream service: a card if it fails, a line otherwise."""
    return page.locator(f'[data-part="{name}"]')


def override(page, name):
    return page.locator(f'[data-override="{name}"]')


def verdict(page):
    return page.locator(".verdict")


async def test_every_part_is_shown(upstream_services, console, client):
    """Each has its state in words and its links. The last figures stay while the service does not answer.

    If the database is down at the first load, no one can sign in; the page names the command line all the same.
    """
    await give_up(client, "{}", LONG_WORD, reason=HOSTILE)
    page = await open_watched(console)
    for name in ("payment", "Timeline cache", "Files on local storage", "Outbox", "Audit sealer", "Probe"):
        await expect(page.locator(".oncall-parts").get_by_text(name, exact=True)).to_be_visible()
    assert (await part(page, "database").bounding_box())["height"] == pytest.approx(32, abs=1)
    link = part(page, "outbox").get_by_role("link", name="Runbook")
    await expect(link).to_have_attribute("href", "https://ops.example/runbooks/support-outbox-stalled.md")
    current = page.get_by_role("navigation").get_by_role("link", name="On-call")
    await expect(current).to_have_attribute("aria-current", "page")
    await expect(verdict(page)).to_contain_text("2 dead letters wait for a decision.")
    await page.clock.fast_forward(READ_INTERVAL)
    await expect(part(page, "deadLetters").locator(".spark")).to_be_visible()
    await expect_good_looks(page)
    console.refused = {502, 503}
    await page.route("**/support/oncall", lambda route: route.fulfill(status=502))
    await page.clock.fast_forward(READ_INTERVAL)
    await expect(page.get_by_text("The figures below are the last ones")).to_be_visible()
    await expect(page.locator("[data-part]")).to_have_count(PARTS)
    problem = {"status": 503, "code": "database_unavailable", "detail": "It can't be reached."}
    await page.route("**/support/me", lambda route: route.fulfill(status=503, json=problem))
    await page.reload()
    await expect(page.get_by_text("support-service database waits")).to_be_visible()
    await expect_accessible(page)


@pytest.mark.parametrize("hand", ["keys", pytest.param("mouse", marks=pytest.mark.long)])
async def test_override_is_set_extended_and_cleared(upstream_services, console, client, hand):
    """A service is switched off for some time with a reason; the page says who, why and until when, until it ends.

    Six presses at most set and clear it, from any page.
    """
    await client.put("/support/agents/anyone", json={"displayName": "Ann Lee"})
    page = await console.open()
    user, dialog, toast = Counter(page), page.get_by_role("dialog"), override(page, "payment")
    if hand == "keys":
        await user.find("off payment")
    else:
        await user.click(page.get_by_role("link", name="On-call"))
        await expect(verdict(page)).to_contain_text("No part reports a failure.")
        await user.click(part(page, "payment").get_by_role("button", name="Switch off"))
    await expect(page).to_have_url(f"{console.address}{ADDRESS}")
    await expect(dialog.get_by_label("Reason")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_visible()  # a service needs a reason
    await expect_accessible(page)
    await dialog.get_by_label("In effect for").select_option("PT7200S")
    await dialog.get_by_label("Reason").focus()
    await user.type("being restored")
    await (user.keys("Enter") if hand == "keys" else user.click(dialog.get_by_role("button", name="Switch off")))
    await expect(dialog).to_have_count(0)
    await expect(toast.get_by_role("button", name="Clear")).to_be_focused()
    await expect(toast).to_contain_text("being restored")
    off = r"Degraded on purpose\s+payment is off until \d\d:\d\d \((2 h|1 h 59 min) left\), set by Ann Lee\."
    await expect(verdict(page)).to_contain_text(re.compile(off))
    await expect(part(page, "payment")).to_contain_text("no calls: switched off")
    assert await overrides(client) == {"payment": "being restored"}
    await expect_good_looks(page)
    await toast.get_by_role("button", name="Extend").press("Enter")
    await dialog.get_by_label("In effect for").select_option("PT28800S")
    await dialog.get_by_label("Reason").press("Enter")
    await expect(toast).to_contain_text(re.compile(r"\((8 h|7 h 59 min) left\)"))
    clear = toast.get_by_role("button", name="Clear")
    await clear.focus()
    await (user.keys("Enter") if hand == "keys" else user.click(clear))
    assert user.count <= 6
    await expect(part(page, "payment")).to_contain_text("closed (calls pass)")
    await expect(part(page, "payment").get_by_role("button", name="Switch off")).to_be_focused()
    assert await overrides(client) == {}
    await undo_by_key(page)
    await expect(toast).to_contain_text(re.compile(r"\((8 h|7 h 59 min) left\)"))
    assert await overrides(client) == {"payment": "being restored"}


@pytest.mark.long
async def test_state_that_was_read_before_a_change_is_read_again(upstream_services, console, client):
    """The focus waits for the button that the new state has."""
    await client.put("/support/overrides/payment", json={"reason": "being restored", "duration": "PT30M"})
    page = await open_watched(console)
    answered, released = asyncio.Event(), asyncio.Event()

    async def hold(route):
        answer = await route.fetch()
        answered.set()
        await released.wait()
        await route.fulfill(response=answer)

    await page.route("**/support/oncall", hold, times=1)
    await page.clock.fast_forward(READ_INTERVAL)
    await answered.wait()
    async with page.expect_response("**/support/dead-letters?*"):  # it is read after the change
        await override(page, "payment").get_by_role("button", name="Clear").press("Enter")
    released.set()
    await expect(part(page, "payment").get_by_role("button", name="Switch off")).to_be_focused()


@pytest.mark.long
async def test_override_of_another_engineer_is_not_replaced(upstream_services, console, client):
    """The page says that it was changed meanwhile, and keeps what was typed. So does the undo of clearing it."""
    console.refused = {412}
    first, changed = {"reason": "first", "duration": "PT30M"}, "Someone else has changed this override"
    await client.put("/support/overrides/order", json=first)
    page = await console.open(ADDRESS)
    await override(page, "order").get_by_role("button", name="Extend").click()
    await client.put("/support/overrides/order", json=first | {"reason": "second"})
    dialog, toast = page.get_by_role("dialog"), page.locator(".toast")
    await dialog.get_by_label("Reason").fill("third")
    await dialog.get_by_label("Reason").press("Enter")
    await expect(dialog.get_by_text(changed)).to_be_visible()
    await expect(dialog.get_by_label("Reason")).to_have_value("third")
    assert await overrides(client) == {"order": "second"}
    await page.reload()
    await override(page, "order").get_by_role("button", name="Clear").click()
    await expect(toast).to_contain_text("Undo")
    await client.put("/support/overrides/order", json=first | {"reason": "fourth"})
    await toast.get_by_role("button").click()
    await expect(toast).to_contain_text(changed)
    assert await overrides(client) == {"order": "fourth"}


@pytest.mark.long
async def test_dead_letters_are_replayed_and_dropped(console, client):
    """What senders wrote is text. To drop one needs a second press.

    The override of the cache TTL has a number of seconds, and needs no reason.
    """
    await give_up(client, HOSTILE, "second", reason=HOSTILE)
    page = await console.open(ADDRESS)
    letters = page.locator("[data-list=letters] li")
    await expect(letters).to_have_count(2)
    await expect(letters.first.get_by_text(HOSTILE).first).to_be_visible()
    await letters.first.get_by_role("button", name="Replay").click()
    await expect(letters).to_have_count(1)
    await letters.get_by_text("Event, which").click()
    await expect(letters.get_by_text("second")).to_be_visible()
    await letters.get_by_role("button", name=re.compile("^Drop")).click()
    await expect(letters.get_by_role("button", name="Drop for good")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("There are no dead letters.")).to_be_visible()
    actions = [each["action"] for each in (await expect_json(client.get("/support/audit?limit=2")))["items"]]
    assert actions == ["dead-letter.dropped", "dead-letter.replayed"]
    await part(page, "cache").get_by_role("button", name="Keep answers longer").click()
    await page.get_by_role("dialog").get_by_label("Seconds").fill("900")
    await page.get_by_role("dialog").get_by_role("button", name="Set").click()
    await expect(override(page, "ttl").get_by_text("Answers are fresh for 15 min")).to_be_visible()
    await override(page, "ttl").get_by_role("button", name="Clear").click()
    await expect(page.locator(".overrides")).to_contain_text("None is in effect.")


@pytest.mark.long
async def test_source_that_fails_is_shown(upstream_services, payments, console, client):
    """The page renders while a source is down, with its share of errors and what rejects its calls."""
    payments.fail_with(503)
    for number in range(12):
        await read_detail(client, await open_case(client, context=[{"type": "order", "orderId": f"ORD-{number}"}]))
    page = await open_watched(console)
    payment, said = part(page, "payment"), verdict(page)
    await expect(payment).to_have_attribute("data-failing", "yes")
    await expect(payment.get_by_text("100%")).to_be_visible()
    await expect(payment.get_by_text("calls are rejected")).to_be_visible()
    await expect(said).to_contain_text("1 problem")
    await expect(said).to_contain_text(re.compile(r"payment does not answer; 100% of \d+ calls fail"))
    await expect(said.get_by_role("link", name="Runbook")).to_have_attribute("href", re.compile("source-down"))
    action = said.get_by_role("link", name="Switch off the upstream service")
    await expect(action).to_have_attribute("href", re.compile("source-down.md#switch-off-the-upstream-service$"))
    await page.clock.fast_forward(READ_INTERVAL)
    await expect(payment.locator(".spark")).to_contain_text("threshold 50%")
    await expect_good_looks(page)
    await said.get_by_role("button", name="Switch off payment").click()
    await page.get_by_role("dialog").get_by_label("Reason").fill("it fails")
    await page.keyboard.press("Enter")
    await expect(said).to_contain_text("Degraded on purpose")
    await expect(payment).to_have_attribute("data-failing", "no")


REFUSED = {
    "part": "access",
    "source": None,
    "alert": "SupportAccessRefused",
    "severity": "critical",
    "state": "pending",
    "text": "63 % of callers are refused",
    "labels": {"http_route": "/support/cases"},
    "detail": None,
    "summary": {"en": "callers are refused", "vi": "bên gọi bị từ chối"},
    "figure": 0.63,
    "limit": 0.25,
    "unit": "share",
    "since": "2026-05-12T12:00:00Z",
    "scope": "replica",
    "replicas": ["a:8000", "b:8000"],
    "foundBy": ["prometheus"],
    "panel": None,
    "action": {"en": {"text": "Restore the file", "url": None}, "vi": {"text": "Khôi phục file", "url": None}},
    "symptoms": [
        {"alert": name, "text": "", "summary": {"en": "", "vi": ""}, "state": "firing"}
        for name in ("SupportProbeFailing", "SupportProbeFlapping")
    ],
    "runbook": "https://ops.example/runbooks/support-access-refused.md",
}
SENTENCE = (
    "1 problem Callers are refused (/support/cases): {} (limit {}). Since TIME on replicas a:8000, b:8000. "
    "no alert yet 2 more alerts follow from it"
)
SENTENCE_VI = (
    "1 vấn đề Bên gọi bị từ chối (/support/cases): 63% (giới hạn 25%). Từ TIME ở bản sao a:8000, b:8000. "
    "chưa có cảnh báo 2 cảnh báo khác là hệ quả"
)


VERDICTS = [
    ("en-US", {}, SENTENCE.format("63%", "25%")),
    ("en-US", {"figure": 0.618, "limit": 0.1, "unit": "seconds"}, SENTENCE.format("618 ms", "100 ms")),
    ("vi-VN", {}, SENTENCE_VI),
]


@pytest.mark.long
@pytest.mark.parametrize(("locale", "changes", "sentence"), VERDICTS)
async def test_any_problem_of_the_verdict_is_said_in_words(console, client, locale, changes, sentence):
    """The page needs no rule of its own: a problem has its words, its figure, its limit, and whom it concerns."""
    answer = await expect_json(client.get("/support/oncall"))
    page = await console.open(ADDRESS, locale=locale)
    calm = {"en-US": "No part reports a failure.", "vi-VN": "Các phần hoạt động tốt"}
    await expect(page.locator("main")).to_contain_text(calm[locale])
    assert "oncall." not in await page.locator("main").inner_text()
    answer["verdict"] = {"level": "degraded", "problems": [REFUSED | changes], "deliberate": []}
    await page.route("**/support/oncall", lambda route: route.fulfill(json=answer))
    await page.reload()
    pattern = re.escape(sentence).replace("TIME", r"\d\d:\d\d").replace(r"\ ", r"\s+")
    await expect(verdict(page)).to_contain_text(re.compile(pattern))
    await expect(verdict(page)).to_have_attribute("data-verdict", "degraded")
    await expect(verdict(page).get_by_role("link", name="Runbook")).to_have_attribute("href", REFUSED["runbook"])
    await expect_good_looks(page)


@pytest.mark.long
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_unavailable_database_is_reported(console, postgres):
    """The page renders, says so, and names the command line; when the database is back, it says that."""
    console.refused = {503}
    page = await open_watched(console)
    await expect(page.get_by_text("No part reports a failure.")).to_be_visible()
    postgres.stop()
    await read_until(page, page.get_by_role("heading", name="The database can't be reached"))
    await expect(page.get_by_text("support-service timeline degrade payment")).to_be_visible()
    await expect(part(page, "database")).to_have_attribute("data-status", "unavailable")
    await expect_accessible(page)
    postgres.start()
    await read_until(page, page.locator('[data-part="database"]:not([data-status="unavailable"])'))
    await expect(page.get_by_role("heading", name="The database can't be reached")).to_have_count(0)


async def read_until(page, text):
    async def is_shown():
        await page.clock.fast_forward(READ_INTERVAL)
        return await text.is_visible()

    await eventually(is_shown)


@pytest.mark.long
async def test_unavailable_redis_is_reported(make_client, redis, browser):
    """The cards of Redis are unavailable and the others have their figures; the list says why it is empty."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url)
    async with watched_console(browser, address_of(client)) as console:
        console.refused = {503}
        redis.kill()
        page = await console.open(ADDRESS)
        await expect(part(page, "cache")).to_have_attribute("data-status", "unavailable")
        await expect(part(page, "deadLetters")).to_have_attribute("data-status", "unavailable")
        await expect(part(page, "database")).to_have_attribute("data-status", "ok")
        await expect(page.get_by_text("The Redis of events can't be reached.")).to_be_visible()
