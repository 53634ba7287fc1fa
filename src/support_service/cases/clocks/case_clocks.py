"""The clocks of a case: what changes of the case do to them, and what clients see of them. Pure.

A clock measures the working time of one target. `breached` is final for a run of a clock: an answer after the due time
ends it, and does not change its state.

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
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from support_service.cases.clocks.calendar import NO_TIME, WorkingTime
from support_service.cases.model.vocabulary import format_duration
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES, AuthorType, ClockState, ClockTarget, Status
from support_service.core.personal import FACT, PARTS


@dataclass(frozen=True, slots=True)
class Clock:
    """The state of a clock. Times are in UTC, durations are working time.

    `due_at` is None while a clock is paused, and if it ended while it was paused. `running_since` is None while it
    stands; a breached clock may run on. `ended_at` is when what it measures happened.
    """

    target: ClockTarget
    state: ClockState
    allowance: timedelta
    used: timedelta  # before `running_since`
    running_since: datetime | None
    due_at: datetime | None
    ended_at: datetime | None = None

    @classmethod
    def start_clock(cls, target: ClockTarget, allowance: timedelta, calendar: WorkingTime, at: datetime) -> Self:
        """Return a clock that starts at an instant."""
        return cls(target, "running", allowance, NO_TIME, at, calendar.add(at, allowance))

    @property
    def is_waiting(self) -> bool:
        """Whether the clock runs, also after its breach: what it measures has not happened."""
        return self.running_since is not None

    @property
    def used_share(self) -> float:
        """The used time as a share of the target, of a clock that stands."""
        return self.used / self.allowance

    def breached_if_overdue(self, at: datetime) -> "Clock":
        """Return the clock as it is at an instant: breached if it is due before."""
        if self.state == "running" and self.due_at is not None and at > self.due_at:
            return replace(self, state="breached")
        return self

    def pause(self, calendar: WorkingTime, at: datetime) -> "Clock":
        """Stop the clock; `resume` continues with the time that is left."""
        clock = self.breached_if_overdue(at)
        if clock.running_since is None:
            return clock
        used = clock.used + calendar.between(clock.running_since, at)
        if clock.state == "breached":
            return replace(clock, used=used, running_since=None)
        return replace(clock, state="paused", used=used, running_since=None, due_at=None)

    def resume(self, calendar: WorkingTime, at: datetime) -> "Clock":
        """Continue after `pause`."""
        if self.is_waiting or self.ended_at is not None:
            return self.breached_if_overdue(at)
        if self.state == "breached":
            return replace(self, running_since=at)
        due_at = calendar.add(at, self.allowance - self.used)
        return replace(self, state="running", running_since=at, due_at=due_at)

    def end(self, calendar: WorkingTime, at: datetime) -> "Clock":
        """Return the clock after what it measures has happened: met, unless it is breached."""
        if self.ended_at is not None:
            return self
        clock = self.breached_if_overdue(at)
        stopped = clock.pause(calendar, at)
        if clock.state == "breached":
            return replace(stopped, ended_at=at)
        return replace(stopped, state="met", due_at=clock.due_at, ended_at=at)

    def reopen(self) -> "Clock":
        """Return the clock as if what it measures had not happened; it stands until `resume`."""
        if self.ended_at is None:
            return self
        if self.state == "breached":
            return replace(self, ended_at=None)
        return replace(self, state="paused", due_at=None, ended_at=None)

    def remaining(self, calendar: WorkingTime, at: datetime) -> timedelta:
        """Return the working time that is left at an instant, or was left when the clock ended; nothing if breached."""
        clock = self.breached_if_overdue(at)
        if clock.state == "breached":
            return NO_TIME
        if clock.running_since is None:
            return clock.allowance - clock.used
        return calendar.between(at, clock.due_at) if clock.due_at else NO_TIME


Clocks = Mapping[ClockTarget, Clock]


class PolicyTerms(NamedTuple):
    """The terms of a policy: the time for each target, and the calendar of the working time."""

    targets: Mapping[ClockTarget, timedelta]
    calendar: WorkingTime

    def start_clock(self, target: ClockTarget, at: datetime) -> dict[ClockTarget, Clock]:
        """Return the clock of a target that starts at an instant; none if the policy has no such target."""
        allowance = self.targets.get(target)
        return {} if allowance is None else {target: Clock.start_clock(target, allowance, self.calendar, at)}


def clocks_of_new_case(terms: PolicyTerms, at: datetime, first_author: AuthorType | None) -> Clocks:
    """Return the clocks of a new case; `first_author` wrote its first message, if it has a public one."""
    clocks = terms.start_clock("firstResponse", at) | terms.start_clock("resolution", at)
    if first_author == "agent" and "firstResponse" in clocks:
        clocks["firstResponse"] = clocks["firstResponse"].end(terms.calendar, at)
    return clocks


def clocks_after_agent_message(terms: PolicyTerms, clocks: Clocks, at: datetime) -> Clocks:
    """Return the clocks after a public message of an agent."""
    return {
        target: clock.breached_if_overdue(at) if target == "resolution" else clock.end(terms.calendar, at)
        for target, clock in clocks.items()
    }


def clocks_without_question(terms: PolicyTerms, clocks: Clocks, at: datetime) -> Clocks:
    """Return the clocks after the messages of the customer that wait for a next response have left the case."""
    return {
        target: clock.end(terms.calendar, at) if target == "nextResponse" else clock.breached_if_overdue(at)
        for target, clock in clocks.items()
    }


def clocks_after_customer_message(terms: PolicyTerms, clocks: Clocks, at: datetime, *, is_answered: bool) -> Clocks:
    """Return the clocks after a message of the customer; `is_answered` if an agent has written before.

    A clock that was stopped by the end of the case before its breach goes on when the case is opened again.
    """
    checked = {target: clock.breached_if_overdue(at) for target, clock in clocks.items()}
    current = checked.get("nextResponse")
    is_over = (
        current is None or current.ended_at is not None or (current.state == "breached" and not current.is_waiting)
    )
    return checked | terms.start_clock("nextResponse", at) if is_answered and is_over else checked


def clocks_after_status_change(
    terms: PolicyTerms, clocks: Clocks, at: datetime, before: Status, after: Status
) -> Clocks:
    """Return the clocks after a change of the status of the case."""
    changed = {}
    for target, clock in clocks.items():
        was_active = before in ACTIVE_STATUSES
        if after not in ACTIVE_STATUSES:
            stop = clock.end if target == "resolution" else clock.pause
            changed[target] = stop(terms.calendar, at) if was_active else clock.breached_if_overdue(at)
        elif target != "resolution":
            changed[target] = clock.resume(terms.calendar, at)
        else:
            reopened = clock if was_active else clock.reopen()
            move = reopened.pause if after == "pending" else reopened.resume
            changed[target] = move(terms.calendar, at)
    return changed


SHOWN_CLOCKS_EXAMPLE: dict[str, Any] = {
    "firstResponse": {
        "dueAt": "2026-05-12T09:30:00.125000Z",
        "state": "met",
        "waiting": False,
        "remaining": "PT26M14S",
    },
    "resolution": {
        "dueAt": "2026-05-14T04:00:00.125000Z",
        "state": "running",
        "waiting": True,
        "remaining": "PT15H28M",
    },
}


class ShownClock(BaseModel):
    """The clock of a target."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        json_schema_serialization_defaults_required=True,
        title="SlaClock",
    )

    due_at: Annotated[datetime | None, FACT] = Field(description="when the time is up; null while it is paused")
    state: Annotated[ClockState, FACT] = Field(description="`breached` stays, also after a late answer")
    waiting: Annotated[bool, FACT] = Field(
        description="whether the clock runs; true also after a breach, until what the target asks for has happened"
    )
    remaining: Annotated[str, FACT] = Field(
        description="working time that is left at the time of the response, or was left when the target was met. "
        "A duration of ISO 8601 in hours, minutes and seconds; `PT0S` if breached"
    )


