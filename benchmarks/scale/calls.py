"""The measured calls, each with its budget."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from benchmarks.scale import rows
from support_service.core.clock import format_time, utc_now

CASES = "/support/cases"
REPORTED_CASES = "/support/reports/cases?from=2024-03-05&to=2024-03-05"
BULK_CASES = 500
MERGED = 15  # cases that get three duplicates each
RUN = int(time.time())  # so that no run splits the cases of another one

Body = Mapping[str, object]
Send = Callable[[str, str, Body | None], Any]
"""Sends a request by its method, path and body, and returns the answer."""


@dataclass(frozen=True, slots=True)
class Call:
    """One kind of request: `path` returns the path of the n-th one at a number of cases.

    It is a POST if it has a `body`, or a function that returns the body of the n-th one. `prepare` sends the requests
    that precede the n-th one, and returns its method, path and body.
    """

    name: str
    path: Callable[[int, int], str] = lambda _, __: ""
    budget_ms: float | None = None  # at full size; without it, at most twice the time at the small size
    body: Body | Callable[[int, int], Body] | None = None
    prepare: Callable[[Send, int, int], tuple[str, str, Body | None]] | None = None
    requests: int = 40

    def request(self, send: Send, number: int, count: int) -> tuple[str, str, Body | None]:
        """Return method, path and body of the n-th request."""
        if self.prepare:
            return self.prepare(send, number, count)
        body = self.body(number, count) if callable(self.body) else self.body
        return "GET" if body is None else "POST", self.path(number, count), body


def _path(path: str) -> Callable[[int, int], str]:
    return lambda _, __: path


def _merged(end: str = "") -> Callable[[int, int], str]:
    """Return the path of a case that the call before has given three duplicates."""
    return lambda number, count: f"{CASES}/{rows.case_id(rows.original(number % MERGED, count))}{end}"


def _duplicate(number: int, count: int) -> str:
    """Return the path of the n-th case that is merged into another one."""
    return f"{CASES}/{rows.case_id(rows.duplicate(number // 3 % MERGED, number % 3, count))}"


def _into(number: int, count: int) -> Body:
    """Return what merges this case."""
    return {"into": rows.case_id(rows.original(number // 3 % MERGED, count))}


def _undo_of_merge(send: Send, number: int, count: int) -> tuple[str, str, None]:
    """Merge a case, if it is not merged, and find its link."""
    path = _duplicate(number, count)
    send("POST", f"{path}/merge", _into(number, count))
    (link,) = (each for each in send("GET", path, None)["links"] if each["kind"] == "duplicate-of")
    return "DELETE", f"{path}/links/{link['id']}", None


def _split(send: Send, number: int, count: int) -> tuple[str, str, Body]:
    """Find the last message of a case that is no duplicate and has none."""
    following = itertools.count((RUN + number) * 7919)
    seq = next(
        seq
        for each in following
        if not (rows.is_merged(seq := 1 + each % count, count) or rows.is_merged(seq + 1, count))
    )
    path = f"{CASES}/{rows.case_id(seq)}"
    messages = send("GET", path, None)["messages"]
    return "POST", f"{path}/split", {"messageIds": [messages[-1]["id"]], "subject": "Another parcel"}


def _report(first: str, last: str, query: str) -> Callable[[int, int], str]:
    return _path(f"/support/reports?from={first}&to={last}&{query}")


def _list(query: str = "") -> Callable[[int, int], str]:
    return _path(f"{CASES}?{query}")


def _bulk_change(number: int, count: int) -> Body:
    """Return a bulk change of 500 cases, which have another priority each time."""
    ids = [rows.case_id(1 + place * 7919 % count) for place in range(BULK_CASES)]
    return {"ids": ids, "change": {"priority": ("high", "low")[number % 2]}}


def _bulk_query(number: int, _: int) -> Body:
    """Return a bulk change of the open cases of an agent: 450 of a million."""
    query = {"assignedAgentId": rows.agent(7), "status": "open"}
    return {"query": query, "change": {"priority": ("high", "low")[number % 2]}}


def _undo_of_bulk(send: Send, number: int, count: int) -> tuple[str, str, None]:
    """Change 500 cases: nearly all of them have another priority again after each undo."""
    changed = send("POST", f"{CASES}/bulk", {**_bulk_change(number, count), "change": {"priority": "urgent"}})
    return "POST", f"{CASES}/bulk/{changed['id']}/undo", None


def _status_of_case(number: int, count: int) -> str:
    """Return the path of the status of a case that was not closed when it was loaded."""
    following = itertools.count(number * 7919)
    seq = next(seq for each in following if rows.case(seq := 1 + each % count, count)["status"] != "closed")
    return f"{CASES}/{rows.case_id(seq)}/status"


def _snooze(number: int, _: int) -> Body:
    """Return a snooze that does not end while the benchmark runs."""
    return {"status": "pending", "until": format_time(utc_now() + timedelta(days=300, minutes=number))}


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
    Call("agent", lambda number, _: f"{CASES}?assignedAgentId={rows.agent(number)}", 20),
    Call("agent, open", lambda number, _: f"{CASES}?assignedAgentId={rows.agent(number)}&status=open", 20),
    Call("customer", lambda number, _: f"{CASES}?customerId=customer-{number * 7919 % rows.CUSTOMERS}", 20),
    Call("open and pending", _list("status=open,pending"), 20),
    Call("without agent", _list("assignedAgentId=none&status=open"), 20),
    Call("without team", _list("team=none"), 20),
    Call("without team, open", _list("team=none&status=open"), 20),
    Call("tag of many cases", _list(f"tag={rows.FREQUENT_TAG}"), 20),
    Call("tag of few cases", _list(f"tag={rows.RARE_TAG}"), 20),
    Call("order", lambda number, count: f"{CASES}?orderId={1 + number * 7919 % count}", 20),
    Call("two tags", _list(f"tag={rows.FREQUENT_TAG}&tag={rows.RARE_TAG}"), 20),
    Call("updatedAfter: all", _list("updatedAfter=2024-01-01T00:00:00Z"), 20),
    Call("updatedAfter: none", _list("updatedAfter=2100-01-01T00:00:00Z"), 20),
    Call("sort=updated", _list("sort=updated"), 20),
    Call("sort=updated, closed", _list("sort=updated&status=closed"), 20),
    Call("sort=updated, open and pending", _list("sort=updated&status=open,pending"), 20),
    Call("sort=updated, urgent", _list("sort=updated&priority=urgent"), 20),
    Call("sort=updated, agent", lambda n, _: f"{CASES}?sort=updated&assignedAgentId={rows.agent(n)}", 20),
    Call("sort=updated, team=nobody", _list(f"sort=updated&team={rows.ABSENT_TEAM}"), 20),
    Call("sort=updated, tag of few cases", _list(f"sort=updated&tag={rows.RARE_TAG}"), 20),
    Call("sort=updated, tag of many cases", _list(f"sort=updated&tag={rows.FREQUENT_TAG}"), 20),
    Call("sort=waiting", _list("sort=waiting"), 20),
    Call("sort=waiting, without agent", _list("sort=waiting&assignedAgentId=none"), 20),
    Call("sort=waiting, agent", lambda n, _: f"{CASES}?sort=waiting&assignedAgentId={rows.agent(n)}", 20),
    Call("sort=waiting, team", lambda n, _: f"{CASES}?sort=waiting&team=team-{n % rows.TEAMS}", 20),
    Call("sort=waiting, team=nobody", _list(f"sort=waiting&team={rows.ABSENT_TEAM}"), 20),
    Call("sort=waiting, team=none", _list("sort=waiting&team=none"), 20),
    Call("sort=waiting, urgent", _list("sort=waiting&priority=urgent"), 20),
    Call("sort=waiting, pending", _list("sort=waiting&status=pending"), 20),
    Call("sort=waiting, channel=fax", _list("sort=waiting&channel=fax"), 20),
    Call("sort=waiting, tag of few cases", _list(f"sort=waiting&tag={rows.RARE_TAG}"), 20),
    Call("sort=due", _list("sort=due"), 20),
    Call("sort=due, agent", lambda n, _: f"{CASES}?sort=due&assignedAgentId={rows.agent(n)}", 20),
    Call("sort=due, team", lambda n, _: f"{CASES}?sort=due&team=team-{n % rows.TEAMS}", 20),
    Call("sort=due, team=nobody", _list(f"sort=due&team={rows.ABSENT_TEAM}"), 20),
    Call("sort=due, urgent", _list("sort=due&priority=urgent"), 20),
    Call("sort=due, pending", _list("sort=due&status=pending"), 20),
    Call("sort=due, tag of few cases", _list(f"sort=due&tag={rows.RARE_TAG}"), 20),
    Call("sort=due, dueWithin", _list("sort=due&dueWithin=PT4H"), 20),
    Call("dueWithin: many", _list("dueWithin=PT4H"), 20),
    Call("dueWithin, agent", lambda n, _: f"{CASES}?dueWithin=PT4H&assignedAgentId={rows.agent(n)}", 20),
    Call("dueBefore: all", _list("dueBefore=2200-01-01T00:00:00Z"), 20),
    Call("dueBefore: none", _list("dueBefore=2024-01-01T00:00:00Z"), 20),
    Call("sort=due of customer", lambda n, _: f"{CASES}?sort=due&customerId=customer-{n * 7919 % rows.CUSTOMERS}", 20),
    Call("q, sort=due: in every case", _list(f"q={rows.FREQUENT}&sort=due"), 20),
    Call("q, sort=updated: in every case", _list(f"q={rows.FREQUENT}&sort=updated"), 20),
    Call("q, sort=updated: in 200 cases", _list(f"q={rows.RARE}&sort=updated"), 20),
    Call("q, sort=updated: in none", _list(f"q={rows.ABSENT}&sort=updated"), 20),
    Call("q, sort=waiting: in every case", _list(f"q={rows.FREQUENT}&sort=waiting"), 20),
    Call("q, sort=waiting: in 200 cases", _list(f"q={rows.RARE}&sort=waiting"), 20),
    Call("snooze a case", _status_of_case, 20, body=_snooze),
    Call("snoozed=true", _list("snoozed=true"), 20),
    Call("snoozed=true, sort=snoozed", _list("snoozed=true&sort=snoozed"), 20),
    Call("snoozed=true, team", lambda n, _: f"{CASES}?snoozed=true&team=team-{n % rows.TEAMS}", 20),
    Call("sort=snoozed", _list("sort=snoozed"), 20),
    Call("sort=snoozed, open and pending", _list("sort=snoozed&status=open,pending"), 20),
    Call("snoozed=false, pending", _list("snoozed=false&status=pending"), 20),
    Call("customer's page", lambda number, count: f"/support/customers/{rows.customer_of(number, count)}", 20),
    Call("customers: many of a name", _path("/support/customers?q=customer"), 20),
    Call("customers: one of a name", lambda n, _: f"/support/customers?q={n * 7919 % rows.CUSTOMERS}+cust", 20),
    Call(
        "customers: a contact", lambda n, _: f"/support/customers?contact={n * 7919 % rows.CUSTOMERS}@example.org", 20
    ),
    *(Call(f"view: {name}", _path(f"/support/views/{view_id}"), 20) for name, view_id in rows.VIEW_IDS.items()),
    Call("q: word in every case", _list(f"q={rows.FREQUENT}"), 20),
    Call("q: word in 200 cases", _list(f"q={rows.RARE}"), 20),
    Call("q: word in none", _list(f"q={rows.ABSENT}"), 10),
    Call("q: word of some messages", lambda n, _: f"{CASES}?q={rows.VOCABULARY[n % rows.WORDS]}", 20),
    Call("q: two words", lambda n, _: f"{CASES}?q={rows.FREQUENT}+{rows.VOCABULARY[n % rows.WORDS]}", 20),
    Call("q and status=open", _list(f"q={rows.RARE}&status=open"), 20),
    Call("q: frequent, team=nobody", _list(f"q={rows.FREQUENT}&team={rows.ABSENT_TEAM}"), 20),
    Call("q: frequent, urgent", _list(f"q={rows.FREQUENT}&priority=urgent"), 20),
    Call("q: frequent, agent", lambda n, _: f"{CASES}?q={rows.FREQUENT}&assignedAgentId={rows.agent(n)}", 20),
    Call("q: in none, status=closed", _list(f"q={rows.ABSENT}&status=closed"), 20),
    Call("q: in none, agent", lambda n, _: f"{CASES}?q={rows.ABSENT}&assignedAgentId={rows.agent(n)}", 20),
    Call("q: id of a case", lambda n, count: f"{CASES}?q={rows.case_id(1 + n * 7919 % count)}", 20),
    Call("q: beginning of an id", lambda n, count: f"{CASES}?q={rows.case_id(1 + n * 7919 % count)[-8:]}", 20),
    Call("q: order", lambda n, count: f"{CASES}?q={1 + n * 7919 % count}", 20),
    Call("q: order, sort=waiting", lambda n, count: f"{CASES}?q={1 + n * 7919 % count}&sort=waiting", 20),
    Call("views that everyone has", _path("/support/views/counts"), 250),
    Call("bulk change of 500 cases", _path(f"{CASES}/bulk"), 2000, body=_bulk_change, requests=6),
    Call("bulk change of an agent's open cases", _path(f"{CASES}/bulk"), 2000, body=_bulk_query, requests=6),
    Call("undo of a bulk change of 500 cases", budget_ms=2000, prepare=_undo_of_bulk, requests=6),
    Call(
        "bulk change, team=nobody",
        _path(f"{CASES}/bulk"),
        20,
        body={"query": {"team": rows.ABSENT_TEAM}, "change": {"priority": "low"}},
    ),
    Call("report of a month by day", _report("2024-02-01", "2024-02-29", "by=day"), 20),
    Call("report of a year by day", _report("2024-01-01", "2024-12-31", "by=day"), 50),
    Call("report of a year by agent", _report("2024-01-01", "2024-12-31", "by=agent"), 200),
    Call("report of a year by day and agent, a page", _report("2024-01-01", "2024-12-31", "by=day,agent"), 50),
    Call("report of a year by day, agent", _report("2024-01-01", "2024-12-31", "by=day&agent=agent-7"), 50),
    Call("report of a year by agent, team", _report("2024-01-01", "2024-12-31", "by=agent&team=team-7"), 200),
    Call("report of a year by team and channel", _report("2024-01-01", "2024-12-31", "by=team,channel"), 100),
    *(
        Call(f"report of a year by {by}", _report("2024-01-01", "2024-12-31", f"by={by}"), 50)
        for by in ("team", "channel")
    ),
    *(
        Call(f"report of a year by {by}, a page", _report("2024-01-01", "2024-12-31", f"by={by}"), 50)
        for by in ("day,team", "day,channel")
    ),
    Call("report of each case of a day", _path(REPORTED_CASES), 250),
    Call("report of each case of a day, CSV", _path(f"{REPORTED_CASES}&format=csv"), 250),
    Call("merge", lambda number, count: f"{_duplicate(number, count)}/merge", 20, body=_into),
    Call("merged: case with 3 duplicates", _merged()),
    Call("merged: its timeline", _merged("?includeTimeline=true")),
    Call("merged: its first messages", _merged("?messagesLimit=5")),
    Call("merged: its files", _merged("/attachments")),
    Call("undo of a merge", budget_ms=20, prepare=_undo_of_merge),
    Call("split one of four messages", budget_ms=20, prepare=_split),
    Call("notifications", _path("/support/notifications"), 20),
    Call("notifications, 200 unread", _path("/support/notifications?unread=true&limit=200"), 20),
    Call("notifications, one is read", _path("/support/notifications/read"), 20, body={"ids": ["no-such-id"]}),
    Call("workload", lambda number, _: f"/support/agents/{rows.agent(number)}/workload"),
    Call("directory, 50 people", _path("/support/agents"), 20),
    Call("directory, 200 people", _path("/support/agents?limit=200"), 20),
    Call("one of the directory", lambda number, _: f"/support/agents/{rows.agent(number)}", 20),
)
# What replicas run without a request.
GAUGES = Call("gauges of cases, each 15 s", _path(""), 10)
CLOCK_GAUGES = Call("gauges of clocks, each 5 s", _path(""), 10)
ENDED_SNOOZES = Call("look for ended snoozes, each 1.5 s", _path(""), 10)
DUE_CLOCKS = Call("look for due clocks, none due", _path(""), 10)
MANY_DUE_CLOCKS = Call("look for due clocks, many due", _path(""), 10)
PERIODIC = (GAUGES, CLOCK_GAUGES, ENDED_SNOOZES, DUE_CLOCKS, MANY_DUE_CLOCKS)
