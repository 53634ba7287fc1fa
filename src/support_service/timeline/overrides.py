"""Timeline overrides for on-call: switch a service off for some time, or set another TTL for all answers.

An override is a row in the database, so that every replica sees it. Each reader decides by its own clock whether it has
expired.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from support_service.core.clock import time_after, to_micros, utc_now
from support_service.core.domain.principals import Principal
from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from support_service.core.errors import FieldError, Unavailable, problem
from support_service.core.optimistic_lock import ExpectedVersions, check_resource_version
from support_service.platform.audit import log as audit
from support_service.platform.database import Database, RowReader, Transaction
from support_service.platform.database.tables import timeline_overrides
from support_service.platform.telemetry.instruments import InstrumentSpec, Observations
from support_service.platform.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work
from support_service.timeline.override_rules import check_ttl

REFRESH_INTERVAL = 2.0  # seconds until a replica applies a change
TTL_OVERRIDE = "ttl"
OVERRIDE_NAMES = (*UPSTREAM_SERVICES, TTL_OVERRIDE)

log = logging.getLogger(__name__)

TIMELINE_SOURCE_ENABLED = InstrumentSpec(
    "support.timeline.source_enabled",
    "gauge",
    "{source}",
    "1 while an upstream service is configured and not switched off by an override, 0 otherwise",
    {"service": UPSTREAM_SERVICES},
)


@dataclass(frozen=True, slots=True)
class Override:
    """An override: a service's name switches that service off, the name `ttl` sets the TTL to `value` seconds."""

    name: str
    value: float | None
    reason: str
    until: datetime
    set_at: datetime

    @property
    def version(self) -> int:
        """The time when it was set in microseconds, which grows with each change."""
        return to_micros(self.set_at)

    @property
    def effect_and_reason(self) -> str:
        """The effect, end and reason of the override, for agents and the log."""
        return f"{self.effect}: {self.reason}" if self.reason else self.effect

    def text_shown_to(self, principal: Principal) -> str:
        """Return the text that a principal may read: without the reason, if the principal reads no internal notes."""
        return self.effect if principal.reads_only_public else self.effect_and_reason

    @property
    def effect(self) -> str:
        """The effect and end of the override, without the reason, which customers must not see.

        The end includes the date if it is not on the day on which the override was set.
        """
        until = self.until.astimezone(UTC)
        same_day = until.date() == self.set_at.astimezone(UTC).date()
        what = f"set to {self.value:g} s" if self.name == TTL_OVERRIDE and self.value else "switched off"
        return f"{what} until {until:{'%H:%MZ' if same_day else '%Y-%m-%d %H:%MZ'}}"


OVERRIDE_COLUMNS = [timeline_overrides.c[field.name] for field in fields(Override)]
SELECT_OVERRIDES = sa.select(*OVERRIDE_COLUMNS).order_by(timeline_overrides.c.name)
LOCK_OVERRIDE = sa.select(*OVERRIDE_COLUMNS).where(timeline_overrides.c.name == sa.bindparam("name")).with_for_update()
# Both databases accept this upsert; SQLAlchemy only has a separate construct for each database.
UPSERT_OVERRIDE = sa.text("""
    INSERT INTO timeline_levers (name, value, reason, until, set_at) VALUES (:name, :value, :reason, :until, :set_at)
    ON CONFLICT (name) DO UPDATE
    SET value = excluded.value, reason = excluded.reason, until = excluded.until, set_at = excluded.set_at
""").bindparams(*(sa.bindparam(column.name, type_=column.type) for column in OVERRIDE_COLUMNS))


async def set_override(work: UnitOfWork, override: Override) -> None:
    """Set an override and record it in the audit log; it replaces the override of the same name."""
    before = next((each for each in await read_overrides(work.tx) if each.name == override.name), None)
    await work.tx.execute(UPSERT_OVERRIDE, asdict(override))
    await audit.record(work, None, "override.set", override.set_at, {override.name: (before, override)})


async def clear_overrides(work: UnitOfWork, names: Collection[str]) -> list[Override]:
    """Clear overrides and record it in the audit log; return the cleared ones, including expired ones."""
    statement = timeline_overrides.delete().where(timeline_overrides.c.name.in_(names)).returning(*OVERRIDE_COLUMNS)
    cleared = [Override(**row._asdict()) for row in await work.tx.fetch_all(statement)]
    for override in cleared:
        await audit.record(work, None, "override.removed", utc_now(), {override.name: (override, None)})
    return cleared


