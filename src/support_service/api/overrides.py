"""Overrides of on-call: switch an upstream service off for some time, or keep its answers fresh for longer."""

from support_service.api.models.oncall_actions import NewOverride, ShownOverride
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, put
from support_service.api.routing.etags import version_header
from support_service.api.routing.problem_groups import DATABASE_PROBLEMS
from support_service.api.routing.route import Permission, Tag
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.timeline.override_rules import parse_override_duration
from support_service.timeline.overrides import Override

TAG = Tag("on-call", "On-call: the state of the service's parts, overrides, dead letters and webhook deliveries.")
OVERRIDE = "/support/overrides/{override_name}"

WRITE = Permission("overrides:write", {"supervisor": "all"})


@put(OVERRIDE, access=WRITE, headers=("ETag",), problems=(*DATABASE_PROBLEMS, "override_changed", "override_not_found"))
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


@delete(OVERRIDE, access=WRITE, problems=(*DATABASE_PROBLEMS, "override_changed", "override_not_found"))
async def clear_override(call: Call, override_name: str, expected: ExpectedVersions) -> Reply[None]:
    """Clear an override before it expires.

    This replica applies it at once, the others within about 2 seconds.
    """
    await call.services.overrides.clear(call.write_origin, override_name, expected)
    return Reply(None)


def shown(override: Override) -> ShownOverride:
    """Return an override as the API shows it."""
    return ShownOverride.model_construct(**{name: getattr(override, name) for name in ShownOverride.model_fields})