class ShownClocks(BaseModel):
    """The clocks of a case. A target has a clock once something waits for it, if the policy of the case has it."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        json_schema_extra={"examples": [SHOWN_CLOCKS_EXAMPLE]},
        title="SlaClocks",
    )

    first_response: Annotated[ShownClock | None, PARTS] = Field(default=None, exclude_if=lambda clock: clock is None)
    next_response: Annotated[ShownClock | None, PARTS] = Field(default=None, exclude_if=lambda clock: clock is None)
    resolution: Annotated[ShownClock | None, PARTS] = Field(default=None, exclude_if=lambda clock: clock is None)


class MeasuredClocks(NamedTuple):
    """The clocks of a case with the calendar that they are measured by."""

    clocks: Clocks
    calendar: WorkingTime

    @property
    def are_running(self) -> bool:
        """Whether what clients see changes although the case does not: a clock is running."""
        return any(clock.state == "running" for clock in self.clocks.values())

    def shown_at(self, at: datetime) -> ShownClocks:
        """Return the clocks as clients see them at an instant; a clock that is due is breached, reported or not."""
        return ShownClocks.model_validate(
            {
                target: ShownClock(
                    due_at=clock.due_at,
                    state=clock.breached_if_overdue(at).state,
                    waiting=clock.is_waiting,
                    remaining=format_duration(clock.remaining(self.calendar, at)),
                )
                for target, clock in self.clocks.items()
            }
        )
