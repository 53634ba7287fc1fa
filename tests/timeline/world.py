"""A service under test with one case, and its three neighbours, which fail as a test says."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from support_service.web import keys
from tests.calls import PATIENCE, Case, open_case, read_detail
from tests.scrape import parse
from tests.timeline.upstream import Service

SOURCES = ("order", "payment", "fulfillment")
TTL, STALE_TTL = 300, 3600  # seconds
# Seconds for what is in order, which looks late where the machine stands still; a test lets what is not in order have
# IMPATIENT.
PATIENT, IMPATIENT = 60.0, 0.3
# Seconds for a read where all goes well, or all that does not is given up, on a busy machine. One that waited for a
# source that says nothing would take the 30 s of upstream.KEPT_OPEN.
IN_TIME = 1.5 + PATIENCE

EVENTS = "support_timeline_cache_events_total"
FAILURES = "support_timeline_collection_failures_total"
COLLECTED = "support_timeline_collect_seconds_count"
CALLS = "support_timeline_source_seconds_count"
OPERATIONS = "db_client_operation_duration_seconds_count"
TOLD_BY = {EVENTS: "event", FAILURES: "stage", COLLECTED: "source", CALLS: "outcome", OPERATIONS: "db_operation_name"}

CONTEXT = {"type": "order", "orderId": "ORD-1"}
ALL = ["ORD-1", "PAY-1", "SHP-1", "e0"]  # what the services know of that order, sorted
PAYMENTS = "/payments?orderId={}&limit=50"
SHIPMENTS = "/fulfillment/shipments?orderId={}&limit=50"


def order(name: str = "ORD-1") -> dict[str, Any]:
    """An order as its service has it."""
    return {"id": name, "status": "paid", "grandTotal": "12.50", "updatedAt": "2026-01-02T00:00:00Z"}


def events(number: int = 1) -> list[dict[str, Any]]:
    """The history of an order."""
    return [
        {"type": f"e{turn}", "payload": {}, "createdAt": f"2026-01-01T00:00:00.{turn:06}Z"} for turn in range(number)
    ]


def payment(name: str = "PAY-1", **fields: Any) -> dict[str, Any]:
    """A payment as its service has it."""
    known = {"id": name, "orderId": "ORD-1", "status": "captured", "amount": "12.50"}
    return known | {"updatedAt": "2026-01-03T00:00:00Z"} | fields


def shipment(name: str = "SHP-1") -> dict[str, Any]:
    """A shipment as its service has it."""
    return {"id": name, "orderId": "ORD-1", "status": "sent", "createdAt": "2026-01-04T00:00:00Z"}


def know(services: dict[str, Service], number: int | str = 1, *, encoded: str | None = None) -> None:
    """Let the services know an order with an event, a payment and a shipment, all of one number."""
    name = f"ORD-{number}" if encoded is None else str(number)
    target = encoded or name
    services["order"].know(f"/orders/{target}", order(name))
    services["order"].know(f"/orders/{target}/events", events())
    services["payment"].know(PAYMENTS.format(target), {"items": [payment(f"PAY-{number}")]})
    services["fulfillment"].know(SHIPMENTS.format(target), {"items": [shipment(f"SHP-{number}")]})


def shown(detail: Case) -> list[str]:
    """What the services gave, as a list of names; a case's own entries are not in it."""
    return [
        str(entry.get("shipmentId") or entry.get("paymentId") or entry.get("eventType") or entry.get("orderId"))
        for entry in detail["timeline"]
        if "source" in entry or entry["type"] == "order-event"
    ]


def worth(detail: Case) -> dict[str, tuple[str, str | None]]:
    """The status of each source, and the reason for it."""
    return {name: (source["status"], source["reason"]) for name, source in detail["timelineSources"].items()}


@asynccontextmanager
async def neighbours() -> AsyncIterator[dict[str, Service]]:
    """The three services, which know one order."""
    async with AsyncExitStack() as stack:
        services = {name: Service() for name in SOURCES}
        for service in services.values():
            await service.open()
            stack.push_async_callback(service.close)
        know(services)
        yield services


class World:
    """The service, its case, and what a read of it does."""

    def __init__(self, client: Any, case: Case, services: dict[str, Service]) -> None:
        self.client = client
        self.case = case
        self.services = services
        self._before: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    @classmethod
    async def start(cls, make_client: Any, services: dict[str, Service], context: Any, **variables: str) -> "World":
        """Start the service, and open a case."""
        addresses = {f"SUPPORT_{name.upper()}_URL": service.url for name, service in services.items()}
        variables = {
            "SUPPORT_TIMELINE_DEADLINE": str(PATIENT),
            "SUPPORT_TIMELINE_SOURCE_TIMEOUT": str(PATIENT),
            "SUPPORT_TIMELINE_CACHE_TTL": str(TTL),
            "SUPPORT_TIMELINE_STALE_TTL": str(STALE_TTL),
            "SUPPORT_REDIS_TIMEOUT": str(PATIENCE),
        } | variables
        client = await make_client(**addresses | variables)
        case = await open_case(client, context=context)
        return cls(client, case, services)

    def give(self, source: str, seconds: float) -> None:
        """Let a source have so long for each call from now on."""
        self.client.app[keys.TIMELINE]._flights._sources[source]._timeout = seconds

    def give_redis(self, seconds: float) -> None:
        """Let Redis have so long for each answer from now on."""
        self.client.app[keys.CACHE].timeout = seconds

    async def read(self) -> Case:
        """The case's detail; fails where that takes too long, by the loop's clock."""
        loop = asyncio.get_running_loop()
        self._before = self._counts()
        started = loop.time()
        detail = await read_detail(self.client, self.case)
        assert loop.time() - started < IN_TIME
        return detail

    def moved(self, name: str, **labels: str) -> dict[str, float]:
        """What the last read added to the series of a metric that have these labels, by the label that tells most."""
        found: Counter[str] = Counter()
        for (sample, given), value in self._counts().items():
            if sample == name and labels.items() <= dict(given).items():
                found[dict(given)[TOLD_BY[name]]] += value - self._before.get((sample, given), 0)
        return {key: value for key, value in found.items() if value}

    def _counts(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        # Only these lines: the parser takes longer for a whole exposition than the service for a read.
        lines = self.client.app[keys.METRICS].scrape("", "").body.decode().splitlines(keepends=True)
        wanted = "".join(line for line in lines if line.partition("{")[0] in TOLD_BY)
        return {(name, frozenset(labels.items())): value for name, labels, value in parse(wanted)}


def cached_at(case: Case) -> str:
    """The key of a case's snapshots, part of the contract between releases."""
    return f"support:timeline:{case['id']}"


async def age(store: Redis, case: Case, seconds: float) -> dict[str, Any]:
    """Let what is cached of a case be older by so many seconds; gives the sources' snapshots as they are then."""
    value = json.loads(await store.get(cached_at(case)))
    for source in value["sources"].values():
        source["at"] -= seconds
    kept = json.dumps(value, separators=(",", ":"))
    await store.set(cached_at(case), kept, keepttl=True)
    return value["sources"]
