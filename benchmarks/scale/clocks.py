"""Clocks of service levels: each open and each pending case has some.

A clock that runs is due in the far future, so that a service that runs meanwhile reports no breach.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

START = datetime(2024, 1, 1, tzinfo=UTC)  # of the first case
DUE_FROM = datetime(2100, 1, 1, tzinfo=UTC)  # the first due time of clocks that run
DUE_RANGE = timedelta(days=400)  # in which they are due
ALLOWANCES = {"firstResponse": timedelta(hours=1), "nextResponse": timedelta(hours=4), "resolution": timedelta(hours=8)}
TARGETS = {target: f"PT{allowance // timedelta(hours=1)}H" for target, allowance in ALLOWANCES.items()}
_MICROSECOND = timedelta(microseconds=1)


def policies() -> Iterator[dict[str, Any]]:
    """Yield the rows of policies: customers see the clocks of the first one. Neither matches a case of its own."""
    for seq, public in ((1, True), (2, False)):
        yield {
            "seq": seq,
            "name": f"policy-{seq}",
            "content": json.dumps({"match": {"team": ["another"]}, "targets": TARGETS, "public": public}),
            "is_current": True,
            "created_at": START,
            "updated_at": START,
            "version": 1,
        }


def clocks(case_id: str, status: str, at: datetime, shuffled: int) -> list[dict[str, Any]]:
    """Return the rows of the clocks of a case that was opened at a time; `shuffled` is a number that varies.

    The first answer came in time. The customer of an open case waits for the next one, and half of these cases are
    overdue. The resolution of a pending case is paused.
    """
    if status not in ("open", "pending"):
        return []
    policy = 1 + shuffled // 61 % 2
    due_at = DUE_FROM + (shuffled // 59 % (1 << 24)) / (1 << 24) * DUE_RANGE
    answered_at = at + timedelta(minutes=30)
    late = at + ALLOWANCES["resolution"]
    met = _clock("firstResponse", "met", due_at=at + ALLOWANCES["firstResponse"], ended_at=answered_at)
    if status == "pending":
        return [_of(case_id, policy, each) for each in (met, _clock("resolution", "paused"))]
    is_late = shuffled // 53 % 2 == 0
    state, resolve_by = ("breached", late) if is_late else ("running", due_at)
    found = (
        met,
        _clock("nextResponse", "running", running_since=answered_at, due_at=due_at + ALLOWANCES["nextResponse"]),
        _clock("resolution", state, running_since=at, due_at=resolve_by),
    )
    return [_of(case_id, policy, each) for each in found]


def first_due(clocks: list[dict[str, Any]]) -> datetime | None:
    """Return the first due time of the clocks that run, also of breached ones."""
    return min((clock["due_at"] for clock in clocks if clock["running_since"]), default=None)


def _clock(
    target: str,
    state: str,
    *,
    running_since: datetime | None = None,
    due_at: datetime | None = None,
    ended_at: datetime | None = None,
) -> dict[str, Any]:
    return {
        "target": target,
        "state": state,
        "allowance": ALLOWANCES[target] // _MICROSECOND,
        "used": 0 if running_since else timedelta(minutes=30) // _MICROSECOND,
        "running_since": running_since,
        "due_at": due_at,
        "ended_at": ended_at,
    }


def _of(case_id: str, policy: int, clock: dict[str, Any]) -> dict[str, Any]:
    return {"case_id": case_id, "policy": policy, "public": policy == 1, **clock}
