"""`support-service database check` as a process."""

import json

import pytest

from tests.support.process import running

pytestmark = pytest.mark.usefixtures("processes")


async def test_check_tells_and_repairs_what_the_search_misses(unindexed_message, database_url, tmp_path):
    """Status 1 while something is missing, and 0 after the repair."""

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