async def lock_override(tx: Transaction, name: str) -> Override | None:
    """Lock and return the override of a name, which may have expired, or None."""
    row = await tx.fetch_now(LOCK_OVERRIDE, {"name": name})
    return Override(**row._asdict()) if row else None


async def read_overrides(reader: RowReader) -> list[Override]:
    """Return all overrides, sorted by name, including expired ones."""
    return [Override(**row._asdict()) for row in await reader.fetch_all(SELECT_OVERRIDES)]


class Overrides:
    """The overrides in effect, held in memory; only `refresh` reads the database."""

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now
        self._known: Mapping[str, Override] = {}  # never changed, only replaced: a scrape reads it from another thread
        self._logged: dict[str, Override] = {}
        self._database_failed = False
        self._reading = asyncio.Lock()  # an older answer must not replace a newer one

    async def refresh(self) -> None:
        """Read the overrides from the database, and log which were set, changed, cleared or expired.

        While the database is unavailable, the known overrides stay in effect.
        """
        try:
            async with self._reading:
                self._known = {override.name: override for override in await read_overrides(self._database)}
        except Unavailable as failure:
            if not self._database_failed:
                log.warning(
                    "The timeline overrides can't be read; the known ones stay in effect until they expire: %s", failure
                )
            self._database_failed = True
        else:
            if self._database_failed:
                log.info("The timeline overrides can be read again")
            self._database_failed = False
        self._log_changes()

    def in_effect(self, name: str) -> Override | None:
        """Return the override in effect of this name: a service that is switched off, or `ttl`."""
        override = self._known.get(name)
        return override if override and override.until > self._now() else None

    def ttl(self, default: float) -> float:
        """Return the TTL of answers in seconds: the override's if one is set, otherwise the default."""
        override = self.in_effect(TTL_OVERRIDE)
        return override.value if override and override.value and override.value > 0 else default

    def observe_enabled(self, configured: Collection[str]) -> Observations:
        """Return the gauge's values: 1 for each service that is configured and not switched off, 0 for the others."""
        return [
            (int(service in configured and self.in_effect(service) is None), {"service": service})
            for service in UPSTREAM_SERVICES
        ]

    def _log_changes(self) -> None:
        """Log the differences between the overrides in effect now and at the last call."""
        in_effect = {name: override for name in self._known if (override := self.in_effect(name))}
        for name, override in in_effect.items():
            if override != self._logged.get(name):
                log.warning("Override %s: %s", name, override.effect_and_reason)
        for name, override in self._logged.items():
            if name not in in_effect:
                log.warning("Override %s is %s", name, "expired" if override.until <= self._now() else "cleared")
        self._logged = in_effect


class OverrideService:
    """Sets and clears overrides, each in one transaction.

    This replica applies a change at once, the others at their next refresh.
    """

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
        """Set an override from now on, in place of any override of the same name, and return it."""
        _check_name(name)
        _check_fields(name, value, reason)
        async with unit_of_work(self._database, origin) as work:
            before = await _lock_override_in_effect(work, name)
            check_resource_version(before, expected, "override_changed", "override")
            now = time_after(before.set_at) if before else utc_now()
            override = Override(name, value, reason, now + duration, now)
            await set_override(work, override)
        await self._overrides.refresh()
        return override

    async def clear(self, origin: WriteOrigin, name: str, expected: ExpectedVersions = None) -> None:
        """Clear an override before it expires."""
        _check_name(name)
        async with unit_of_work(self._database, origin) as work:
            before = await _lock_override_in_effect(work, name)
            if before is None:
                raise problem("override_not_found", f"No override {name!r} is in effect.")
            check_resource_version(before, expected, "override_changed", "override")
            await clear_overrides(work, [name])
        await self._overrides.refresh()


async def _lock_override_in_effect(work: UnitOfWork, name: str) -> Override | None:
    """Lock and return the override of a name, or None if there is none or it has expired."""
    override = await lock_override(work.tx, name)
    return override if override and override.until > utc_now() else None


def _check_name(name: str) -> None:
    if name not in OVERRIDE_NAMES:
        raise problem("override_not_found", f"There is no override {name[:64]!r}: {', '.join(OVERRIDE_NAMES)}.")


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
        raise problem("invalid_request", f"The override {name} can't be set.", wrong)
