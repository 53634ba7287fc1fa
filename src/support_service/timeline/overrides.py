"""The levers of on-call: a service that is not asked for a while, or a longer time that its answers count as current.

A lever is a row in the database, so that every replica sees it. It ends by the clock of whoever looks at it.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime

import sqlalchemy as sa

from support_service.audit import log as audit
from support_service.core.errors import Unavailable
from support_service.core.principals import CALLER
from support_service.core.references import Service
from support_service.database import Database, Reader, Transaction
from support_service.database.tables import timeline_levers
from support_service.telemetry.instruments import Reading
from support_service.telemetry.labels import SERVICES

REFRESH_EVERY = 2.0  # seconds until a replica follows
TTL = "ttl"
NAMES = (*SERVICES, TTL)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lever:
    """One lever that was pulled: a service's name switches it off, `ttl` holds for `value` seconds."""

    name: str
    value: float | None
    reason: str
    until: datetime
    set_at: datetime

    @property
    def text(self) -> str:
        """What the lever does, until when and why, as agents and the log read it."""
        return f"{self.effect}: {self.reason}" if self.reason else self.effect

    @property
    def effect(self) -> str:
        """What the lever does, and until when (the day only where it is another): why is not for customers."""
        until = self.until.astimezone(UTC)
        same_day = until.date() == self.set_at.astimezone(UTC).date()
        what = f"set to {self.value:g} s" if self.name == TTL and self.value else "switched off"
        return f"{what} until {until:{'%H:%MZ' if same_day else '%Y-%m-%d %H:%MZ'}}"


COLUMNS = [timeline_levers.c[field.name] for field in fields(Lever)]
READ = sa.select(*COLUMNS).order_by(timeline_levers.c.name)
# Both databases spell an upsert like this, and SQLAlchemy has one for each alone.
PULL = sa.text("""
    INSERT INTO timeline_levers (name, value, reason, until, set_at) VALUES (:name, :value, :reason, :until, :set_at)
    ON CONFLICT (name) DO UPDATE
    SET value = excluded.value, reason = excluded.reason, until = excluded.until, set_at = excluded.set_at
""").bindparams(*(sa.bindparam(column.name, type_=column.type) for column in COLUMNS))


async def pull(tx: Transaction, lever: Lever) -> None:
    """Pull a lever, in place of what its name stood at."""
    before = next((each for each in await read(tx) if each.name == lever.name), None)
    await tx.execute(PULL, asdict(lever))
    await audit.record(tx, None, "lever.pulled", lever.set_at, {lever.name: (before, lever)})


async def release(tx: Transaction, names: Collection[str]) -> list[Lever]:
    """Put levers back; returns those that were there, expired ones too."""
    statement = timeline_levers.delete().where(timeline_levers.c.name.in_(names)).returning(*COLUMNS)
    released = [Lever(*row) for row in await tx.fetch_all(statement)]
    for lever in released:
        await audit.record(tx, None, "lever.released", utc_now(), {lever.name: (lever, None)})
    return released


async def read(reader: Reader) -> list[Lever]:
    """Every lever by its name, expired ones too."""
    return [Lever(*row) for row in await reader.fetch_all(READ)]


def utc_now() -> datetime:
    """The time by this machine's clock."""
    return datetime.now(UTC)


class Levers:
    """What is pulled now, in memory: nothing here but `refresh` waits for the database."""

    def __init__(self, database: Database, now: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._now = now
        self._known: Mapping[str, Lever] = {}  # replaced as a whole, since a scrape reads it from another thread
        self._announced: dict[str, Lever] = {}
        self._blind = False

    async def refresh(self) -> None:
        """Read the levers, and log what came, changed or ended; without the database the known ones stay."""
        try:
            self._known = {lever.name: lever for lever in await read(self._database)}
        except Unavailable as failure:
            if not self._blind:
                log.warning("The levers can't be read; those known are kept until they expire: %s", failure)
            self._blind = True
        else:
            if self._blind:
                log.info("The levers can be read again")
            self._blind = False
        self._announce()

    def degraded(self, service: Service) -> str | None:
        """Why a service is not to be asked now, as the caller may read it; None where it is in use."""
        lever = self._pulled(service)
        if lever is None:
            return None
        return lever.text if CALLER.get().hears("internal") else lever.effect

    def ttl(self, default: float) -> float:
        """Seconds that an answer counts as current: the lever's where it is pulled, or the default."""
        lever = self._pulled(TTL)
        return lever.value if lever and lever.value and lever.value > 0 else default

    def enabled(self, configured: Collection[str]) -> Reading:
        """1 for each service that is configured and not switched off, 0 for the others."""
        return [
            (int(service in configured and self._pulled(service) is None), {"service": service}) for service in SERVICES
        ]

    def _pulled(self, name: str) -> Lever | None:
        lever = self._known.get(name)
        return lever if lever and lever.until > self._now() else None

    def _announce(self) -> None:
        """Log the difference between what is pulled now and what was when this was last called."""
        pulled = {name: lever for name in self._known if (lever := self._pulled(name))}
        for name, lever in pulled.items():
            if lever != self._announced.get(name):
                log.warning("Lever %s: %s", name, lever.text)
        for name, lever in self._announced.items():
            if name not in pulled:
                log.warning("Lever %s is %s", name, "expired" if lever.until <= self._now() else "released")
        self._announced = pulled
