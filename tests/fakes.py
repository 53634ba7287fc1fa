"""The services behind the timeline, as real HTTP servers that know what a test tells them and fail as it says."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Disturbance = Callable[[web.Request], Awaitable[web.StreamResponse]]
GIVE_UP = 10.0  # seconds that a fake waits for a test at most


class Upstream:
    """One service: answers what it was told to know, 404 for anything else, and counts its calls."""

    def __init__(self, *paths: str) -> None:
        self.calls: list[str] = []  # each request's target, percent-encoded as it came
        self.traces: list[str | None] = []  # each request's traceparent
        self.waiting = 0  # requests that hang now
        self._documents: dict[tuple[str, str], Any] = {}
        self._disturbance: Disturbance | None = None
        app = web.Application()
        for path in paths:
            app.router.add_get(path, self._answer)
        self._server = TestServer(app)

    async def open(self) -> None:
        """Listen on a free port."""
        await self._server.start_server()

    async def close(self) -> None:
        """Stop; requests that hang are dropped."""
        await self._server.close()

    @property
    def url(self) -> str:
        """The address to configure."""
        return str(self._server.make_url("")).rstrip("/")

    def count(self, path: str) -> int:
        """How often a path was asked for, whatever its query."""
        return sum(call.partition("?")[0] == path for call in self.calls)

    def know(self, path: str, key: str, document: Any) -> None:
        """Answer a route (`/orders/{id}`) for an id, or a page for an order, with a document."""
        self._documents[path, key] = document

    def fail_with(self, status: int, **headers: str) -> None:
        """Answer every request with a status."""

        async def fail(_: web.Request) -> web.Response:
            return web.Response(status=status, headers={name.replace("_", "-"): text for name, text in headers.items()})

        self._disturbance = fail

    def say(self, body: bytes | str) -> None:
        """Answer every request with these bytes as JSON, whatever they are."""

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=body, content_type="application/json")

        self._disturbance = answer

    def answer_with(self, document: Any) -> None:
        """Answer every request with this document, whatever its shape."""
        self.say(json.dumps(document))

    def hang(self) -> asyncio.Event:
        """Hold every request until the event that this gives is set; then answer it as ever."""
        release = asyncio.Event()

        async def wait(request: web.Request) -> web.StreamResponse:
            self.waiting += 1
            try:
                await asyncio.wait_for(release.wait(), GIVE_UP)
            finally:
                self.waiting -= 1
            return self._known(request)

        self._disturbance = wait
        return release

    def delay(self, seconds: float) -> asyncio.Event:
        """Answer every request as ever, so many seconds later, or once the event that this gives is set."""
        release = asyncio.Event()

        async def wait(request: web.Request) -> web.StreamResponse:
            with suppress(TimeoutError):
                await asyncio.wait_for(release.wait(), seconds)
            return self._known(request)

        self._disturbance = wait
        return release

    def meet(self, barrier: asyncio.Barrier) -> None:
        """Answer only once as many requests as the barrier has parties are in flight together."""

        async def wait(request: web.Request) -> web.StreamResponse:
            await asyncio.wait_for(barrier.wait(), GIVE_UP)
            return self._known(request)

        self._disturbance = wait

    def drop(self) -> None:
        """Close every connection without an answer."""

        async def leave(request: web.Request) -> web.StreamResponse:
            request.transport.abort()
            return web.Response()

        self._disturbance = leave

    def break_off(self) -> None:
        """Begin every answer and close the connection in the middle."""

        async def begin(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"id":')
            request.transport.abort()
            return response

        self._disturbance = begin

    def heal(self) -> None:
        """Answer as ever again."""
        self._disturbance = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(request.raw_path)
        self.traces.append(request.headers.get("traceparent"))
        if self._disturbance is not None:
            return await self._disturbance(request)
        return self._known(request)

    def _known(self, request: web.Request) -> web.Response:
        route = request.match_info.route.resource.canonical
        key = request.match_info.get("id", request.query.get("orderId", ""))
        if (route, key) in self._documents:
            return web.json_response(self._documents[route, key])
        return web.json_response({"items": []}) if "id" not in request.match_info else web.Response(status=404)


class Orders(Upstream):
    """The order service."""

    def __init__(self) -> None:
        super().__init__("/orders/{id}", "/orders/{id}/events")

    def add(self, order: str, *events: str, status: str = "paid", at: str = "2026-01-02T00:00:00Z") -> None:
        """Let there be an order, with events of these types an hour apart."""
        placed = {"id": order, "status": status, "grandTotal": "12.50", "createdAt": "2026-01-01T00:00:00Z"}
        self.know("/orders/{id}", order, placed | {"updatedAt": at})
        history = [
            {"type": kind, "payload": {"step": step}, "createdAt": f"2026-01-01T{step:02}:00:00Z"}
            for step, kind in enumerate(events)
        ]
        self.know("/orders/{id}/events", order, history)


class Things(Upstream):
    """Payments or shipments: by their own id, and in pages by order."""

    def __init__(self, path: str, **fields: str) -> None:
        super().__init__(path, path + "/{id}")
        self._path = path
        self._fields = fields
        self._pages: dict[str, list[Any]] = {}

    def add(self, thing: str, order: str, at: str = "2026-01-03T00:00:00Z") -> None:
        """Let there be one of an order."""
        document = {"id": thing, "orderId": order, "createdAt": at, "updatedAt": at} | self._fields
        self.know(self._path + "/{id}", thing, document)
        self._pages.setdefault(order, []).append(document)
        self.know(self._path, order, {"items": self._pages[order]})


def payment_service() -> Things:
    """The payment service."""
    return Things("/payments", status="captured", amount="12.50")


def fulfillment_service() -> Things:
    """The fulfillment service."""
    return Things("/fulfillment/shipments", status="in_transit", trackingNumber="VN1")
