"""A stop completes uploads, requests and events that are in progress."""

import asyncio
import json
import random
import sqlite3
from contextlib import asynccontextmanager, closing

import aiohttp
import pytest

from tests.support.calls import GENEROUS_TIMEOUT, eventually, expect_json, open_case
from tests.support.constants import with_constants
from tests.support.events.fixtures import shipment_event
from tests.support.process import running
from tests.support.servers import accepts, free_port

pytestmark = pytest.mark.usefixtures("processes")


@pytest.fixture
async def service(migrated_folder):
    port = free_port()
    async with running("serve", cwd=migrated_folder, SUPPORT_PORT=str(port)) as process:
        address = f"http://127.0.0.1:{port}"
        await process.wait_until_ready(address)
        yield process, address


async def test_upload_in_progress_completes_during_the_stop(service):
    """An upload whose second half arrives after SIGTERM is stored and answered; the exit status is 0."""
    process, address = service
    more = asyncio.Event()

    async def body():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nfirst half, '
        await more.wait()
        yield b"second half\r\n--b--\r\n"

    async with aiohttp.ClientSession(address) as session:
        case = await open_case(session)
        path = f"/support/cases/{case['id']}/attachments"
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        uploading = asyncio.create_task(session.post(path, data=body(), headers=headers))
        await eventually(lambda: _active(address, "POST"))
        process.stop()
        await eventually(lambda: not accepts(int(address.rpartition(":")[2])))
        more.set()
        async with await uploading as response:
            assert response.status == 201
            assert (await response.json())["sizeBytes"] == len(b"first half, second half")
            assert response.headers["Connection"] == "close"
    assert (await process.wait_for_exit())[0] == 0


REQUEST = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"


async def ask(reader, writer):
    """Send a request; return whether the answer says that its connection closes."""
    writer.write(REQUEST)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
    return "\r\nconnection: close\r\n" in head


async def ask_until_refused(port, answered, lost, *, pause=None):
    """Send requests until new connections are refused: each on a new connection, or with a pause on a kept one."""
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        with closing(writer):
            try:
                while not await ask(reader, writer):
                    answered.append(pause)
                    if pause is None:
                        break
                    await asyncio.sleep(pause)
                    if reader.at_eof():  # the service has closed an idle connection
                        break
            except (ConnectionError, asyncio.IncompleteReadError) as failure:
                lost.append((pause, failure))


async def test_every_accepted_request_is_answered_during_the_stop(service):
    """No connection is reset that a client could open, and none that a client used a moment before.

    The clients send bytes, because a library repeats a request that the service has dropped.
    """
    process, address = service
    port, answered, lost = int(address.rpartition(":")[2]), [], []
    pauses = [None] * 8 + [random.uniform(0, 0.3) for _ in range(100)]
    async with asyncio.timeout(GENEROUS_TIMEOUT), asyncio.TaskGroup() as clients:
        for pause in pauses:
            clients.create_task(ask_until_refused(port, answered, lost, pause=pause))
        await eventually(lambda: len(set(answered)) == len(set(pauses)))
        process.stop()
    assert not lost
    assert (await process.wait_for_exit())[0] == 0


async def test_accepted_events_are_applied_before_the_exit_without_redis(migrated_folder):
    port, admin = free_port(), free_port()
    ports = {"SUPPORT_PORT": str(port), "SUPPORT_ADMIN_PORT": str(admin)}
    patience = with_constants({"server.STOP_TIMEOUT": 6 * GENEROUS_TIMEOUT})
    async with running("serve", cwd=migrated_folder, **ports, **patience) as process:
        await process.wait_until_ready(f"http://127.0.0.1:{port}")
        async with _accept_but_block_events(f"http://127.0.0.1:{port}", migrated_folder, 100):
            process.stop()
            # The admin port is closed once all requests have ended.
            await eventually(lambda: not accepts(admin))
        status, _, log = await process.wait_for_exit(6 * GENEROUS_TIMEOUT)
    assert (status, _message_count(migrated_folder), "lost" in log) == (0, 100, False)


async def test_stop_timeout_limits_the_wait_for_events(migrated_folder):
    """If events can't be applied, the process still exits, and reports how many are lost."""
    port, short = free_port(), with_constants({"server.STOP_TIMEOUT": 0.2})
    async with running("serve", cwd=migrated_folder, SUPPORT_PORT=str(port), **short) as process:
        await process.wait_until_ready(f"http://127.0.0.1:{port}")
        async with _accept_but_block_events(f"http://127.0.0.1:{port}", migrated_folder, 3):
            process.stop()
            status, _, log = await process.wait_for_exit()
    assert (status, _message_count(migrated_folder)) == (0, 0)
    warnings = [line["message"] for line in map(json.loads, log.splitlines()) if line["level"] == "WARNING"]
    assert any(message.startswith("3 events ") for message in warnings)


@asynccontextmanager
async def _accept_but_block_events(address, folder, number):
    """Have this number of events accepted; a lock on the database blocks them for the length of the block."""
    async with aiohttp.ClientSession(address) as session:
        await open_case(session, context={"type": "order", "orderId": "order-456"})
        with closing(sqlite3.connect(folder / "var" / "support.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for event in range(number):
                await expect_json(session.post("/support/events", json=shipment_event(f"e-{event}")), 202)
            yield


def _message_count(folder):
    with closing(sqlite3.connect(folder / "var" / "support.db")) as database:
        return database.execute("SELECT count(*) FROM messages").fetchone()[0]


async def _active(address, method):
    async with aiohttp.ClientSession() as session, session.get(f"{address}/metrics") as response:
        text = await response.text()
    return f'http_server_active_requests{{http_request_method="{method}",url_scheme="http"}} 1.0' in text
