"""Dead letters of a service that consumes no events, so that they stay where they are."""

from aiohttp.test_utils import TestClient

from support_service.events.broker.base import Delivery
from tests.support.service import service_of

STREAM = "support.inbound"


async def give_up(client: TestClient, *events: str, reason: str = "no good") -> None:
    """Make dead letters of events."""
    broker = service_of(client).broker
    await broker.backlog(STREAM)  # creates the stream's group
    for event in events:
        delivery = Delivery("1-1", event.encode(), 5)
        await broker.move_to_dead_letters(STREAM, delivery, reason, "2026-05-12T12:00:00+00:00")


async def waiting_events(client: TestClient) -> int:
    """Return how many events wait to be consumed."""
    return (await service_of(client).broker.backlog(STREAM)).waiting
