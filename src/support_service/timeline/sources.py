"""The services behind the timeline: which calls bring what a case wants of each, and how one call is made."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import aiohttp
import pydantic_core
from yarl import URL

from support_service.references import Service, Wanted
from support_service.telemetry.instruments import Instruments
from support_service.telemetry.traces import outgoing
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


def order_calls(wanted: Wanted) -> list[Call]:
    """Each order, and its events."""
    return [
        call
        for order in map(_segment, wanted.ids)
        for call in (Call(f"/orders/{order}", merge.order), Call(f"/orders/{order}/events", merge.order_events))
    ]


def payment_calls(wanted: Wanted) -> list[Call]:
    """Each payment, and those of orders."""
    return _calls("/payments", merge.payment, wanted)


def fulfillment_calls(wanted: Wanted) -> list[Call]:
    """Each shipment, and those of orders."""
    return _calls("/fulfillment/shipments", merge.shipment, wanted)


def _calls(base: str, read: Callable[[object], list[Entry]], wanted: Wanted) -> list[Call]:
    by_order = merge.page_of(read)
    return [
        *(Call(f"{base}/{_segment(own)}", read) for own in wanted.ids),
        *(Call(f"{base}?orderId={_segment(order)}&limit={MAX_ITEMS}", by_order) for order in wanted.of_orders),
    ]


CALLS: dict[Service, Callable[[Wanted], list[Call]]] = {
    "order": order_calls,
    "payment": payment_calls,
    "fulfillment": fulfillment_calls,
}


class SourceClient:
    """One service: bounded in calls at once and in the time of each."""

    def __init__(
        self,
        name: Service,
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
        async with self._session.get(url, headers=outgoing(), allow_redirects=False) as response:
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
