"""Overrides of on-call: switch an upstream service off for some time, or keep its answers fresh for longer."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from support_service.api.routing.call import Call, Reply
from support_service.api.routing.problem_groups import DATABASE_PROBLEMS, JSON_BODY_PROBLEMS
from support_service.api.routing.route import Permission, Route, Tag
from support_service.cases.model.case import ApiModel, example_config
from support_service.cases.model.requests import RequestModel
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.timeline.override_rules import REASON_LENGTH, TTL_RANGE, clean_reason, parse_override_duration
from support_service.timeline.overrides import Override

TAG = Tag("on-call", "On-call: the state of the service's parts, overrides, dead letters and webhook deliveries.")
OVERRIDE = "/support/overrides/{override_name}"
EXAMPLE = {"value": None, "reason": "being restored", "duration": "PT30M"}

WRITE = Permission("overrides:write", {"supervisor": "all"})


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


async def set_override(
    call: Call, override_name: str, body: NewOverride, expected: ExpectedVersions
) -> Reply[ShownOverride]:
    """Set an override, in place of the one of the same name.

    The name is `order`, `payment` or `fulfillment`, which is then not called, or `ttl`. The override ends by itself
    after `duration`. This replica applies it at once, the others within about 2 seconds.
    """
    override = await call.services.overrides.put(
        call.write_origin,
        override_name,
        value=body.value,
        reason=body.reason,
        duration=parse_override_duration(body.duration),
        expected=expected,
    )
    return Reply(shown(override), {"ETag": f'"{override.version}"'})


async def clear_override(call: Call, override_name: str, expected: ExpectedVersions) -> Reply[None]:
    """Clear an override before it expires.

    This replica applies it at once, the others within about 2 seconds.
    """
    await call.services.overrides.clear(call.write_origin, override_name, expected)
    return Reply(None)


def shown(override: Override) -> ShownOverride:
    """Return an override as the API shows it."""
    return ShownOverride.model_construct(**{name: getattr(override, name) for name in ShownOverride.model_fields})


ROUTES = (
    Route(
        operation="set_override",
        tag=TAG,
        method="PUT",
        path=OVERRIDE,
        handler=set_override,
        access=WRITE,
        body=NewOverride,
        request_headers=("If-Match",),
        response_model=ShownOverride,
        headers=("ETag",),
        problems=(*JSON_BODY_PROBLEMS, "override_changed", "override_not_found"),
    ),
    Route(
        operation="clear_override",
        tag=TAG,
        method="DELETE",
        path=OVERRIDE,
        handler=clear_override,
        access=WRITE,
        request_headers=("If-Match",),
        status=204,
        problems=(*DATABASE_PROBLEMS, "override_changed", "override_not_found"),
    ),
)
