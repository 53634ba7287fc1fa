"""The order service: an order gives one entry, and each of its events another."""

from collections.abc import Iterator

from support_service.core.domain.references import SourceReferences
from support_service.timeline.merge import Entry, normalise_time
from support_service.timeline.sources.base import (
    Source,
    SourceCall,
    entry_source,
    object_reader,
    path_segment,
    require_objects,
)

PATH = "/orders"

read_order = object_reader("order", status="status", total="grandTotal")


def read_events(answer: object) -> list[Entry]:
    """Read the events of an order: `[{type, payload, createdAt}]`."""
    return [
        {
            "type": "order-event",
            "timestamp": normalise_time(event.get("createdAt")),
            "source": entry_source("order"),
            "eventType": event.get("type"),
            "payload": event.get("payload"),
        }
        for event in require_objects(answer, "order events")
    ]


def calls(wanted: SourceReferences) -> Iterator[SourceCall]:
    """Yield two calls for each order: the order and its events."""
    for order in map(path_segment, wanted.ids):
        yield SourceCall(f"{PATH}/{order}", read_order)
        yield SourceCall(f"{PATH}/{order}/events", read_events)


SOURCE = Source("order", PATH, calls, amounts=frozenset({"total"}), personal=frozenset({"payload"}))
