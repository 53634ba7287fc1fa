"""Dead letters of a service that consumes no events, so that they stay where they are."""

from dataclasses import replace

from aiohttp.test_utils import TestClient

from tests.support.service import service_of

STREAM = "support.inbound"


async def give_up(client: TestClient, *events: str, reason: str = "no good") -> None:
    """Make dead letters of events: a consumer gets them, and gives them up."""
    broker = service_of(client).broker
    await broker.backlog(STREAM)  # creates the stream's group
    await broker.publish(STREAM, events, max_length=1000)
    for delivery in await broker.receive(STREAM, "a", count=len(events), wait=0.01):
        given_up = replace(delivery, tries=5)
        await broker.move_to_dead_letters(STREAM, "a", given_up, reason, "2026-05-12T12:00:00+00:00")


async def waiting_events(client: TestClient) -> int:
    return (await service_of(client).broker.backlog(STREAM)).waiting
