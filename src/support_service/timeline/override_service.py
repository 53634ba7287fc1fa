"""The override service: on-call sets and clears overrides by the API; each change is one transaction."""

from datetime import timedelta

from support_service.core.clock import time_after, utc_now
from support_service.core.errors import FieldError, NotFound, ValidationFailed
from support_service.core.optimistic_lock import ExpectedVersions, expect_resource_version
from support_service.platform.database import Database
from support_service.platform.idempotency.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work
from support_service.timeline.override_rules import check_ttl
from support_service.timeline.overrides import (
    OVERRIDE_NAMES,
    TTL_OVERRIDE,
    Override,
    Overrides,
    clear_overrides,
    lock_override,
    set_override,
)


class OverrideService:
    """Sets and clears overrides. This replica applies a change at once, the others at their next refresh."""

    def __init__(self, database: Database, overrides: Overrides) -> None:
        self._database = database
        self._overrides = overrides

    async def put(
        self,
        origin: WriteOrigin,
        name: str,
        *,
        value: float | None,
        reason: str,
        duration: timedelta,
        expected: ExpectedVersions = None,
    ) -> Override:
        """Set an override from now on, in place of the one of the same name, and return it.

        Raises NotFound for an unknown name, ValidationFailed for a value or a missing reason that does not fit the
        name, and VersionConflict.
        """
        _check_name(name)
        _check_fields(name, value, reason)
        async with unit_of_work(self._database, origin) as work:
            before = await _in_effect(work, name)
            expect_resource_version(before, expected, "override_changed", "override")
            now = time_after(before.set_at) if before else utc_now()
            override = Override(name, value, reason, now + duration, now)
            await set_override(work, override)
        await self._overrides.refresh()
        return override

    async def clear(self, origin: WriteOrigin, name: str, expected: ExpectedVersions = None) -> None:
        """Clear an override before it expires. Raises NotFound and VersionConflict."""
        _check_name(name)
        async with unit_of_work(self._database, origin) as work:
            before = await _in_effect(work, name)
            if before is None:
                raise NotFound("override_not_found", f"No override {name!r} is in effect.")
            expect_resource_version(before, expected, "override_changed", "override")
            await clear_overrides(work, [name])
        await self._overrides.refresh()


async def _in_effect(work: UnitOfWork, name: str) -> Override | None:
    """Lock and return the override of a name, or None if there is none or it has expired."""
    override = await lock_override(work.tx, name)
    return override if override and override.until > utc_now() else None


def _check_name(name: str) -> None:
    if name not in OVERRIDE_NAMES:
        raise NotFound("override_not_found", f"There is no override {name[:64]!r}: {', '.join(OVERRIDE_NAMES)}.")


def _check_fields(name: str, value: float | None, reason: str) -> None:
    """Raise ValidationFailed unless `ttl` has a TTL, and a service has a reason and no value."""
    wrong = []
    if name == TTL_OVERRIDE:
        try:
            check_ttl(0 if value is None else value)
        except ValueError as expected:
            wrong.append(FieldError("value", f"must be {expected}"))
    else:
        if value is not None:
            wrong.append(FieldError("value", "must be null: the override of a service switches it off"))
        if not reason:
            wrong.append(FieldError("reason", "is missing: agents and the next on-call read it"))
    if wrong:
        raise ValidationFailed("invalid_request", f"The override {name} can't be set.", wrong)
