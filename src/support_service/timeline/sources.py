"""The services behind the timeline: which calls a case's references ask for, and how one call is made."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import aiohttp
import pydantic_core
from yarl import URL

from support_service.references import References
from support_service.telemetry.instruments import Instruments
from support_service.timeline import merge
from support_service.timeline.merge import Entry

MAX_ITEMS = 50  # payments or shipments asked of one order

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a service: a path with its query, and the reader of the answer."""

    path: str
    read: Callable[[object], list[Entry]]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call gave no entries: the stage that failed, and a short reason."""

    stage: Literal["http", "aggregate"]
    reason: str


def order_calls(references: References) -> list[Call]:
    """Each order, and its events."""
    return [
        call
        for order in map(_segment, references.orders)
        for call in (Call(f"/orders/{order}", merge.order), Call(f"/orders/{order}/events", merge.order_events))
    ]


def payment_calls(references: References) -> list[Call]:
    """Each payment, and those of the orders by which payments are looked up."""
    return [
        *(Call(f"/payments/{payment}", merge.payment) for payment in map(_segment, references.payments)),
        *(
            Call(f"/payments?orderId={_segment(order)}&limit={MAX_ITEMS}", merge.page_of(merge.payment))
            for order in references.payment_orders
        ),
    ]


def fulfillment_calls(references: References) -> list[Call]:
    """Each shipment, and those of the orders by which shipments are looked up."""
    base = "/fulfillment/shipments"
    return [
        *(Call(f"{base}/{shipment}", merge.shipment) for shipment in map(_segment, references.shipments)),
        *(
            Call(f"{base}?orderId={_segment(order)}&limit={MAX_ITEMS}", merge.page_of(merge.shipment))
            for order in references.shipment_orders
        ),
    ]


CALLS: dict[str, Callable[[References], list[Call]]] = {
    "order": order_calls,
    "payment": payment_calls,
    "fulfillment": fulfillment_calls,
}


class SourceClient:
    """One service: bounded in calls at once and in the time of each."""

    def __init__(
        self,
        name: str,
        base_url: str,
        session: aiohttp.ClientSession,
        instruments: Instruments,
        *,
        timeout: float,
        connections: int,
    ) -> None:
        self.name = name
        self.calls = CALLS[name]
        self._base_url = base_url
        self._session = session
        self._instruments = instruments
        self._timeout = timeout
        self._places = asyncio.Semaphore(connections)

    async def fetch(self, call: Call, deadline: float) -> list[Entry] | Failure:
        """The entries that one call gives, none for a 404; never raises for what the service does.

        The call ends at the source's own timeout, or at `deadline` on the loop's clock if that comes first; waiting for
        a free place counts.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        answer: list[Entry] | Failure
        try:
            async with asyncio.timeout_at(min(started + self._timeout, deadline)), self._places:
                outcome, answer = await self._ask(call)
        except TimeoutError:
            outcome, answer = "timeout", Failure("http", "timeout")
        except (aiohttp.ClientError, OSError) as failure:
            log.info("%s did not answer %s: %r", self.name, call.path, failure)
            outcome, answer = "error", Failure("http", "connection failed")
        self._instruments.timeline_source.record(loop.time() - started, {"service": self.name, "outcome": outcome})
        if isinstance(answer, Failure):
            self._instruments.timeline_collection_failures.add(1, {"stage": answer.stage})
        return answer

    async def _ask(self, call: Call) -> tuple[str, list[Entry] | Failure]:
        url = URL(self._base_url + call.path, encoded=True)  # the reference goes out as it is, percent-encoded
        async with self._session.get(url, allow_redirects=False) as response:
            if response.status == 404:  # noqa: PLR2004 - nothing there, which is an answer
                return "not_found", []
            if not 200 <= response.status < 300:  # noqa: PLR2004 - HTTP's success
                return "error", Failure("http", f"status {response.status}")
            body = await response.read()
        try:
            return "ok", call.read(pydantic_core.from_json(body, allow_inf_nan=False))
        except ValueError as failure:  # OffContract is one, and so is what JSON's parser raises
            log.warning("%s answered %s off the contract: %s", self.name, call.path, failure)
            return "invalid", Failure("aggregate", "unreadable answer")


def _segment(reference: str) -> str:
    """A reference as one path segment or query value; dots alone would be taken for a step in the path."""
    encoded = quote(reference, safe="")
    return encoded.replace(".", "%2E") if not encoded.strip(".") else encoded
