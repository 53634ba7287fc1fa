"""Simulated upstream services.

The same id always has the same answer. An order of a sample case is older than the case, and has reached what the
customer writes about. Times of other orders are relative to the start.
"""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

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
SHIPMENT_STATUSES = ("packed", "in_transit", "delivered")  # of an order that has reached the last three stages
CARRIERS = ("VNPost", "GHN Express", "J&T Express")
HOURS_BETWEEN_STAGES = 9


class OrderPast(NamedTuple):
    """When the customer of an order writes about it, and how many stages it has reached then."""

    complained_at: datetime
    reached: int


class SimulatedOrder:
    """What the services know about one order, drawn from its id if its past is not given."""

    def __init__(self, order_id: str, past: OrderPast | None = None) -> None:
        draw = random.Random(order_id)
        self.id = order_id
        self.number = "".join(filter(str.isdigit, order_id)) or "1"
        self.total = f"{draw.randint(1000, 40000) / 100:.2f}"
        self.carrier = draw.choice(CARRIERS)
        at, self.reached = past or (STARTED_AT, draw.randint(2, len(ORDER_STAGES)))
        quiet = timedelta(hours=draw.randint(20, 120), minutes=draw.randint(0, 59))  # since it has reached its stage
        self.placed = at - quiet - timedelta(hours=HOURS_BETWEEN_STAGES * (self.reached - 1))

    @property
    def shipment_status(self) -> str | None:
        """The status of its shipment, or None if it has none yet."""
        place = self.reached - len(ORDER_STAGES) + len(SHIPMENT_STATUSES) - 1
        return SHIPMENT_STATUSES[place] if place >= 0 else None

    def time_of(self, stage: int) -> str:
        """Return the time at which the order reached a stage, in ISO 8601."""
        return (self.placed + timedelta(hours=HOURS_BETWEEN_STAGES * stage)).isoformat()

    def history(self) -> list[dict[str, Any]]:
        return [
            {
                "type": stage,
                "payload": {"orderId": self.id} | ({"carrier": self.carrier} if stage == "order.shipped" else {}),
                "createdAt": self.time_of(number),
            }
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
                {"status": self.shipment_status, "trackingNumber": f"VN{int(self.number):09d}"},
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


def simulated_service(service: UpstreamService, pasts: Mapping[str, OrderPast]) -> web.Application:
    """Return an app that serves the objects of a service by id, and in pages by order. `pasts` is by order id."""
    app = web.Application()
    path = SOURCES[service].path

    def order_of(name: str) -> SimulatedOrder:
        """Return the order of an id, which may be the id of one of its other objects."""
        order_id = name if name.startswith("ORD") else f"ORD-{name.rpartition('-')[2]}"
        return SimulatedOrder(order_id, pasts.get(order_id))

    async def by_id(request: web.Request) -> web.Response:
        asked = request.match_info["id"]
        return web.json_response(order_of(asked).object_of_service(service) | {"id": asked})

    answered: set[str] = set()

    async def by_order(request: web.Request) -> web.Response:
        order = order_of(request.query.get("orderId", ""))
        if order.id in FAILING.get(service, ()) and order.id in answered:
            return web.json_response({"error": "maintenance"}, status=503)
        answered.add(order.id)
        is_there = service != "fulfillment" or order.shipment_status
        found = order.object_of_service(service) | {"orderId": request.query.get("orderId", "")}
        return web.json_response({"items": [found] if is_there else []})

    async def events(request: web.Request) -> web.Response:
        return web.json_response(order_of(request.match_info["id"]).history())

    app.router.add_get(f"{path}/{{id}}", by_id)
    app.router.add_get(path, by_order)
    if service == "order":
        app.router.add_get(f"{path}/{{id}}/events", events)
    return app
