"""The fulfillment service: the shipments of an order."""

from support_service.core.domain.source import Source

SOURCE = Source(
    service="fulfillment",
    kind="shipment",
    path="/fulfillment/shipments",
    members={"orderId": "orderId", "status": "status", "trackingNumber": "trackingNumber"},
    personal=frozenset({"trackingNumber"}),
    variables=("status", "trackingNumber"),
    other_ids={"trackingNumber": "tracking"},
    example={"id": "SHP-1001", "status": "in_transit", "trackingNumber": "VN1"},
    place=3,
)
