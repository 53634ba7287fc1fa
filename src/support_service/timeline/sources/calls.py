"""The calls to each upstream service for the references of a case."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from support_service.core.references import SourceReferences, UpstreamService
from support_service.timeline import merge
from support_service.timeline.merge import Entry

MAX_ITEMS_PER_ORDER = 50  # payments or shipments requested for one order


@dataclass(frozen=True, slots=True)
class SourceCall:
    """One GET request to a service: the path with its query, and the reader of the parsed answer."""

    path: str
    read: Callable[[object], list[Entry]]


def order_calls(wanted: SourceReferences) -> Iterator[SourceCall]:
    """Yield two calls for each order: the order and its events."""
    for order in map(_segment, wanted.ids):
        yield SourceCall(f"/orders/{order}", merge.read_order)
        yield SourceCall(f"/orders/{order}/events", merge.order_events)


def payment_calls(wanted: SourceReferences) -> Iterator[SourceCall]:
    """Yield a call for each payment, and a call for the payments of each order."""
    return _calls("/payments", merge.payment, wanted)


def fulfillment_calls(wanted: SourceReferences) -> Iterator[SourceCall]:
    """Yield a call for each shipment, and a call for the shipments of each order."""
    return _calls("/fulfillment/shipments", merge.shipment, wanted)


def _calls(base: str, read: Callable[[object], list[Entry]], wanted: SourceReferences) -> Iterator[SourceCall]:
    by_order = merge.page_reader(read)
    for item in wanted.ids:
        yield SourceCall(f"{base}/{_segment(item)}", read)
    for order in wanted.of_orders:
        yield SourceCall(f"{base}?orderId={_segment(order)}&limit={MAX_ITEMS_PER_ORDER}", by_order)


CALLS_BY_SERVICE: dict[UpstreamService, Callable[[SourceReferences], Iterator[SourceCall]]] = {
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
