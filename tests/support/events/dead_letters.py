"""Dead letters of a service that consumes no events, so that they stay where they are."""

from aiohttp import web

from support_service.events.broker.base import Delivery
from support_service.events.component import BROKER

STREAM = "support.inbound"


async def give_up(app: web.Application, *events: str, reason: str = "no good") -> None:
    """Make dead letters of events."""
    broker = app[BROKER]
    await broker.backlog(STREAM)  # creates the stream's group
    for event in events:
        delivery = Delivery("1-1", event.encode(), 5)
        await broker.move_to_dead_letters(STREAM, delivery, reason, "2026-05-12T12:00:00+00:00")


async def waiting_events(app: web.Application) -> int:
    """Return how many events wait to be consumed."""
    return (await app[BROKER].backlog(STREAM)).waiting
