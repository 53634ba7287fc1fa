"""Realistic load for dashboards: customers who write, agents who answer, files, events and, on request, faults."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any
from uuid import uuid4

import aiohttp

from support_service.client import CaseFilterFields, ClientTimings, NewCaseFields, SupportClient, SupportError
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import AuthorType, Priority, Status
from support_service.core.errors import UserError
from support_service.demo.samples import SAMPLE_CASES
from support_service.platform.http_client import describe_client_error
from support_service.server import wait_for_stop_signal

CHANNELS = ("email", "chat", "chat", "phone", "web", "web", "mobile", "social")
PRIORITIES: tuple[Priority, ...] = ("low", "normal", "normal", "normal", "high", "urgent")
AUTHORS: tuple[AuthorType, ...] = ("customer", "agent")
MESSAGES_BY_AUTHOR = {
    "customer": ("Is there any news?", "Thank you!", "That did not help.", "Tôi vẫn chưa nhận được hàng."),
    "agent": ("We asked the carrier.", "A replacement is on its way.", "Could you send a photo?"),
}
SHIPMENT_STATUSES = ("packed", "in_transit", "out_for_delivery", "delivered")
MAX_OPEN_CASES = 200  # open cases that actions choose from
WITHOUT_RETRIES = ClientTimings(attempts=1)  # a repeat would hide what is counted


@dataclass(frozen=True, slots=True)
class TrafficTimings:
    """How often the counts are printed, in seconds, and how many requests may be in flight."""

    report_interval: float = 10.0
    max_concurrent_requests: int = 32


class TrafficGenerator:
    """Random actions of the clients of one service, and with `raw` the errors of broken clients, which it sends."""

    def __init__(
        self, client: SupportClient, raw: aiohttp.ClientSession | None = None, *, seed: int | None = None
    ) -> None:
        self._client = client
        self._draw = random.Random(seed)
        self._cases: list[tuple[str, str]] = []  # (id, order)
        self.answers: Counter[str] = Counter()
        self.last_failure = ""  # why the last request without an answer failed
        self._actions: dict[Callable[[], Awaitable[int | None]], int]
        self._actions = {
            self._open_case: 2,
            self._add_message: 4,
            self._read_case: 8,
            self._list_cases: 3,
            self._upload_file: 1,
            self._send_event: 2,
        }
        self._actions |= {self._set_status: 1, self._close_case: 1}
        if raw is not None:
            self._actions |= {partial(self._send_mistake, raw): 2}

    async def perform_random_action(self) -> None:
        actions = list(self._actions)
        action = self._draw.choices(actions, weights=list(self._actions.values()))[0]
        if not self._cases:
            action = self._open_case
        try:
            status = await action() or HTTPStatus.OK
        except SupportError as failure:
            self._count_answer(failure.status, str(failure))
        except (aiohttp.ClientError, TimeoutError, OSError) as failure:
            self._count_answer(None, describe_client_error(failure))
        else:
            self._count_answer(status)

    def _count_answer(self, status: int | None, failure: str = "") -> None:
        if status is None:
            self.last_failure = failure
        self.answers["no answer" if status is None else f"{status // 100}xx"] += 1

    async def _open_case(self) -> None:
        order = f"ORD-{self._draw.randint(1000, 1999)}"
        case: NewCaseFields = {
            **self._draw.choice(SAMPLE_CASES),
            "channel": self._draw.choice(CHANNELS),
            "priority": self._draw.choice(PRIORITIES),
            "customer_id": f"customer-{self._draw.randint(1, 300)}",
            "context": [{"type": "order", "orderId": order}],
        }
        opened = await self._client.open_case(**case)
        self._cases = [*self._cases[1 - MAX_OPEN_CASES :], (opened.id, order)]

    async def _add_message(self) -> None:
        author = self._draw.choice(AUTHORS)
        await self._client.add_message(
            self._random_case_id(), author_type=author, message=self._draw.choice(MESSAGES_BY_AUTHOR[author])
        )

    async def _read_case(self) -> None:
        await self._client.get_case(self._random_case_id(), include_timeline=True)

    async def _list_cases(self) -> None:
        queries: tuple[CaseFilterFields, ...] = ({"status": "open"}, {"priority": "urgent"}, {"q": "parcel"})
        async with aclosing(self._client.list_cases(**self._draw.choice(queries))) as cases:
            await anext(cases, None)  # one page

    async def _upload_file(self) -> None:
        data = self._draw.randbytes(self._draw.randint(1_000, 80_000))
        await self._client.upload(self._random_case_id(), data, filename="photo.jpg", content_type="image/jpeg")

    async def _send_event(self) -> None:
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
        await self._client.send_event(event)

    async def _set_status(self) -> None:
        statuses: tuple[Status, ...] = ("pending", "resolved", "open")
        await self._client.set_status(
            self._random_case_id(), self._draw.choice(statuses), assigned_agent_id="agent-lan"
        )

    async def _close_case(self) -> None:
        case = self._draw.choice(self._cases)
        self._cases.remove(case)  # no messages for a closed case
        await self._client.close_case(case[0], message="Closed after a week of silence.")

    async def _send_mistake(self, raw: aiohttp.ClientSession) -> int:
        """Send what the client would not, and return the status of the answer."""
        case = f"support/cases/{self._random_case_id()}"
        mistakes: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("GET", "support/cases/no-such-case", {}),
            ("POST", "support/cases", {"json": {"channel": "email"}}),
            ("POST", f"{case}/messages", {"data": b"{", "headers": {"Content-Type": "application/json"}}),
            ("POST", f"{case}/attachments", {"data": b"no form"}),
            ("POST", "support/events", {"json": {"eventType": "fulfillment.shipment.updated.v1", "status": 7}}),
            ("GET", "support/nothing", {}),
        )
        method, path, body = self._draw.choice(mistakes)
        async with raw.request(method, path, **body) as response:
            await response.read()
            return response.status

    def _random_case_id(self) -> str:
        return self._draw.choice(self._cases)[0]


async def run(
    base_url: str,
    headers: Mapping[str, str],
    rate: float,
    duration: float | None,
    *,
    faults: bool,
    timings: TrafficTimings = TrafficTimings(),
) -> None:
    """Send about `rate` requests a second until Ctrl-C, or for `duration` seconds, and print counts of the answers.

    The last line has the rate that was reached. The load is then as asked for, or the line says why it is not.
    """
    stopped = asyncio.ensure_future(wait_for_stop_signal())
    loop = asyncio.get_running_loop()
    timeout = aiohttp.ClientTimeout(total=30)
    async with (
        aiohttp.ClientSession(f"{base_url}/", headers=headers, timeout=timeout) as session,
        SupportClient(base_url, headers=headers, timings=WITHOUT_RETRIES, session=session) as client,
    ):
        traffic = TrafficGenerator(client, session if faults else None)
        acting: set[asyncio.Task[None]] = set()
        started_at = reported_at = loop.time()
        skipped = 0
        until = float("inf") if duration is None else reported_at + duration
        while not stopped.done() and loop.time() < until:
            if len(acting) < timings.max_concurrent_requests:
                task = asyncio.create_task(traffic.perform_random_action())
                acting.add(task)
                task.add_done_callback(acting.discard)
            else:
                skipped += 1
            pause = min(random.expovariate(rate), until - loop.time())
            await asyncio.wait([stopped], timeout=max(0.0, pause))
            if loop.time() > reported_at + timings.report_interval:
                reported_at = loop.time()
                _print_counts(traffic)
        await asyncio.gather(*acting)
        _print_counts(traffic)
        reached = traffic.answers.total() / max(loop.time() - started_at, 1e-9)
        held_back = (
            f": {skipped:,} were not sent, because {timings.max_concurrent_requests} waited for an answer"
            if skipped
            else ""
        )
        print(f"{reached:.1f} requests a second of {rate:,g}{held_back}")
    if traffic.answers.keys() == {"no answer"}:
        raise UserError(f"{base_url} gave no answer at all: check --base-url")


def _print_counts(traffic: TrafficGenerator) -> None:
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(traffic.answers.items())) or "nothing yet"
    print(f"{counts}; last failure: {traffic.last_failure}" if traffic.last_failure else counts, flush=True)
