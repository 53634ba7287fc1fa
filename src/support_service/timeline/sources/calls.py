"""Which calls bring what a case wants of each service."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from support_service.core.references import Service, Wanted
from support_service.timeline import merge
from support_service.timeline.merge import Entry

MAX_ITEMS = 50  # payments or shipments asked of one order


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a service: a path with its query, and the reader of the answer."""

    path: str
    read: Callable[[object], list[Entry]]


def order_calls(wanted: Wanted) -> Iterator[Call]:
    """Each order, and its events."""
    for order in map(_segment, wanted.ids):
        yield Call(f"/orders/{order}", merge.order)
        yield Call(f"/orders/{order}/events", merge.order_events)


def payment_calls(wanted: Wanted) -> Iterator[Call]:
    """Each payment, and those of orders."""
    return _calls("/payments", merge.payment, wanted)


def fulfillment_calls(wanted: Wanted) -> Iterator[Call]:
    """Each shipment, and those of orders."""
    return _calls("/fulfillment/shipments", merge.shipment, wanted)


def _calls(base: str, read: Callable[[object], list[Entry]], wanted: Wanted) -> Iterator[Call]:
    by_order = merge.page_of(read)
    for own in wanted.ids:
        yield Call(f"{base}/{_segment(own)}", read)
    for order in wanted.of_orders:
        yield Call(f"{base}?orderId={_segment(order)}&limit={MAX_ITEMS}", by_order)


CALLS: dict[Service, Callable[[Wanted], Iterator[Call]]] = {
    "order": order_calls,
    "payment": payment_calls,
    "fulfillment": fulfillment_calls,
}


def _segment(reference: str) -> str:
    """A reference as one path segment or query value; dots alone would be taken for a step in the path."""
    encoded = quote(reference, safe="")
    return encoded.replace(".", "%2E") if not encoded.strip(".") else encoded
