"""A stub of the order, payment and fulfillment services: small fixed JSON, with an optional delay."""

import asyncio
import re
import sys

import uvloop
from aiohttp import web

from benchmarks.bare_server import serve

DELAY = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0  # seconds before each answer
DATES = '"createdAt":"2026-01-02T03:04:05+00:00","updatedAt":"2026-01-02T03:04:05+00:00"'
ORDER = f'{{"id":101,"status":"shipped","currency":"USD","grandTotal":"129.90",{DATES}}}'
EVENTS = ",".join(
    f'{{"id":{n},"orderId":101,"type":"{kind}","payload":{{"step":{n}}},"createdAt":"2026-01-02T03:04:05+00:00"}}'
    for n, kind in enumerate(("order.created", "order.paid", "order.shipped"), 1)
)
PAYMENT = f'{{"id":501,"orderId":101,"status":"captured","amount":"129.90",{DATES}}}'
SHIPMENT = f'{{"id":301,"orderId":101,"status":"in_transit","trackingNumber":"TRK301",{DATES}}}'

ANSWERS = [
    (re.compile(pattern), answer.encode())
    for pattern, answer in (
        (r"/orders/[^/]+", ORDER),
        (r"/orders/[^/]+/events", f"[{EVENTS}]"),
        (r"/payments/[^/]+", PAYMENT),
        (r"/payments", f'{{"items":[{PAYMENT}],"total":1}}'),
        (r"/fulfillment/shipments/[^/]+", SHIPMENT),
        (r"/fulfillment/shipments", f'{{"items":[{SHIPMENT}],"total":1}}'),
    )
]


async def answer(request: web.BaseRequest) -> web.Response:
    """Return the answer of the first pattern that matches the whole path."""
    if DELAY:
        await asyncio.sleep(DELAY)
    for pattern, body in ANSWERS:
        if pattern.fullmatch(request.path):
            return web.Response(body=body, content_type="application/json")
    return web.Response(status=404, body=b"{}", content_type="application/json")


if __name__ == "__main__":
    uvloop.run(serve(answer, port=int(sys.argv[1])))
