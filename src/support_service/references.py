"""What a case's context says about other services: ids of orders, payments and shipments.

A context is a list of JSON objects. Those of type `order`, `payment` and `shipment` refer to another service:
`{type: order, orderId|id}`, `{type: payment, paymentId|id}`, `{type: shipment, shipmentId|id}`. A payment or shipment
without an id of its own is looked up by its order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KINDS = ("order", "payment", "shipment")
MAX_LENGTH = 200


@dataclass(frozen=True, slots=True)
class References:
    """Ids by kind, each once, in the order in which the context names them.

    `payment_orders` and `shipment_orders` are the orders by which payments and shipments are looked up.
    """

    orders: tuple[str, ...] = ()
    payments: tuple[str, ...] = ()
    payment_orders: tuple[str, ...] = ()
    shipments: tuple[str, ...] = ()
    shipment_orders: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """(kind, value) of every id named, for the index by which events find their cases."""
        named = zip(KINDS, (self.orders, self.payments, self.shipments), strict=True)
        return [(kind, value) for kind, values in named for value in values]


def find(context: Iterable[Mapping[str, Any]]) -> References:
    """The references in a context; entries that name nothing usable are passed over."""
    ids: dict[str, dict[str, None]] = {kind: {} for kind in KINDS}
    by_order: dict[str, dict[str, None]] = {"payment": {}, "shipment": {}}
    for entry in context:
        kind = entry.get("type")
        if kind not in KINDS:
            continue
        own = _id(entry.get(f"{kind}Id")) or _id(entry.get("id"))
        order = _id(entry.get("orderId"))
        if own:
            ids[kind][own] = None
        elif order:
            by_order[kind][order] = None
    orders = tuple(ids["order"])
    return References(
        orders=orders,
        payments=tuple(ids["payment"]),
        payment_orders=tuple(by_order["payment"]) or (() if ids["payment"] else orders),
        shipments=tuple(ids["shipment"]),
        shipment_orders=tuple(by_order["shipment"]) or (() if ids["shipment"] else orders),
    )


def _id(value: object) -> str | None:
    """An id as text; numbers are ids too, truth values and containers are not."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value).strip()
    return text if 0 < len(text) <= MAX_LENGTH else None
