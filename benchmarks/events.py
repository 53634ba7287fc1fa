"""Measure events with PostgreSQL, Redis and one replica: inbound events per minute, and the delay of published changes.

Clients read cases meanwhile. Their latency during a burst, and the server's CPU time per read at the budgeted rate,
show the effect on the API. Needs the packages that `make services` installs. Absolute figures depend on the machine.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import redis.asyncio as redis
import uvloop
from tests.support.servers import PostgresServer, RedisServer, free_port

from benchmarks.event_cost import EventStream, compare
from support_service.platform.database import migrate

ROOT = Path(__file__).resolve().parent.parent
CASES = 500
APPLY_TIMEOUT = 600.0  # seconds within which all events must be applied
EVENTS_PER_MINUTE = 5000  # the budgeted rate
WINDOW = 5.0  # seconds of each window: reads, events, and both


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events", description=__doc__)
    parser.add_argument(
        "--events", type=int, default=5000, help="inbound events, each for one case (default: %(default)s)"
    )
    parser.add_argument(
        "--rate", type=float, default=100, help="changes per second for the relay (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=20, help="duration of the changes (default: %(default)s)")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="benchmark-events-"))
    for name in ("postgres", "redis"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    postgres, broker = PostgresServer(folder / "postgres"), RedisServer(folder / "redis")
    try:
        postgres.start()
        broker.start()
        url = postgres.url(postgres.create_database())
        migrate.upgrade(url)
        uvloop.run(_measure(arguments, folder, url, broker.url))
    finally:
        broker.close()
        postgres.close()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


async def _measure(arguments: argparse.Namespace, folder: Path, url: str, redis_url: str) -> None:
    async with _service(folder, url, redis_url) as (port, pid), _session(port) as session:
        stream: Any = redis.Redis.from_url(redis_url)
        cases = [await _open(session, number) for number in range(CASES)]
        seconds, reads = await _inbound(session, stream, cases, arguments.events)
        rate = arguments.events / seconds * 60
        print(f"inbound: {arguments.events} events in {seconds:.1f} s, {rate:,.0f} per minute (budget 5,000)")
        print(f"  concurrent reads: {len(reads)}, p50 {_ms(reads, 0.5)}, p99 {_ms(reads, 0.99)}")
        lags = await _relay(session, stream, cases, arguments.rate, arguments.seconds)
        print(
            f"relay: {len(lags)} changes at {arguments.rate:g} per second, delay p50 {_ms(lags, 0.5)}, "
            f"p99 {_ms(lags, 0.99)}, max {_ms(lags, 1)} (budget p99 250 ms)"
        )
        alone, with_events, applied = await compare(port, pid, cases, _inbound_stream(stream), WINDOW)
        print(
            f"reads at 32 connections: {alone:.3f} ms of CPU each, {with_events:.3f} ms with {EVENTS_PER_MINUTE:,} "
            f"events per minute ({with_events / alone:.2f}x); {applied:.0%} of the events were applied meanwhile"
        )
        await stream.aclose()


def _session(port: int) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(f"http://127.0.0.1:{port}")


def _event(number: int, name: str = "e") -> str:
    data = {"orderId": f"order-{number % CASES}", "shipmentId": f"s-{number}", "status": "in_transit"}
    event = {"specversion": "1.0", "id": f"{name}-{number}", "source": "/benchmark", "data": data}
    return json.dumps(event | {"type": "fulfillment.shipment.updated.v1"})


def _inbound_stream(stream: Any) -> EventStream:
    sent = 0

    async def send() -> None:
        nonlocal sent
        sent += 1
        await stream.xadd("support.inbound", {"event": _event(sent, "paced")})

    async def handled() -> int:
        (group,) = await stream.xinfo_groups("support.inbound")
        return sent - int(group["lag"] or 0) - int(group["pending"])

    return EventStream(send, handled, EVENTS_PER_MINUTE / 60)


async def _open(session: aiohttp.ClientSession, number: int) -> str:
    case = {"subject": "A parcel", "channel": "email", "context": {"type": "order", "orderId": f"order-{number}"}}
    async with session.post("/support/cases", json=case) as response:
        return str((await response.json())["id"])


async def _inbound(
    session: aiohttp.ClientSession, stream: Any, cases: list[str], events: int
) -> tuple[float, list[float]]:
    """Return the seconds until all events have taken effect, and the seconds of each read meanwhile."""
    pipe = stream.pipeline(transaction=False)
    for number in range(events):
        pipe.xadd("support.inbound", {"event": _event(number)})
    started = time.perf_counter()
    await pipe.execute()
    reads: list[float] = []
    while time.perf_counter() < started + APPLY_TIMEOUT:
        for _ in range(5):
            at = time.perf_counter()
            async with session.get(f"/support/cases/{cases[len(reads) % CASES]}") as response:
                await response.read()
            reads.append(time.perf_counter() - at)
            await asyncio.sleep(0.01)
        (group,) = await stream.xinfo_groups("support.inbound")
        if group["lag"] == 0 and group["pending"] == 0:
            break
    return time.perf_counter() - started, reads


async def _relay(
    session: aiohttp.ClientSession, stream: Any, cases: list[str], rate: float, seconds: float
) -> list[float]:
    """Return for each change the seconds from the event's time to its entry in the stream."""
    first = (await stream.xrevrange("support.events", count=1))[0][0]
    message = {"authorType": "agent", "message": "We asked the carrier."}
    sending: set[asyncio.Task[None]] = set()

    async def say(case: str) -> None:
        async with session.post(f"/support/cases/{case}/messages", json=message) as response:
            await response.read()

    started = time.perf_counter()
    for number in range(int(rate * seconds)):
        task = asyncio.create_task(say(cases[number % CASES]))
        sending.add(task)
        task.add_done_callback(sending.discard)
        await asyncio.sleep(max(0.0, started + (number + 1) / rate - time.perf_counter()))
    await asyncio.gather(*sending)
    await asyncio.sleep(2)
    lags = []
    for key, fields in await stream.xrange("support.events", f"({first.decode()}", "+"):
        changed = _time(json.loads(fields[b"event"])["time"])
        lags.append(max(0.0, int(key.partition(b"-")[0]) / 1000 - changed))
    return lags


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _ms(seconds: list[float], share: float) -> str:
    ordered = sorted(seconds)
    return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000:.0f} ms"


@asynccontextmanager
async def _service(folder: Path, url: str, redis_url: str) -> AsyncIterator[tuple[int, int]]:
    """Run a replica during a `with` block; yield its port and its process id."""
    port = free_port()
    env = {
        "PYTHONPATH": str(ROOT / "src"),
        "SUPPORT_PORT": str(port),
        "SUPPORT_DATABASE_URL": url,
        "SUPPORT_REDIS_URL": redis_url,
        "SUPPORT_ATTACHMENT_DIR": str(folder / "attachments"),
        "SUPPORT_LOG_LEVEL": "warning",
    }
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "support_service", "serve"]
    process = subprocess.Popen(command, env=env, cwd=folder)  # noqa: ASYNC220 - nothing else runs yet
    try:
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"{address}/readyz") as response:
                        if response.status == 200:
                            break
                except aiohttp.ClientError:
                    if process.poll() is not None:
                        raise
                await asyncio.sleep(0.05)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    sys.exit(main())
