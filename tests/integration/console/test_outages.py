"""The browser while a replica is killed and while Redis is away: the page says since when, and then continues."""

import signal
from dataclasses import replace

import aiohttp
import pytest
from playwright.async_api import expect

from support_service.events.broker.base import RedisBrokerTimings
from support_service.events.polling import Backoff
from support_service.events.relay import RelayTimings
from support_service.stream.feed import FeedTimings
from support_service.stream.service import StreamTimings
from tests.support.console.balancer import Balancer
from tests.support.console.browser import address_of, watched_console
from tests.support.console.samples import open_waiting
from tests.support.process import running
from tests.support.servers import free_port
from tests.support.timings import patient_events, patient_timings

SHORT_TIMEOUT = RedisBrokerTimings(timeout=0.5)
SOON = Backoff(0.05, 0.1)
NOTICES_SOON = patient_timings(
    stream=replace(StreamTimings(), feed=FeedTimings(wait=0.2, check_interval=0.1, backoff=SOON)),
    events=patient_events(broker=SHORT_TIMEOUT, log=SHORT_TIMEOUT, relay=RelayTimings(backoff=SOON)),
)

pytestmark = pytest.mark.long


async def make_urgent(client, case):
    """Change a case that the page shows."""
    async with client.patch(f"/support/cases/{case['id']}", json={"priority": "urgent"}) as response:
        assert response.status == 200


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


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
async def test_page_continues_with_another_replica(environment, redis, tmp_path, browser, processes):
    """Its own is killed in mid-stream; what was changed before it is connected again is not missing."""
    variables = environment | {"SUPPORT_REDIS_URL": redis.url}
    ports = [free_port(), free_port()]
    killed, other = (f"http://127.0.0.1:{port}" for port in ports)
    async with (
        running("serve", cwd=tmp_path, **variables, SUPPORT_PORT=str(ports[0])) as replica,
        running("serve", cwd=tmp_path, **variables, SUPPORT_PORT=str(ports[1])) as survivor,
        Balancer(ports) as balancer,
        aiohttp.ClientSession(other) as client,
    ):
        await replica.wait_until_ready(killed)
        await survivor.wait_until_ready(other)
        (case,) = await open_waiting(client, "First")
        async with watched_console(browser, balancer.address) as console:
            page = await console.open()
            await expect(page.locator("tbody tr")).to_have_count(1)
            await expect(page.locator(".live")).to_have_text("live")
            console.loses_connections = True
            balancer.ports = []
            replica.stop(signal.SIGKILL)
            await expect(page.locator(".live")).to_contain_text("as of")
            await make_urgent(client, case)
            balancer.ports = ports[1:]
            await expect(page.locator(".live")).to_have_text("live")
            await expect(page.locator("tbody tr")).to_contain_text("Urgent")
