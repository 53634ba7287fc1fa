"""Overrides of on-call: switch an upstream service off for some time, or keep its answers fresh for longer."""

from support_service.api.models.overrides import NewOverride, ShownOverride
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.etags import version_header
from support_service.api.routing.problem_groups import DATABASE_PROBLEMS, JSON_BODY_PROBLEMS
from support_service.api.routing.route import Permission, Route, Tag
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.timeline.override_rules import parse_override_duration
from support_service.timeline.overrides import Override

TAG = Tag("on-call", "On-call: the state of the service's parts, overrides, dead letters and webhook deliveries.")
OVERRIDE = "/support/overrides/{override_name}"

WRITE = Permission("overrides:write", {"supervisor": "all"})


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
    return Reply(shown(override), version_header(override.version))


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
