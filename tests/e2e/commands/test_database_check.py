"""`support-service database check` as a process."""

import pytest

pytestmark = pytest.mark.usefixtures("processes")

CHECK = ("database", "check")


async def test_check_tells_and_repairs_what_the_search_misses(unindexed_message, run_json):
    """Status 1 while something is missing, and 0 after the repair."""
    missing = {"cases": 1, "incompleteCases": 1, "casesWithoutDocument": 0, "messagesWithoutDocument": 1}
    assert await run_json(*CHECK) == (1, [missing | {"repairedCases": 0}], "")
    assert await run_json(*CHECK, "--repair") == (0, [missing | {"repairedCases": 1}], "")
    none = dict.fromkeys(missing, 0) | {"cases": 1, "repairedCases": 0}
    assert await run_json(*CHECK) == (0, [none], "")
