"""The order service: an order gives one entry, and each of its events another."""

from support_service.core.domain.source import Source, SourcePart

SOURCE = Source(
    service="order",
    kind="order",
    path="/orders",
    members={"status": "status", "total": "grandTotal"},
    parts=(SourcePart("events", "order-event", {"eventType": "type", "payload": "payload"}),),
    amount_members=frozenset({"total"}),
    personal=frozenset({"payload"}),
    variables=("status",),
    example={"id": "ORD-1001", "status": "paid", "grandTotal": "12.50"},
    place=1,
)
