"""Two replicas and Redis: what one colleague does is shown to another one, also after a replica or Redis was away."""

import os
import signal
import statistics
from dataclasses import replace

import aiohttp
import pytest
from playwright.async_api import expect

from support_service.core.clock import Backoff
from support_service.events.broker.base import RedisBrokerTimings
from support_service.events.relay import RelayTimings
from support_service.stream.feed import FeedTimings
from support_service.stream.service import StreamTimings
from tests.support.access.fixtures import write_token
from tests.support.calls import expect_json, open_case
from tests.support.console.balancer import Balancer
from tests.support.console.browser import address_of, settled, sign_in, watched_console
from tests.support.console.samples import case_path, open_waiting
from tests.support.process import running
from tests.support.servers import free_port
from tests.support.timings import patient_events, patient_timings

pytestmark = pytest.mark.long

SHORT_TIMEOUT = RedisBrokerTimings(timeout=0.5)
SOON = Backoff(0.05, 0.1)
NOTICES_SOON = patient_timings(
    stream=replace(StreamTimings(), feed=FeedTimings(wait=0.2, check_interval=0.1, backoff=SOON)),
    events=patient_events(broker=SHORT_TIMEOUT, log=SHORT_TIMEOUT, relay=RelayTimings(backoff=SOON)),
)

ROUNDS = int(os.environ.get("TYPING_ROUNDS", "1"))
# When a writer's text changed, and when a colleague's page began or ceased to say so: times of the browser in ms.
NOTE_KEYS = "() => { window.noted = []; addEventListener('input', () => noted.push(Date.now()), true); }"
NOTE_LINE = """() => {
  window.noted = [];
  let was = false;
  new MutationObserver(() => {
    const is = Boolean(document.querySelector(".typing")?.textContent.trim());
    if (is !== was) noted.push(Date.now());
    was = is;
  }).observe(document, {childList: true, subtree: true, characterData: true});
}"""


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_typing_is_shown_to_a_colleague_at_another_replica(environment, redis, tmp_path, browser, processes):
    """Each time when it begins and when it ends; `make test-long ARGS=typing` prints after how many milliseconds.

    When the replica of a page is killed in mid-stream, the page continues with the other one. What was changed before
    it is connected again is not missing.
    """
    file = tmp_path / "tokens.json"
    tokens = [write_token(file, name, role="agent", subject=name) for name in ("agent-1", "agent-2")]
    variables = environment | {"SUPPORT_REDIS_URL": redis.url}
    variables |= {"SUPPORT_AUTH": "token", "SUPPORT_TOKENS_FILE": str(file)}
    ports = [free_port(), free_port()]
    addresses = [f"http://127.0.0.1:{port}" for port in ports]
    async with (
        running("serve", cwd=tmp_path, **variables, SUPPORT_PORT=str(ports[0])) as one,
        running("serve", cwd=tmp_path, **variables, SUPPORT_PORT=str(ports[1])) as other,
        Balancer(ports) as first,
        Balancer(ports[::-1]) as second,
        aiohttp.ClientSession(addresses[1], headers={"Authorization": f"Bearer {tokens[0]}"}) as client,
    ):
        await one.wait_until_ready(addresses[0])
        await other.wait_until_ready(addresses[1])
        case = await open_case(client, subject="Parcel")
        async with watched_console(browser, first.address) as console, watched_console(browser, second.address) as far:
            writer = await sign_in(console, tokens[0], case_path(case))
            reader = await sign_in(far, tokens[1], case_path(case))
            for page in (writer, reader):
                await expect(page.locator(".live")).to_have_text("live")
                await settled(page)
            await writer.evaluate(NOTE_KEYS)
            await reader.evaluate(NOTE_LINE)
            for _ in range(ROUNDS):
                await writer.locator("#composer").press_sequentially("H")
                await expect(reader.locator(".typing")).to_have_text("agent-1 is typing")
                await writer.locator("#composer").press("Backspace")
                await expect(reader.locator(".typing")).to_have_text("")
            keys, lines = [await page.evaluate("noted") for page in (writer, reader)]
            console.loses_connections = True
            first.ports = []
            one.stop(signal.SIGKILL)
            await expect(writer.locator(".live")).to_contain_text("as of")
            await make_urgent(client, case)
            first.ports = ports[1:]
            await expect(writer.locator(".live")).to_have_text("live")
            await expect(writer.get_by_role("button", name="Priority: Urgent")).to_be_visible()
    assert len(lines) == len(keys) == 2 * ROUNDS
    delays = [line - key for key, line in zip(keys, lines, strict=True)]
    for name, found in (("begins", delays[::2]), ("ends", delays[1::2])):
        times = f"median {statistics.median(found):.0f} ms, longest {max(found)} ms, of {len(found)}"
        print(f"typing {name}: {times}")  # noqa: T201 - the result of the long form


async def make_urgent(client, case):
    await expect_json(client.patch(f"/support/cases/{case['id']}", json={"priority": "urgent"}))


async def test_page_continues_after_redis_was_away(make_client, redis, browser):
    """Meanwhile it says up to when it is complete; afterwards it has what was changed, without being reloaded."""
    client = await make_client(SUPPORT_REDIS_URL=redis.url, timings=NOTICES_SOON)
    (case,) = await open_waiting(client, "First")
    async with watched_console(browser, address_of(client)) as console:
        page = await console.open()
        await expect(page.locator("tbody tr")).to_have_count(1)
        await expect(page.locator(".live")).to_have_text("live")
        redis.freeze()
        try:
            await expect(page.locator(".live")).to_contain_text("as of")
            await make_urgent(client, case)
        finally:
            redis.thaw()
        await expect(page.locator(".live")).to_have_text("live")
        await expect(page.locator("tbody tr")).to_contain_text("Urgent")
