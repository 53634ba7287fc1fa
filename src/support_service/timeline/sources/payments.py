"""The payment service: `{id, orderId, status, amount, createdAt, updatedAt}`, by id or by order."""

from support_service.timeline.sources.base import Source, calls_by_id_and_order, object_reader

PATH = "/payments"

read_payment = object_reader("payment", orderId="orderId", status="status", amount="amount")

SOURCE = Source("payment", PATH, calls_by_id_and_order(PATH, read_payment), amounts=frozenset({"amount"}))
