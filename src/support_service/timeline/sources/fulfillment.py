"""The fulfillment service: `{id, orderId, status, trackingNumber, createdAt, updatedAt}`, by id or by order."""

from support_service.timeline.sources.base import Source, calls_by_id_and_order, object_reader

PATH = "/fulfillment/shipments"

read_shipment = object_reader("fulfillment", orderId="orderId", status="status", trackingNumber="trackingNumber")

SOURCE = Source("fulfillment", PATH, calls_by_id_and_order(PATH, read_shipment), personal=frozenset({"trackingNumber"}))
