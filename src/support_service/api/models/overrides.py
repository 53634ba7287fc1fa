"""Overrides as clients set and get them."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import RequestModel
from support_service.timeline.override_rules import REASON_LENGTH, TTL_RANGE, clean_reason, parse_override_duration

EXAMPLE = {"value": None, "reason": "being restored", "duration": "PT30M"}


def _as_reason(text: str) -> str:
    try:
        return clean_reason(text)
    except ValueError as expected:
        raise ValueError(f"must have {expected}") from None


def _check_duration(text: str) -> str:
    try:
        parse_override_duration(text)
    except ValueError as expected:
        raise ValueError(f"must be {expected}, or ISO 8601, such as PT30M") from None
    return text


class NewOverride(RequestModel):
    """An override to set from now on."""

    model_config = example_config(EXAMPLE)

    value: Annotated[float, Field(ge=TTL_RANGE[0], le=TTL_RANGE[1])] | None = Field(
        None, description="of `ttl`: the seconds for which answers are fresh; null for a service, which is switched off"
    )
    reason: Annotated[str, AfterValidator(_as_reason)] = Field(
        "", description=f"at most {REASON_LENGTH} characters, for agents and the next on-call; a service needs one"
    )
    duration: Annotated[str, Field(max_length=64), AfterValidator(_check_duration)] = Field(
        description="how long it is in effect, at most 7 days: `PT30M`, or `30m` as on the command line"
    )


class ShownOverride(ApiModel):
    """An override in effect."""

    model_config = example_config(
        {
            "name": "payment",
            "value": None,
            "reason": "being restored",
            "effect": "switched off until 12:30Z",
            "setAt": "2026-05-12T12:00:00Z",
            "until": "2026-05-12T12:30:00Z",
            "version": 1778587200000000,
        }
    )

    name: str = Field(description="a service that is switched off, or `ttl`")
    value: float | None = Field(description="seconds for which answers are fresh; null for a service")
    reason: str
    effect: str = Field(description="what it does, and until when")
    set_at: datetime
    until: datetime
    version: int = Field(description="for `If-Match`")
