"""Simulated upstream services.

The same id always has the same answer. Times are relative to the start.
"""

import random
from datetime import timedelta
from typing import Any

from aiohttp import web

from support_service.core.clock import utc_now
from support_service.core.domain.upstream_services import SOURCES, UpstreamService

STARTED_AT = utc_now().replace(microsecond=0)
ORDER_STAGES = ("order.created", "order.paid", "order.packed", "order.shipped", "order.delivered")
FAILING: dict[UpstreamService, tuple[str, ...]] = {"fulfillment": ("ORD-1005",)}  # orders that get one answer only
STATUS_BY_STAGE = {
    "order.created": "placed",
    "order.paid": "paid",
    "order.packed": "packed",
    "order.shipped": "shipped",
}


class SimulatedOrder:
    """What the services know about one order, drawn from its id."""

    def __init__(self, order_id: str) -> None:
        draw = random.Random(order_id)
        self.id = order_id
        self.number = "".join(filter(str.isdigit, order_id)) or "1"
        self.total = f"{draw.randint(1000, 40000) / 100:.2f}"
        self.reached = draw.randint(2, len(ORDER_STAGES))
        self.placed = STARTED_AT - timedelta(days=draw.randint(2, 9), minutes=draw.randint(0, 600))

    def time_of(self, stage: int) -> str:
        """Return the time at which the order reached a stage, in ISO 8601."""
        return (self.placed + timedelta(hours=9 * stage)).isoformat()

    def history(self) -> list[dict[str, Any]]:
        """Return the order's history."""
        return [
            {"type": stage, "payload": {"orderId": self.id, "step": number}, "createdAt": self.time_of(number)}
            for number, stage in enumerate(ORDER_STAGES[: self.reached])
        ]

    def object_of_service(self, service: UpstreamService) -> dict[str, Any]:
        """Return a service's object about the order: its example, with what depends on the order."""
        last = self.reached - 1
        details: dict[str, tuple[int, dict[str, Any]]] = {
            "order": (
                last,
                {
                    "id": self.id,
                    "status": STATUS_BY_STAGE.get(ORDER_STAGES[last], "delivered"),
                    "grandTotal": self.total,
                },
            ),
            "payment": (1, {"amount": self.total}),
            "fulfillment": (
                max(last, 2),
                {
                    "status": "in_transit" if self.reached < len(ORDER_STAGES) else "delivered",
                    "trackingNumber": f"VN{int(self.number):09d}",
                },
            ),
        }
        stage, fields = details.get(service, (last, {}))
        example = SOURCES[service].example
        return {
            **example,
            "id": f"{example['id'].partition('-')[0]}-{self.number}",
            "orderId": self.id,
            **fields,
            "createdAt": self.time_of(0),
            "updatedAt": self.time_of(stage),
        }


def simulated_service(service: UpstreamService) -> web.Application:
    """Return an app that serves the objects of a service by id, and in pages by order."""
    app = web.Application()
    path = SOURCES[service].path

    async def by_id(request: web.Request) -> web.Response:
        return web.json_response(_order_of_object(request.match_info["id"]).object_of_service(service))

    answered: set[str] = set()

    async def by_order(request: web.Request) -> web.Response:
        order = request.query.get("orderId", "")
        if order in FAILING.get(service, ()) and order in answered:
            return web.json_response({"error": "maintenance"}, status=503)
        answered.add(order)
        return web.json_response({"items": [SimulatedOrder(order).object_of_service(service)]})

    async def events(request: web.Request) -> web.Response:
        return web.json_response(_order_of_object(request.match_info["id"]).history())

    app.router.add_get(f"{path}/{{id}}", by_id)
    app.router.add_get(path, by_order)
    if service == "order":
        app.router.add_get(f"{path}/{{id}}/events", events)
    return app


def _order_of_object(name: str) -> SimulatedOrder:
    """Return the order of an id, which may be the id of one of its other objects."""
    number = name.rpartition("-")[2]
    return SimulatedOrder(name if name.startswith("ORD") else f"ORD-{number}")
