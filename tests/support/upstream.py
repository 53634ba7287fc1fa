"""Fake upstream services over TCP, one for each source, which record calls and fail on demand."""

import asyncio
import json
import random
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from support_service.core.domain.source import Source
from support_service.core.domain.upstream_services import SOURCES, url_variable
from support_service.timeline.source_calls import path_segment
from tests.support import upstream_faults as faults
from tests.support.servers import free_port
from tests.support.upstream_faults import Exchange, Fault


class Upstream:
    """Answers known targets with their documents and others with 404, unless `fault` is set.

    Without `keep_alive` each response closes its connection, so that no call uses a connection from before a fault.
    """

    def __init__(self, *, keep_alive: bool = True) -> None:
        self.fault: Fault | None = None
        self.calls: list[str] = []  # targets of the requests, percent-encoded as received
        self.traceparents: list[str | None] = []  # of the requests
        self.waiting = 0  # requests that are held back
        self.sent = 0  # bytes
        self.documents: dict[str, bytes] = {}  # JSON by target
        self._keep_alive = keep_alive
        self._port = free_port()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Serve https with the certificate of a context, from the next `open` on."""
        self._tls = context
        self.url = f"https://127.0.0.1:{self._port}"

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._tls)

    async def close(self) -> None:
        """Refuse new connections and drop open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def serve_document(self, target: str, document: Any) -> None:
        self.documents[target] = json.dumps(document).encode()

    def count(self, path: str) -> int:
        return sum(call.partition("?")[0] == path for call in self.calls)

    def fail_with(self, status: int, **headers: str) -> None:
        """Answer every request with a status."""
        self.fault = faults.status(status, *(f"{name.replace('_', '-')}: {text}" for name, text in headers.items()))

    def fail_some_with(self, status: int, share: float, about: str = "") -> None:
        """Answer this share of the requests with a status, chosen at random, and the others normally.

        `about` is a part of the targets that may fail.
        """
        fails, chance = faults.status(status), random.Random(1)

        async def answer(exchange: Exchange) -> None:
            await (fails if about in exchange.target and chance.random() < share else self.answer)(exchange)

        self.fault = answer

    def answer_with_bytes(self, body: bytes | str) -> None:
        """Answer every request with these bytes, as JSON content."""
        self.fault = faults.body(body)

    def answer_with_document(self, document: Any) -> None:
        """Answer every request with this document, whatever its shape."""
        self.fault = faults.document(document)

    def hang(self) -> asyncio.Event:
        """Hold every request until the returned event is set; then answer it normally."""
        return self.delay(faults.HOLD_FOR)

    def delay(self, seconds: float) -> asyncio.Event:
        """Answer every request normally after this time, or once the returned event is set."""
        release = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            self.waiting += 1
            try:
                with suppress(TimeoutError):
                    await asyncio.wait_for(release.wait(), seconds)
            finally:
                self.waiting -= 1
            await self.answer(exchange)

        self.fault = wait
        return release

    def answer_at_barrier(self, barrier: asyncio.Barrier) -> None:
        """Answer once as many requests as the barrier has parties are in flight."""

        async def wait(exchange: Exchange) -> None:
            await asyncio.wait_for(barrier.wait(), faults.HOLD_FOR)
            await self.answer(exchange)

        self.fault = wait

    def drop(self) -> None:
        """Close every connection without a response."""
        self.fault = faults.close_before_headers

    def close_in_body(self) -> None:
        """Start every response and close the connection in the middle of the body."""
        self.fault = faults.close_in_body

    def heal(self) -> None:
        self.fault = None

    def reset(self) -> None:
        """Answer normally, and forget all documents and calls."""
        self.heal()
        self.documents.clear()
        self.calls.clear()
        self.sent = 0

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request normally, whatever `fault` is."""
        document = self.documents.get(exchange.target)
        await exchange.respond(404 if document is None else 200, document or b"")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._connections.add(task)
        try:
            # asyncio logs an error for a connection's task that ends cancelled.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection can take another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
        target = request.split(" ", 2)[1]
        self.calls.append(target)
        self.traceparents.append(headers.get("traceparent"))
        exchange = Exchange(target, writer, self._record_sent, keep_alive=self._keep_alive)
        await (self.fault or self.answer)(exchange)
        return exchange.reusable

    def _record_sent(self, size: int) -> None:
        self.sent += size


class SourceService(Upstream):
    """The upstream service of a source: its objects by id, with their parts, and in pages by order."""

    def __init__(self, source: Source, *, keep_alive: bool = True) -> None:
        super().__init__(keep_alive=keep_alive)
        self._source = source
        self._pages: dict[str, dict[str, Any]] = {}  # documents by id, by order

    def add(self, item: str, order: str = "ORD-1", at: str = "2026-01-03T00:00:00Z") -> None:
        """Add an object of an order, or replace it."""
        document = self.serve_object(item, {"orderId": order, "createdAt": at, "updatedAt": at})
        page = self._pages.setdefault(order, {})
        page[item] = document
        self.serve_document(f"{self._source.path}?orderId={path_segment(order)}&limit=50", {"items": [*page.values()]})

    def serve_object(self, item: str, fields: dict[str, Any], **parts: list[dict[str, Any]]) -> dict[str, Any]:
        """Answer the paths of an object: the example of the source with these fields, and its parts. Return it."""
        target = f"{self._source.path}/{path_segment(item)}"
        document = {**self._source.example, "id": item, **fields}
        self.serve_document(target, document)
        for part in self._source.parts:
            self.serve_document(f"{target}/{part.path}", parts.get(part.path, []))
        return document

    def reset(self) -> None:
        super().reset()
        self._pages.clear()

    async def answer(self, exchange: Exchange) -> None:
        """Answer normally; an order without objects has an empty page."""
        if exchange.target not in self.documents and exchange.target.startswith(f"{self._source.path}?"):
            await exchange.respond(200, b'{"items": []}')
        else:
            await super().answer(exchange)


class OrderService(SourceService):
    """The order service, whose orders have events."""

    def add(self, order: str, *events: str, status: str = "paid", at: str = "2026-01-02T00:00:00Z") -> None:
        """Add an order, with events of these types an hour apart."""
        history = [
            {"type": kind, "payload": {"step": step}, "createdAt": f"2026-01-01T{step:02}:00:00Z"}
            for step, kind in enumerate(events)
        ]
        fields = {"status": status, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": at}
        self.serve_object(order, fields, events=history)


def source_services(*, keep_alive: bool = True) -> dict[str, SourceService]:
    return {
        name: (OrderService if name == "order" else SourceService)(source, keep_alive=keep_alive)
        for name, source in SOURCES.items()
    }


def url_variables(services: Mapping[str, Upstream]) -> dict[str, str]:
    return {url_variable(name): service.url for name, service in services.items()}
