"""A Redis that keeps its data, and a case that the search misses."""

from datetime import UTC, datetime

import pytest

from support_service.platform.database.tables import messages, tickets
from tests.support.events.fixtures import durable_redis  # noqa: F401 - a fixture

AT = datetime(2026, 5, 12, tzinfo=UTC)


@pytest.fixture
async def unindexed_message(database):
    """A case whose message was written without its words for the search."""
    case = {"id": "case", "subject": "A", "status": "open", "priority": "low", "channel": "email", "context": []}
    case |= {"tags": [], "search_text": "a", "version": 2, "created_at": AT, "updated_at": AT}
    message = {"id": "1", "ticket_id": "case", "author_type": "agent", "message": "blue vase", "created_at": AT}
    async with database.transaction() as tx:
        await tx.execute(tickets.insert(), case)
        await tx.execute(messages.insert(), message)
