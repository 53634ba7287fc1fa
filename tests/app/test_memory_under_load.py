"""Many clients at once on SQLite: not one request fails for the sake of another."""

import asyncio
import os
from collections import Counter

from tests.support.calls import form, list_cases, open_case
from tests.support.scrape import Scrape
from tests.support.service import service_of

CLIENTS = 32
ROUNDS = int(os.environ.get("LOAD_ROUNDS", "3"))  # of six requests each; the long form takes a minute


async def test_32_clients_write_and_read(make_client):
    """Clients that write, read, list, search and upload at once get no 5xx, and every change is there afterwards."""
    client = await make_client(SUPPORT_RATE_LIMIT="off", SUPPORT_RATE_LIMIT_ADDRESS="off")
    metrics, answers = Scrape(service_of(client).metrics), Counter()

    async def call(method, path, **arguments):
        async with client.request(method, path, **arguments) as response:
            await response.read()
            answers[response.status] += 1

    async def work(number):
        case = await open_case(client, subject=f"Case {number}", customerId=f"c-{number}")
        path = f"/support/cases/{case['id']}"
        for turn in range(ROUNDS):
            await call("POST", f"{path}/messages", json={"authorType": "agent", "message": f"{turn}"})
            await call("GET", path, params={"includeTimeline": "true"})
            await call("GET", "/support/cases", params={"q": f"case {number}"})
            await call("PATCH", path, json={"subject": f"Case {number} {turn}"})
            await call("POST", f"{path}/status", params={"status": ("open", "pending")[turn % 2]})
            await call("POST", f"{path}/attachments", data=form(b"x" * 2000))

    await asyncio.gather(*(work(number) for number in range(CLIENTS)))
    assert answers == {200: CLIENTS * ROUNDS * 5, 201: CLIENTS * ROUNDS}
    assert len((await list_cases(client, limit="200"))["items"]) == CLIENTS
    assert metrics.nonzero("support_conversation_added_total") == {"agent": CLIENTS * ROUNDS}
    # A file that was added during a refresh may be missing until the next one.
    await service_of(client).attachments.backlog.refresh()
    assert metrics.value("support_attachment_backlog_files") == CLIENTS * ROUNDS
    assert metrics.value("support_attachment_backlog_bytes") == CLIENTS * ROUNDS * 2000
