"""The measured calls, each with its budget."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.scale import rows

CASES = "/support/cases"


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of read: `path` returns the path of the n-th request at a number of cases."""

    name: str
    path: Callable[[int, int], str]
    budget_ms: float | None = None  # at full size; without it, at most twice the time at the small size
    sqlite_budget_ms: float | None = None


def _list(query: str = "") -> Callable[[int, int], str]:
    return lambda _, __: f"{CASES}?{query}"


CALLS = (
    Call("case", lambda number, count: f"{CASES}/{rows.case_id(1 + number * 7919 % count)}"),
    Call("list, newest 50", _list(), 10),
    Call("status=open&priority=urgent", _list("status=open&priority=urgent"), 20),
    Call("priority=urgent", _list("priority=urgent"), 20),
    Call("team=nobody", _list(f"team={rows.ABSENT_TEAM}"), 20),
    Call("team=nobody&status=open", _list(f"team={rows.ABSENT_TEAM}&status=open"), 20),
    Call("team", lambda number, _: f"{CASES}?team=team-{number % rows.TEAMS}", 20),
    Call("channel=fax", _list("channel=fax"), 20),
    Call("channel=email&status=pending", _list("channel=email&status=pending"), 20),
    Call("agent", lambda number, _: f"{CASES}?assignedAgentId=agent-{number % rows.AGENTS}", 20),
    Call("agent, open", lambda number, _: f"{CASES}?assignedAgentId=agent-{number % rows.AGENTS}&status=open", 20),
    Call("customer", lambda number, _: f"{CASES}?customerId=customer-{number * 7919 % rows.CUSTOMERS}", 20),
    Call("open and pending", _list("status=open,pending"), 20),
    Call("without agent", _list("assignedAgentId=none&status=open"), 20),
    Call("tag of many cases", _list(f"tag={rows.FREQUENT_TAG}"), 20),
    Call("tag of few cases", _list(f"tag={rows.RARE_TAG}"), 20),
    Call("order", lambda number, count: f"{CASES}?orderId={1 + number * 7919 % count}", 20),
    Call("latest change first", _list("sort=updated&status=closed"), 20),
    Call("longest waiting first", _list("sort=waiting"), 20),
    Call("q: word in every case", _list(f"q={rows.FREQUENT}"), 20, 15),
    Call("q: word in 200 cases", _list(f"q={rows.RARE}"), 20, 15),
    Call("q: word in none", _list(f"q={rows.ABSENT}"), 10, 15),
    Call("q: word of some messages", lambda n, _: f"{CASES}?q={rows.VOCABULARY[n % rows.WORDS]}", 20, 15),
    Call("q: two words", lambda n, _: f"{CASES}?q={rows.FREQUENT}+{rows.VOCABULARY[n % rows.WORDS]}", 20, 15),
    Call("q and status=open", _list(f"q={rows.RARE}&status=open"), 20, 15),
    Call("workload", lambda number, _: f"/support/agents/agent-{number % rows.AGENTS}/workload"),
)
GAUGES = Call("gauges of a replica, each 15 s", lambda _, __: "", 10)  # not a request
