"""Simulated order, payment and fulfillment services.

The same id always has the same answer. Times are relative to the start.
"""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

STARTED = datetime.now(UTC).replace(microsecond=0)
ORDER_STAGES = ("order.created", "order.paid", "order.packed", "order.shipped", "order.delivered")
STATUS = {"order.created": "placed", "order.paid": "paid", "order.packed": "packed", "order.shipped": "shipped"}


class SimulatedOrder:
    """The data of the three services about one order, drawn from its id."""

    def __init__(self, order_id: str) -> None:
        draw = random.Random(order_id)
        self.id = order_id
        self.number = "".join(filter(str.isdigit, order_id)) or "1"
        self.total = f"{draw.randint(1000, 40000) / 100:.2f}"
        self.reached = draw.randint(2, len(ORDER_STAGES))
        self.placed = STARTED - timedelta(days=draw.randint(2, 9), minutes=draw.randint(0, 600))

    def at(self, stage: int) -> str:
        """Return the time at which the order reached a stage, in ISO 8601."""
        return (self.placed + timedelta(hours=9 * stage)).isoformat()

    def order(self) -> dict[str, Any]:
        """Return the order service's view."""
        status = STATUS.get(ORDER_STAGES[self.reached - 1], "delivered")
        return {"id": self.id, "status": status, "grandTotal": self.total} | self._times(self.reached - 1)

    def events(self) -> list[dict[str, Any]]:
        """Return the order's history."""
        return [
            {"type": stage, "payload": {"orderId": self.id, "step": number}, "createdAt": self.at(number)}
            for number, stage in enumerate(ORDER_STAGES[: self.reached])
        ]

    def payment(self) -> dict[str, Any]:
        """Return the payment service's view."""
        return {
            "id": f"PAY-{self.number}",
            "orderId": self.id,
            "status": "captured",
            "amount": self.total,
        } | self._times(1)

    def shipment(self) -> dict[str, Any]:
        """Return the fulfillment service's view."""
        return {
            "id": f"SHP-{self.number}",
            "orderId": self.id,
            "status": "in_transit" if self.reached < len(ORDER_STAGES) else "delivered",
            "trackingNumber": f"VN{int(self.number):09d}",
        } | self._times(max(self.reached - 1, 2))

    def _times(self, stage: int) -> dict[str, str]:
        return {"createdAt": self.at(0), "updatedAt": self.at(stage)}


def order_service() -> web.Application:
    """Return an app that serves `/orders/{id}` and `/orders/{id}/events`."""
    return _app({"/orders/{id}": SimulatedOrder.order, "/orders/{id}/events": SimulatedOrder.events})


def payment_service() -> web.Application:
    """Return an app that serves `/payments/{id}` and `/payments?orderId=`."""
    return _app({"/payments/{id}": SimulatedOrder.payment, "/payments": SimulatedOrder.payment})


def fulfillment_service() -> web.Application:
    """Return an app that serves `/fulfillment/shipments/{id}` and `/fulfillment/shipments?orderId=`."""
    return _app(
        {"/fulfillment/shipments/{id}": SimulatedOrder.shipment, "/fulfillment/shipments": SimulatedOrder.shipment}
    )


def _app(answers: dict[str, Any]) -> web.Application:
    """Return an app that answers each path with a view of an order, found by the path's id or by `orderId`."""
    app = web.Application()
    for path, view in answers.items():

        async def answer(request: web.Request, view: Any = view) -> web.Response:
            named = request.match_info.get("id")
            if named is None:
                return web.json_response({"items": [view(SimulatedOrder(request.query.get("orderId", "")))]})
            number = named.rpartition("-")[2]
            return web.json_response(view(SimulatedOrder(named if named.startswith("ORD") else f"ORD-{number}")))

        app.router.add_get(path, answer)
    return app
