"""Every fault of the drill: faults of the signals, and the controls, which look like faults and must raise no alert."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from uuid import uuid4

import aiohttp
from observability.drill import EVALUATION_SECONDS, TIME_DIVISOR, DrillFault, changed_attributes, repeatedly
from observability.signals import SIGNALS
from observability.signals.attachment_offload_failing import OFFLOADING

from tests.e2e.drill.deployment import Deployment
from tests.e2e.drill.traffic import FROM

FAILOVER = 40 / TIME_DIVISOR  # seconds
IMPORTED = 600  # cases
SLOW_TRANSFER = 12.0  # seconds
PART = 4096  # bytes of a slow transfer


@asynccontextmanager
async def no_fault(_: Deployment) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def they_are_replaced_one_by_one(deployment: Deployment) -> AsyncIterator[None]:
    for replica in deployment.replicas:
        await replica.stop()
        await replica.start()
    yield


@asynccontextmanager
async def database_fails_over(deployment: Deployment) -> AsyncIterator[None]:
    await asyncio.to_thread(deployment.database.server.stop)
    await asyncio.sleep(FAILOVER)
    await deployment.database.start()
    yield


@asynccontextmanager
async def a_client_asks(deployment: Deployment, path: str, each: float, token: str = "") -> AsyncIterator[None]:
    """A client asks for a path again and again, with the token of all clients or another one."""
    headers = {"Authorization": f"Bearer {token or deployment.traffic.token}"}
    connector = aiohttp.TCPConnector(local_addr=(FROM, 0))
    async with aiohttp.ClientSession(deployment.load_balancer.ingress, headers=headers, connector=connector) as session:

        async def ask() -> None:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(path.replace("NEW", str(uuid4()))) as response:
                    await response.read()

        async with repeatedly(ask, each):
            yield


@asynccontextmanager
async def many_cases_are_not_found(deployment: Deployment) -> AsyncIterator[None]:
    """An integration goes through a list of cases that were erased: most answers of its route are 404."""
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(a_client_asks(deployment, "/support/cases/NEW", 0.1))
        yield


@asynccontextmanager
async def one_client_has_a_wrong_token(deployment: Deployment) -> AsyncIterator[None]:
    """A script that nobody looks after asks twice a second with a token that was revoked."""
    async with a_client_asks(deployment, "/support/cases", 0.5, token="revoked"):
        yield


@asynccontextmanager
async def cases_are_imported(deployment: Deployment) -> AsyncIterator[None]:
    """The nightly import of another system: a few hundred cases at once, each with messages."""
    message = {"authorType": "customer", "message": "Where is it?", "sentAt": "2026-01-02T08:00:00Z"}
    case = {"subject": "Parcel", "channel": "email", "status": "closed", "messages": [message] * 3}
    file = deployment.folder / "cases.jsonl"
    file.write_text("".join(f"{json.dumps(case | {'externalId': str(uuid4())})}\n" for _ in range(IMPORTED)))
    await deployment.run("import", str(file))
    yield


@asynccontextmanager
async def a_client_is_slow(deployment: Deployment) -> AsyncIterator[None]:
    """A phone with a weak signal uploads one file after another, each as slowly as the load balancer bears."""
    case = await deployment.traffic.open_case(read=False)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(round(SLOW_TRANSFER)):
            yield bytes(PART)
            await asyncio.sleep(1)

    async with deployment.traffic.session(timeout=3 * SLOW_TRANSFER) as session:

        async def upload() -> None:
            form = aiohttp.FormData()
            form.add_field("file", parts(), filename="photo.bin")
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(f"/support/cases/{case}/attachments", data=form) as response:
                    await response.read()

        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(repeatedly(upload, 0.1))
            yield


@asynccontextmanager
async def a_backup_reads_everything(deployment: Deployment) -> AsyncIterator[None]:
    """A backup holds a lock on each table for as long as it takes, as `pg_dump` does; nobody waits for it."""
    tables = "tickets, messages, attachments, outbox IN ACCESS SHARE MODE"
    async with deployment.database.holding(f"LOCK TABLE {tables}"):
        yield


@asynccontextmanager
async def a_screen_is_reloaded_often(deployment: Deployment) -> AsyncIterator[None]:
    """A wave of reads, three times the usual ones, as when a shift begins."""
    async with changed_attributes(deployment.traffic, reads=3 * deployment.traffic.reads):
        await asyncio.sleep(20 * EVALUATION_SECONDS)
    yield


FAULTS = (
    *(fault for signal in SIGNALS for fault in signal.drills),
    DrillFault("a healthy hour", (), no_fault, scenario=OFFLOADING),
    DrillFault("a rolling restart", (), they_are_replaced_one_by_one),
    DrillFault("a failover of the database", (), database_fails_over),
    DrillFault("many cases are not found", (), many_cases_are_not_found),
    DrillFault("one client has a wrong token", (), one_client_has_a_wrong_token),
    DrillFault("a nightly import", (), cases_are_imported),
    DrillFault("a slow client uploads", (), a_client_is_slow),
    DrillFault("a backup of the database", (), a_backup_reads_everything),
    DrillFault("a wave of reads", (), a_screen_is_reloaded_often),
)
