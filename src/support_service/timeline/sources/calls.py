"""The calls to each upstream service for the references of a case."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from support_service.core.references import Service, Wanted
from support_service.timeline import merge
from support_service.timeline.merge import Entry

MAX_ITEMS = 50  # payments or shipments requested for one order


@dataclass(frozen=True, slots=True)
class Call:
    """One GET request to a service: the path with its query, and the reader of the parsed answer."""

    path: str
    read: Callable[[object], list[Entry]]


def order_calls(wanted: Wanted) -> Iterator[Call]:
    """Yield two calls for each order: the order and its events."""
    for order in map(_segment, wanted.ids):
        yield Call(f"/orders/{order}", merge.order)
        yield Call(f"/orders/{order}/events", merge.order_events)


def payment_calls(wanted: Wanted) -> Iterator[Call]:
    """Yield a call for each payment, and a call for the payments of each order."""
    return _calls("/payments", merge.payment, wanted)


def fulfillment_calls(wanted: Wanted) -> Iterator[Call]:
    """Yield a call for each shipment, and a call for the shipments of each order."""
    return _calls("/fulfillment/shipments", merge.shipment, wanted)


def _calls(base: str, read: Callable[[object], list[Entry]], wanted: Wanted) -> Iterator[Call]:
    by_order = merge.page_of(read)
    for item in wanted.ids:
        yield Call(f"{base}/{_segment(item)}", read)
    for order in wanted.of_orders:
        yield Call(f"{base}?orderId={_segment(order)}&limit={MAX_ITEMS}", by_order)


CALLS: dict[Service, Callable[[Wanted], Iterator[Call]]] = {
    "order": order_calls,
    "payment": payment_calls,
    "fulfillment": fulfillment_calls,
}


def _segment(reference: str) -> str:
    """Return a reference encoded as one path segment or query value.

    A reference of dots only is encoded too: `.` and `..` would be resolved as relative path segments.
    """
    encoded = quote(reference, safe="")
    return encoded.replace(".", "%2E") if not encoded.strip(".") else encoded
