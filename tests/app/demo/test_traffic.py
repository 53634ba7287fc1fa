"""`support-service demo traffic` sends requests of clients, and with `--faults` invalid requests too."""

import asyncio
import re
import signal

import aiohttp

from support_service.client import SupportClient
from support_service.demo import traffic as traffic_module
from support_service.demo.traffic import TrafficGenerator, TrafficTimings
from tests.support.calls import eventually
from tests.support.servers import free_port


async def test_traffic_covers_what_clients_do(client, metrics):
    """Cases are opened, read, changed and closed, files and events are sent, and no request is refused."""
    async with SupportClient(str(client.make_url("/"))) as api:
        traffic = TrafficGenerator(api, seed=6)
        for _ in range(150):
            await traffic.perform_random_action()
    assert (set(traffic.answers), traffic.last_failure) == ({"2xx"}, "")
    for name in ("ticket_created", "conversation_added", "ticket_status_changed", "attachment_stored"):
        assert metrics.total(f"support_{name}_total") > 0
    await eventually(lambda: metrics.total("support_events_consumed_total"))


async def test_faulty_requests_are_refused(client):
    """Invalid requests get 4xx, and no request gets 5xx."""
    url = str(client.make_url("/"))
    async with aiohttp.ClientSession(url) as session, SupportClient(url) as api:
        traffic = TrafficGenerator(api, session, seed=6)
        for _ in range(150):
            await traffic.perform_random_action()
    assert set(traffic.answers) == {"2xx", "4xx"}


async def test_traffic_counts_requests_without_a_response():
    """Traffic continues while the service is unreachable."""
    async with SupportClient(f"http://127.0.0.1:{free_port()}/", timings=traffic_module.WITHOUT_RETRIES) as api:
        traffic = TrafficGenerator(api, seed=6)
        await traffic.perform_random_action()
    assert traffic.answers == {"no answer": 1}


async def test_traffic_reports_its_progress(client, capsys):
    """The counts are printed repeatedly, even while all allowed requests are in progress.

    The last line says that the rate was not reached, and why.
    """
    timings = TrafficTimings(report_interval=0.0, max_concurrent_requests=1)
    url = str(client.make_url("")).rstrip("/")
    running = asyncio.create_task(traffic_module.run(url, {}, 1_000_000.0, None, faults=False, timings=timings))
    shown = ""

    def progress_is_printed():
        nonlocal shown
        shown += capsys.readouterr().out
        return "2xx" in shown

    await eventually(progress_is_printed)
    signal.raise_signal(signal.SIGTERM)
    await running
    assert "nothing yet" in shown
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"[0-9.]+ requests a second of 1e\+06: [0-9,]+ were not sent, because 1 waited for an answer", last_line
    )
