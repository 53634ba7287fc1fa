"""Measure the memory that clients take which do not read their answers.

A case has 4,096 messages, so its answer has 4 MB, and twice as many with its timeline. Each attack opens 120
connections from one address, sends its requests, and reads 2 KiB of each connection every 5 seconds. Its result is the
largest growth of the service's resident memory during the attack.
"""

import asyncio
import contextlib
import socket
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import psutil

from benchmarks.environment import ROOT, free_port, running
from benchmarks.large_reads import fill_cases

CONNECTIONS = 120
READ_BYTES, READ_INTERVAL = 2048, 5.0  # of each connection, and seconds
SAMPLE_INTERVAL = 0.1  # seconds between two measurements of the memory
ANSWERS_MB = 67  # what one caller may leave unread
TRANSPORTS_MB = CONNECTIONS * 320 * 1024 / 1e6
WORK_MB = 64  # one answer that is being made, and what the allocator keeps
BOUND_MB = ANSWERS_MB + TRANSPORTS_MB + WORK_MB
ATTACKS = {  # method, the end of the path, requests of each connection
    "reads": ("GET", "", 8),
    "timelines": ("GET", "?includeTimeline=true", 8),
    "refreshes": ("POST", "/timeline/refresh", 2),
    "HEAD": ("HEAD", "?includeTimeline=true", 8),
    "pages": ("GET", "?messagesLimit=200", 8),
}


def run(seconds: float) -> int:
    """Run every attack for some seconds against a service of its own; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="unread-answers-") as name:
        folder, port = Path(name), free_port()
        serve = [sys.executable, "-m", "support_service", "serve"]
        settings = {
            "PYTHONPATH": str(ROOT / "src"),
            "SUPPORT_PORT": str(port),
            "SUPPORT_SHED_LAG": "0",  # the bounds are tested, not the protection from overload
            "SUPPORT_LOG_LEVEL": "error",
        }
        largest = 0.0
        print("| attack | before, MB | largest | after |\n| --- | --- | --- | --- |")
        case = ""
        for attack, (method, end, requests) in ATTACKS.items():
            with running("service", port, serve, cwd=folder, env=settings, log=folder / "service.log") as pid:
                if not case:
                    _progress("filling a case")
                    case = asyncio.run(fill_cases(f"http://127.0.0.1:{port}", ["customer-1"]))["customer-1"]
                line = f"{method} /support/cases/{case}{end} HTTP/1.1\r\n"
                raw = f"{line}Host: localhost\r\nContent-Length: 0\r\n\r\n".encode() * requests
                _progress(f"attack: {attack}")
                before, during, after = asyncio.run(_attack(port, psutil.Process(pid), raw, seconds))
            largest = max(largest, during - before)
            print(f"| {attack} | {before:.0f} | {during:.0f} | {after:.0f} |", flush=True)
    verdict = largest <= BOUND_MB
    print(f"\nlargest growth: {largest:.0f} MB (bound {BOUND_MB:.0f} MB): {'ok' if verdict else 'missed'}")
    return 0 if verdict else 1


async def _attack(port: int, service: psutil.Process, raw: bytes, seconds: float) -> tuple[float, float, float]:
    """Return the resident memory in MB before the attack, its largest value during it, and its value afterwards."""
    loop = asyncio.get_running_loop()
    before = largest = _memory(service)
    connections = []
    try:
        for _ in range(CONNECTIONS):
            connection = socket.socket()
            connections.append(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the kernel shall not keep the answers
            connection.setblocking(False)  # noqa: FBT003 - a function of the standard library
            await loop.sock_connect(connection, ("127.0.0.1", port))
            await loop.sock_sendall(connection, raw)
        end, next_read = perf_counter() + seconds, 0.0
        while (now := perf_counter()) < end:
            if now >= next_read:
                next_read = now + READ_INTERVAL
                for connection in connections:
                    with contextlib.suppress(OSError):  # nothing to read, or the service has ended the connection
                        connection.recv(READ_BYTES)
            largest = max(largest, _memory(service))
            await asyncio.sleep(SAMPLE_INTERVAL)
    finally:
        for connection in connections:
            connection.close()
    await asyncio.sleep(1)
    return before, largest, _memory(service)


def _memory(service: psutil.Process) -> float:
    return float(service.memory_info().rss) / 1e6


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
