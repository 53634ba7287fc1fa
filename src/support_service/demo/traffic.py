"""Realistic load for dashboards: customers who write, agents who answer, files, events and, on request, faults."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import aiohttp

from support_service.core.clock import utc_now
from support_service.core.user_error import UserError
from support_service.demo.samples import SAMPLE_CASES
from support_service.http.client_errors import describe_client_error
from support_service.server import stop_signal

CHANNELS = ("email", "chat", "chat", "phone", "web", "web", "mobile", "social")
PRIORITIES = ("low", "normal", "normal", "normal", "high", "urgent")
MESSAGES = {
    "customer": ("Is there any news?", "Thank you!", "That did not help.", "Tôi vẫn chưa nhận được hàng."),
    "agent": ("We asked the carrier.", "A replacement is on its way.", "Could you send a photo?"),
}
SHIPMENT_STATUSES = ("packed", "in_transit", "out_for_delivery", "delivered")
MAX_CONCURRENT_REQUESTS = 32  # requests in flight
MAX_OPEN_CASES = 200  # open cases that actions choose from
REPORT_INTERVAL = 10.0  # seconds


class TrafficGenerator:
    """Random actions of the clients of one service. `faults` adds the errors of broken clients."""

    def __init__(self, session: aiohttp.ClientSession, *, faults: bool, seed: int | None = None) -> None:
        self._session = session
        self._draw = random.Random(seed)
        self._cases: list[tuple[str, str]] = []  # (path, order)
        self.answers: Counter[str] = Counter()
        self.last_failure = ""  # why the last request without an answer failed
        self._actions = {self._open: 2, self._say: 4, self._read: 8, self._list: 3, self._file: 1, self._event: 2}
        self._actions |= {self._status: 1, self._close: 1}
        if faults:
            self._actions |= {self._mistake: 2}

    async def act(self) -> None:
        """Perform one random action and count the answer."""
        actions = list(self._actions)
        action = self._draw.choices(actions, weights=list(self._actions.values()))[0]
        if not self._cases:
            action = self._open
        try:
            await action()
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            self.answers["no answer"] += 1
            self.last_failure = describe_client_error(failure)

    async def _open(self) -> None:
        order = f"ORD-{self._draw.randint(1000, 1999)}"
        sample = self._draw.choice(SAMPLE_CASES)
        case = sample | {"channel": self._draw.choice(CHANNELS), "priority": self._draw.choice(PRIORITIES)}
        case |= {
            "customerId": f"customer-{self._draw.randint(1, 300)}",
            "context": [{"type": "order", "orderId": order}],
        }
        opened = await self._send("POST", "/support/cases", json=case)
        if opened:
            self._cases = [*self._cases[1 - MAX_OPEN_CASES :], (f"/support/cases/{opened['id']}", order)]

    async def _say(self) -> None:
        author = self._draw.choice(tuple(MESSAGES))
        message = {"authorType": author, "message": self._draw.choice(MESSAGES[author])}
        await self._send("POST", f"{self._case()}/messages", json=message)

    async def _read(self) -> None:
        await self._send("GET", self._case(), params={"includeTimeline": "true"})

    async def _list(self) -> None:
        query = self._draw.choice(({"status": "open"}, {"priority": "urgent"}, {"q": "parcel"}))
        await self._send("GET", "/support/cases", params=query)

    async def _file(self) -> None:
        form = aiohttp.FormData()
        data = self._draw.randbytes(self._draw.randint(1_000, 80_000))
        form.add_field("file", data, filename="photo.jpg", content_type="image/jpeg")
        await self._send("POST", f"{self._case()}/attachments", data=form)

    async def _event(self) -> None:
        order = self._draw.choice(self._cases)[1]
        event = {
            "eventType": "fulfillment.shipment.updated.v1",
            "eventId": str(uuid4()),
            "orderId": order,
            "shipmentId": order.replace("ORD", "SHP"),
            "status": self._draw.choice(SHIPMENT_STATUSES),
            "carrier": "VNPost",
            "occurredAt": utc_now().isoformat(),
        }
        await self._send("POST", "/support/events", json=event)

    async def _status(self) -> None:
        change = {"status": self._draw.choice(("pending", "resolved", "open")), "assignedAgentId": "agent-lan"}
        await self._send("POST", f"{self._case()}/status", json=change)

    async def _close(self) -> None:
        case = self._draw.choice(self._cases)
        self._cases.remove(case)  # no messages for a closed case
        await self._send("POST", f"{case[0]}/close", json={"message": "Closed after a week of silence."})

    async def _mistake(self) -> None:
        mistakes: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("GET", "/support/cases/no-such-case", {}),
            ("POST", "/support/cases", {"json": {"channel": "email"}}),
            ("POST", f"{self._case()}/messages", {"data": b"{", "headers": {"Content-Type": "application/json"}}),
            ("POST", f"{self._case()}/attachments", {"data": b"no form"}),
            ("POST", "/support/events", {"json": {"eventType": "fulfillment.shipment.updated.v1", "status": 7}}),
            ("GET", "/support/nothing", {}),
        )
        method, path, body = self._draw.choice(mistakes)
        await self._send(method, path, **body)

    def _case(self) -> str:
        return self._draw.choice(self._cases)[0]

    async def _send(self, method: str, path: str, **body: Any) -> dict[str, Any] | None:
        path = path.removeprefix("/")  # a leading slash would drop the path of the base URL
        async with self._session.request(method, path, **body) as response:
            self.answers[f"{response.status // 100}xx"] += 1
            if response.status != 201:
                await response.read()
                return None
            answer: dict[str, Any] = await response.json()
            return answer


async def run(base_url: str, headers: Mapping[str, str], rate: float, duration: float | None, *, faults: bool) -> None:
    """Send about `rate` requests a second until Ctrl-C, or for `duration` seconds, and print counts of the answers.

    Raises UserError if no request was answered.
    """
    stopped = asyncio.ensure_future(stop_signal())
    loop = asyncio.get_running_loop()
    reported_at = loop.time()
    until = float("inf") if duration is None else reported_at + duration
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(f"{base_url}/", headers=headers, timeout=timeout) as session:
        traffic = TrafficGenerator(session, faults=faults)
        acting: set[asyncio.Task[None]] = set()
        while not stopped.done() and loop.time() < until:
            if len(acting) < MAX_CONCURRENT_REQUESTS:
                task = asyncio.create_task(traffic.act())
                acting.add(task)
                task.add_done_callback(acting.discard)
            pause = min(random.expovariate(rate), until - loop.time())
            await asyncio.wait([stopped], timeout=max(0.0, pause))
            if loop.time() > reported_at + REPORT_INTERVAL:
                reported_at = loop.time()
                _print_counts(traffic)
        await asyncio.gather(*acting)
        _print_counts(traffic)
    if traffic.answers.keys() == {"no answer"}:
        raise UserError(f"{base_url} gave no answer at all: check --base-url")


def _print_counts(traffic: TrafficGenerator) -> None:
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(traffic.answers.items())) or "nothing yet"
    print(f"{counts}; last failure: {traffic.last_failure}" if traffic.last_failure else counts, flush=True)
