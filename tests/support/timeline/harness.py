"""A service under test with one case, and fake upstream services."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from redis.asyncio import Redis

from support_service.core.domain.upstream_services import SOURCES
from tests.support.calls import GENEROUS_TIMEOUT, Case, open_case, read_detail
from tests.support.scrape import Changes
from tests.support.service import service_of
from tests.support.upstream import SourceService, source_services, url_variables

TTL, STALE_TTL = 300, 3600  # seconds
# Seconds. LONG_TIMEOUT is for healthy dependencies, which look late when the machine stalls. SHORT_TIMEOUT is for those
# that never answer.
LONG_TIMEOUT, SHORT_TIMEOUT = 60.0, 0.05
# Seconds that a read may take on a busy machine if all calls succeed or time out. A read that waits for a silent
# service takes upstream_faults.HOLD_FOR.
MAX_READ_SECONDS = 1.5 + LONG_TIMEOUT

EVENTS = "support_timeline_cache_events_total"
FAILURES = "support_timeline_collection_failures_total"
COLLECTIONS = "support_timeline_collect_seconds_count"
CALLS = "support_timeline_source_seconds_count"
OPERATIONS = "db_client_operation_duration_seconds_count"
MAIN_LABEL = {
    EVENTS: "event",
    FAILURES: "stage",
    COLLECTIONS: "source",
    CALLS: "outcome",
    OPERATIONS: "db_operation_name",
}

CONTEXT = {"type": "order", "orderId": "ORD-1"}
PREFIXES = {name: source.example["id"].partition("-")[0] for name, source in SOURCES.items()}  # of ids
ALL_ENTRIES = sorted([*(f"{prefix}-1" for prefix in PREFIXES.values()), "e0"])  # the sources' entries for that order
NUMBER_OF_CALLS = len(SOURCES) + 1  # an order takes two: itself and its events
FRESH = dict.fromkeys(SOURCES, ("fresh", None))  # the freshness of all sources after a good read
CACHED = dict.fromkeys(SOURCES, ("cached", None))  # after the next one


def payment(name: str = "PAY-1", **fields: Any) -> dict[str, Any]:
    known = {"id": name, "orderId": "ORD-1", "status": "captured", "amount": "12.50"}
    return known | {"updatedAt": "2026-01-03T00:00:00Z"} | fields


def add_order(services: dict[str, SourceService], number: int | str = 1) -> None:
    """Add an order with an event, and an object of one number to each other service.

    A text is the complete order id.
    """
    order = number if isinstance(number, str) else f"ORD-{number}"
    for name, service in services.items():
        if name == "order":
            service.add(order, "e0")
        else:
            service.add(f"{PREFIXES[name]}-{number}", order)


def all_but(*missing: str, number: int = 1) -> list[str]:
    """Return the names of the sources' entries for an order, sorted, without the missing ones."""
    return [name for each in ALL_ENTRIES if (name := each.replace("-1", f"-{number}")) not in missing]


def source_entries(detail: Case) -> list[str]:
    """Return the names of the entries that came from sources, without the case's own entries."""
    return [
        str(entry.get("eventType") or entry[f"{entry['type']}Id"]) for entry in detail["timeline"] if "source" in entry
    ]


def source_freshness(detail: Case) -> dict[str, tuple[str, str | None]]:
    """Return the status of each source with its reason."""
    return {name: (source["status"], source["reason"]) for name, source in detail["timelineSources"].items()}


@asynccontextmanager
async def open_services() -> AsyncIterator[dict[str, SourceService]]:
    """Open the service of each source, with entries of one order."""
    async with AsyncExitStack() as stack:
        services = source_services(keep_alive=False)
        for service in services.values():
            await service.open()
            stack.push_async_callback(service.close)
        add_order(services)
        yield services


async def start_service(make_client: Any, services: dict[str, SourceService], **options: Any) -> TestClient:
    """Start the service, and return its client; options replace variables and timings."""
    variables = {"SUPPORT_TIMELINE_SOURCE_TIMEOUT": str(LONG_TIMEOUT), "SUPPORT_TIMELINE_CACHE_TTL": str(TTL)}
    with pytest.MonkeyPatch.context() as constants:
        constants.setattr("support_service.service.STALE_TTL", STALE_TTL)
        constants.setattr("support_service.service.REDIS_TIMEOUT", GENEROUS_TIMEOUT)
        return await make_client(**variables | url_variables(services) | options)


class TimelineHarness:
    """The service under test, its case, and the changes that a read of the case makes to metrics."""

    def __init__(self, client: Any, case: Case, services: dict[str, SourceService]) -> None:
        self.client = client
        self.case = case
        self.services = services
        self._changes = Changes(service_of(client).metrics, *MAIN_LABEL)

    @classmethod
    async def start(
        cls, make_client: Any, services: dict[str, SourceService], context: Any, **variables: str
    ) -> "TimelineHarness":
        client = await start_service(make_client, services, **variables)
        return cls(client, await open_case(client, context=context), services)

    def set_source_timeout(self, source: str, seconds: float) -> None:
        service_of(self.client).timeline.sources[source].timeout = seconds

    def set_redis_timeout(self, seconds: float) -> None:
        service_of(self.client).cache.connection.timeout = seconds

    async def read(self) -> Case:
        """Return the case with its timeline; fail if the read takes too long."""
        loop = asyncio.get_running_loop()
        self._changes = Changes(service_of(self.client).metrics, *MAIN_LABEL)
        started = loop.time()
        detail = await read_detail(self.client, self.case)
        assert loop.time() - started < MAX_READ_SECONDS
        return detail

    def metric_changes(self, name: str, **labels: str) -> dict[str, float]:
        """Return by how much a metric's series with these labels changed since the last read began, by main label."""
        found: Counter[str] = Counter()
        for _, given, change in self._changes.samples(name):
            if labels.items() <= given.items():
                found[given[MAIN_LABEL[name]]] += change
        return {key: value for key, value in found.items() if value}


def cache_key(case: Case) -> str:
    """Return the key of a case's snapshots, which is part of the contract between releases."""
    return f"support:timeline:{case['id']}"


async def age_snapshots(store: Redis, case: Case, seconds: float) -> dict[str, Any]:
    """Make the cached snapshots of a case older by some seconds; return them by source."""
    value = json.loads(await store.get(cache_key(case)))
    for source in value["sources"].values():
        source["at"] -= seconds
    older = json.dumps(value, separators=(",", ":"))
    await store.set(cache_key(case), older, keepttl=True)
    return value["sources"]
