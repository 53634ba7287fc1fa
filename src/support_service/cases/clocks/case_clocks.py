"""The clocks of a case, and what changes of the case do to them. Pure.

| change | first response | next response | resolution |
| --- | --- | --- | --- |
| the case is opened | starts | | starts |
| an agent's message | ends | ends | |
| a customer's message after the first answer | | starts, unless one waits | |
| pending | | | pauses |
| resolved or closed | pauses | pauses | ends |
| open again | resumes | resumes | resumes |
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from support_service.cases.clocks.calendar import WorkingTime
from support_service.cases.clocks.clock import Clock
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, AuthorType, Status
from support_service.core.domain.service_levels import Target

Clocks = Mapping[Target, Clock]


class Terms(NamedTuple):
    """The terms of a policy: the time for each target, and the calendar of the working time."""

    targets: Mapping[Target, timedelta]
    calendar: WorkingTime

    def start(self, target: Target, at: datetime) -> dict[Target, Clock]:
        """Return the clock of a target that starts at an instant; none if the policy has no such target."""
        allowance = self.targets.get(target)
        return {} if allowance is None else {target: Clock.start(target, allowance, self.calendar, at)}


def case_opened(terms: Terms, at: datetime, first_author: AuthorType | None) -> Clocks:
    """Return the clocks of a new case; `first_author` wrote its first message, if it has a public one."""
    clocks = terms.start("firstResponse", at) | terms.start("resolution", at)
    if first_author == "agent" and "firstResponse" in clocks:
        clocks["firstResponse"] = clocks["firstResponse"].end(terms.calendar, at)
    return clocks


def agent_answered(terms: Terms, clocks: Clocks, at: datetime) -> Clocks:
    """Return the clocks after a public message of an agent."""
    return {
        target: clock.checked(at) if target == "resolution" else clock.end(terms.calendar, at)
        for target, clock in clocks.items()
    }


def customer_wrote(terms: Terms, clocks: Clocks, at: datetime, *, is_answered: bool) -> Clocks:
    """Return the clocks after a message of the customer; `is_answered` if an agent has written before.

    A clock that was stopped by the end of the case before its breach goes on when the case is opened again.
    """
    checked = {target: clock.checked(at) for target, clock in clocks.items()}
    current = checked.get("nextResponse")
    is_over = (
        current is None or current.ended_at is not None or (current.state == "breached" and not current.is_waiting)
    )
    return checked | terms.start("nextResponse", at) if is_answered and is_over else checked


def status_changed(terms: Terms, clocks: Clocks, at: datetime, before: Status, after: Status) -> Clocks:
    """Return the clocks after a change of the status of the case."""
    changed = {}
    for target, clock in clocks.items():
        was_active = before in ACTIVE_STATUSES
        if after not in ACTIVE_STATUSES:
            stop = clock.end if target == "resolution" else clock.pause
            changed[target] = stop(terms.calendar, at) if was_active else clock.checked(at)
        elif target != "resolution":
            changed[target] = clock.resume(terms.calendar, at)
        else:
            reopened = clock if was_active else clock.reopen()
            move = reopened.pause if after == "pending" else reopened.resume
            changed[target] = move(terms.calendar, at)
    return changed
