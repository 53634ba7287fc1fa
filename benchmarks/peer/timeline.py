"""The timeline of a case: what the upstream services know, cached in Redis, merged with the case's own entries."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
from redis.asyncio import Redis

from benchmarks.peer import models

Entry = dict[str, Any]


def _order(order: Entry) -> list[Entry]:
    return [
        {
            "type": "order",
            "timestamp": order["updatedAt"],
            "source": "order-service",
            "orderId": order["id"],
            "status": order["status"],
            "total": order["grandTotal"],
        }
    ]


def _order_events(events: list[Entry]) -> list[Entry]:
    return [
        {
            "type": "order-event",
            "timestamp": event["createdAt"],
            "source": "order-service",
            "eventType": event["type"],
            "payload": event["payload"],
        }
        for event in events
    ]


def _payment(payment: Entry) -> list[Entry]:
    return [
        {
            "type": "payment",
            "timestamp": payment["updatedAt"],
            "source": "payment-service",
            "paymentId": payment["id"],
            "orderId": payment["orderId"],
            "status": payment["status"],
            "amount": payment["amount"],
        }
    ]


def _shipment(shipment: Entry) -> list[Entry]:
    return [
        {
            "type": "shipment",
            "timestamp": shipment["updatedAt"],
            "source": "fulfillment-service",
            "shipmentId": shipment["id"],
            "orderId": shipment["orderId"],
            "status": shipment["status"],
            "trackingNumber": shipment["trackingNumber"],
        }
    ]


Reader = Callable[[Any], list[Entry]]

SOURCES: dict[str, list[tuple[str, str, Reader]]] = {  # by the type of a reference: service, path, reader
    "order": [("order", "/orders/{orderId}", _order), ("order", "/orders/{orderId}/events", _order_events)],
    "payment": [("payment", "/payments/{paymentId}", _payment)],
    "shipment": [("fulfillment", "/fulfillment/shipments/{shipmentId}", _shipment)],
}


class Timelines:
    """Timelines of cases."""

    def __init__(self, http: aiohttp.ClientSession, redis: Redis, ttl: int) -> None:
        self._http = http
        self._redis = redis
        self._ttl = ttl

    async def add_to(self, case: models.Case, *, refresh: bool = False) -> None:
        """Set the timeline of a case: from the cache, or from the upstream services with `refresh` or without one."""
        key = f"peer:timeline:{case.id}"
        cached = None if refresh else await self._redis.get(key)
        if cached is not None:
            entries = json.loads(cached)
            case.timeline_sources = _sources("cached")
        else:
            entries, case.timeline_sources = await self._fetch(case)
            if all(source.status == "fresh" for source in case.timeline_sources.values()):
                await self._redis.set(key, json.dumps(entries), ex=self._ttl)
        case.timeline = sorted(entries + own_entries(case), key=lambda entry: entry["timestamp"])

    async def _fetch(self, case: models.Case) -> tuple[list[Entry], dict[str, models.SourceStatus]]:
        calls = [
            (service, path.format(**reference), reader)
            for reference in case.context
            for service, path, reader in SOURCES[reference["type"]]
        ]
        found = await asyncio.gather(*(self._call(path) for _, path, _ in calls), return_exceptions=True)
        entries: list[Entry] = []
        sources = _sources("fresh")
        for (service, _, reader), answer in zip(calls, found, strict=True):
            if isinstance(answer, BaseException):
                sources[service] = models.SourceStatus(status="unavailable", reason=type(answer).__name__)
            else:
                entries += reader(answer)
        return entries, sources

    async def _call(self, path: str) -> Any:
        async with self._http.get(path) as response:
            response.raise_for_status()
            return await response.json()


def own_entries(case: models.Case) -> list[Entry]:
    """Return the entries that the case itself has: its references, messages and files."""
    opened = case.created_at.isoformat()
    references = [{**reference, "timestamp": opened} for reference in case.context]
    messages = [
        {
            "type": "conversation",
            "timestamp": message.created_at.isoformat(),
            "authorType": message.author_type,
            "message": message.message,
            "visibility": message.visibility,
        }
        for message in case.messages
    ]
    files = [
        {"type": "attachment", "timestamp": file.created_at.isoformat(), "filename": file.filename}
        for file in case.attachments
    ]
    return references + messages + files


def _sources(status: Any) -> dict[str, models.SourceStatus]:
    return {name: models.SourceStatus(status=status) for name in ("order", "payment", "fulfillment")}
