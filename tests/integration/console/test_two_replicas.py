"""Two colleagues at different replicas: what one does is shown to the other one through Redis."""

import os
import statistics

import aiohttp
import pytest
from playwright.async_api import expect

from tests.support.access.fixtures import write_token
from tests.support.calls import open_case
from tests.support.console.balancer import Balancer
from tests.support.console.browser import settled, sign_in, watched_console
from tests.support.console.samples import case_path
from tests.support.process import running
from tests.support.servers import free_port

pytestmark = pytest.mark.long

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
    """Each time when it begins and when it ends; `make test-long ARGS=typing` prints after how many milliseconds."""
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
        aiohttp.ClientSession(addresses[0], headers={"Authorization": f"Bearer {tokens[0]}"}) as client,
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
    assert len(lines) == len(keys) == 2 * ROUNDS
    delays = [line - key for key, line in zip(keys, lines, strict=True)]
    for name, found in (("begins", delays[::2]), ("ends", delays[1::2])):
        times = f"median {statistics.median(found):.0f} ms, longest {max(found)} ms, of {len(found)}"
        print(f"typing {name}: {times}")  # noqa: T201 - the result of the long form
