"""The clocks of a case as clients see them. No I/O."""

from datetime import datetime
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from support_service.cases.clocks.calendar import WorkingTime
from support_service.cases.clocks.case_clocks import Clocks
from support_service.cases.model.vocabulary import format_duration
from support_service.core.domain.case_vocabulary import ClockState
from support_service.core.personal import FACT, PARTS

EXAMPLE: dict[str, Any] = {
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
        description="working time that is left at the time of the response, or was left when the target was met; "
        "a duration of ISO 8601 in hours, minutes and seconds; `PT0S` if breached"
    )


class ShownClocks(BaseModel):
    """The clocks of a case. A target has a clock once something waits for it, if the policy of the case has it."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, json_schema_extra={"examples": [EXAMPLE]}, title="SlaClocks"
    )

    first_response: Annotated[ShownClock | None, PARTS] = Field(default=None, exclude_if=lambda clock: clock is None)
    next_response: Annotated[ShownClock | None, PARTS] = Field(default=None, exclude_if=lambda clock: clock is None)
    resolution: Annotated[ShownClock | None, PARTS] = Field(default=None, exclude_if=lambda clock: clock is None)


class MeasuredClocks(NamedTuple):
    """The clocks of a case with the calendar that they are measured by."""

    clocks: Clocks
    calendar: WorkingTime

    @property
    def change_with_time(self) -> bool:
        """Whether what clients see changes although the case does not: a clock is running."""
        return any(clock.state == "running" for clock in self.clocks.values())

    def shown(self, at: datetime) -> ShownClocks:
        """Return the clocks as clients see them at an instant; a clock that is due is breached, reported or not."""
        return ShownClocks.model_validate(
            {
                target: ShownClock(
                    due_at=clock.due_at,
                    state=clock.checked(at).state,
                    waiting=clock.is_waiting,
                    remaining=format_duration(clock.remaining(self.calendar, at)),
                )
                for target, clock in self.clocks.items()
            }
        )
