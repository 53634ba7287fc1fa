"""`support-service database check` as a process."""

import json
from datetime import UTC, datetime

import pytest

from support_service.platform.database.tables import messages, tickets
from tests.conftest import both_databases
from tests.support.process import running

pytestmark = pytest.mark.usefixtures("processes")
AT = datetime(2026, 5, 12, tzinfo=UTC)


@both_databases
async def test_check_tells_and_repairs_what_the_search_misses(database, database_url, tmp_path):
    """Status 1 while something is missing, and 0 after the repair."""
    case = {"id": "case", "subject": "A", "status": "open", "priority": "low", "channel": "email", "context": []}
    case |= {"tags": [], "search_text": "a", "version": 2, "created_at": AT, "updated_at": AT}
    message = {"id": "1", "ticket_id": "case", "author_type": "agent", "message": "blue vase", "created_at": AT}
    async with database.transaction() as tx:
        await tx.execute(tickets.insert(), case)
        await tx.execute(messages.insert(), message)

    async def check(*options):
        variables = {"cwd": tmp_path, "SUPPORT_DATABASE_URL": database_url}
        async with running("database", "check", *options, **variables) as process:
            status, out, errors = await process.wait_for_exit()
        assert errors == ""
        return status, json.loads(out)

    missing = {"cases": 1, "incompleteCases": 1, "casesWithoutDocument": 0, "messagesWithoutDocument": 1}
    assert await check() == (1, missing | {"repairedCases": 0})
    assert await check("--repair") == (0, missing | {"repairedCases": 1})
    none = dict.fromkeys(missing, 0) | {"cases": 1, "repairedCases": 0}
    assert await check() == (0, none)
