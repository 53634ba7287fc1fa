"""The parts of a service under test, and its data."""

from collections.abc import Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient

from support_service.platform.database import tables
from support_service.service import SERVICE, Service

EMPTIED = (  # tables that refer to cases are emptied with `tickets`, and so are the counts of cases
    *(tables.tickets, tables.customers, tables.agents, tables.sla_policies, tables.views, tables.macros),
    *(tables.notifications, tables.bulk_changes, tables.idempotency_keys, tables.webhook_deliveries),
    *(tables.report_changes, tables.report_counts),
)


def service_of(client: TestClient) -> Service:
    return client.app[SERVICE]


async def empty(client: TestClient) -> None:
    """Delete what the tests before have stored in the service that they share, except the audit log and events."""
    service = service_of(client)
    async with service.database.transaction() as tx:
        for table in EMPTIED:
            await tx.execute(table.delete())
    await service.agents.known.refresh()
    await service.policies._policies.refresh()  # noqa: SLF001 - it is read by opened cases, and otherwise every second


@pytest.fixture
async def own_client(make_client: Callable[..., Awaitable[TestClient]]) -> TestClient:
    """A client of a service of its own, for modules whose tests change more than data."""
    return await make_client()
