"""Opens a database, and reads what its replicas share: its clock, its number, its secrets and the base of versions.

A version counts the changes of a case or of a saved view. After a restore from a backup the counts of the undone time
repeat, with other content. Clients and consumers therefore see a count plus the base of its database. The base is the
time of the last restore in milliseconds, and 0 before the first. So versions still grow, and a version of the undone
time is never given again.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa

from support_service.core.errors import Unavailable
from support_service.platform.background import Job, Runner
from support_service.platform.database import Database, DatabaseTimings, RowReader, Transaction
from support_service.platform.database.tables import restores, secrets
from support_service.platform.settings.resources import DatabaseSettings
from support_service.platform.telemetry.instruments import Instruments, InstrumentSpec, LastReading
from support_service.platform.telemetry.stores import RecordOperation, discard_measurement

VERSION_BASE: sa.ScalarSelect[int] = sa.select(
    sa.func.coalesce(sa.func.max(restores.c.version_base), sa.literal_column("0", sa.BigInteger))
).scalar_subquery()
_SELECT_VERSION_BASE = sa.select(VERSION_BASE.label("base"))
_SELECT_DATABASE_TIME = sa.text("SELECT extract(epoch FROM clock_timestamp())::float AS now")
# The same before and after a failover, and another one in each copy that was not made by replication.
_SELECT_DATABASE_NUMBER = sa.text(
    "SELECT ('x' || left(md5(system_identifier || ' ' || oid), 8))::bit(32)::bigint AS number"
    " FROM pg_control_system(), pg_database WHERE datname = current_database()"
)
_SELECT_SECRET = sa.select(secrets.c.value).where(secrets.c.name == sa.bindparam("name"))

CLOCK_OFFSET = InstrumentSpec(
    "support.clock.offset",
    "gauge",
    "s",
    "Offset of this process's clock from the database's, positive if it is ahead; 0 on SQLite",
)
DATABASE_NUMBER = InstrumentSpec(
    "support.database.number",
    "gauge",
    "{database}",
    "A number that names the database, the same for all replicas that use it; none on SQLite",
)


@asynccontextmanager
async def open_database(
    settings: DatabaseSettings,
    *,
    pool_size: int,
    measure: RecordOperation = discard_measurement,
    timings: DatabaseTimings = DatabaseTimings(),
) -> AsyncIterator[Database]:
    """Open the database during a `with` block. Raises Unavailable if it can't be used."""
    database = create_database(
        settings.url,
        pool_size=pool_size,
        prepared_statements=settings.prepared_statements,
        measure=measure,
        timings=timings,
    )
    try:
        await database.open()
        yield database
    finally:
        await database.close()


def create_database(
    url: str,
    *,
    pool_size: int = 10,
    prepared_statements: bool = True,
    max_age: float = 1800.0,
    measure: RecordOperation = discard_measurement,
    timings: DatabaseTimings = DatabaseTimings(),
) -> Database:
    """Return the database for a URL, `sqlite:///PATH` or `postgresql://…`, without opening it.

    Imports only that database's module: PostgreSQL's driver and SQLAlchemy dialect take 0.1 s to import.
    """
    if url.startswith("sqlite:"):
        from support_service.platform.database.sqlite.engine import SqliteDatabase

        return SqliteDatabase(url, measure=measure, timings=timings.sqlite)
    from support_service.platform.database.postgres.engine import PostgresDatabase

    return PostgresDatabase(
        url,
        pool_size=pool_size,
        prepared_statements=prepared_statements,
        max_age=max_age,
        measure=measure,
        timings=timings.postgres,
    )


async def observe_database(runner: Runner, database: Database, instruments: Instruments, interval: float) -> None:
    """Observe the clock and the number of the database, which are read again after each `interval`, in seconds."""
    offset = ClockOffset(database)
    instruments.observe(CLOCK_OFFSET, lambda: [] if offset.seconds is None else [(offset.seconds, {})])
    if not database.is_shared:
        offset.seconds = 0.0
        return
    await offset.refresh()
    number = LastReading[int]()
    instruments.observe(DATABASE_NUMBER, number.observations(lambda known: [(known, {})]))

    async def read_number() -> None:
        number.store(await read_database_number(database))

    runner.run(
        Job("Reading the clock of the database", interval, offset.refresh),
        Job("Reading the number of the database", interval, read_number, first=0),
    )


class ClockOffset:
    """The offset of this process's clock from the clock of the database.

    It is in seconds, positive if this clock is ahead, and None while it is unknown. On SQLite, whose clock is this one,
    `refresh` is never called, and the offset is 0.
    """

    def __init__(self, database: RowReader) -> None:
        self._database = database
        self.seconds: float | None = None

    async def refresh(self) -> None:
        """Read the database's clock; the answer is as old as half of the round trip. Keeps the last if it fails."""
        sent = time.time()
        try:
            row = await self._database.fetch_now(_SELECT_DATABASE_TIME)
        except Unavailable:
            return
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        self.seconds = (sent + time.time()) / 2 - row.now


async def read_database_number(database: RowReader) -> int:
    """Return a number that names a database of PostgreSQL: its server, and the database on that."""
    row = await database.fetch_now(_SELECT_DATABASE_NUMBER)
    assert row is not None  # noqa: S101 - the database that answers is one
    return int(row.number)


async def read_secret(reader: RowReader, name: str) -> bytes:
    """Return a secret; migrations create all of them."""
    (row,) = await reader.fetch_all(_SELECT_SECRET, {"name": name})
    return bytes.fromhex(row.value)


async def read_version_base(reader: RowReader) -> int:
    """Return the base from which versions count; 0 if the database was never restored."""
    (row,) = await reader.fetch_all(_SELECT_VERSION_BASE)
    return int(row.base)


async def add_restore(tx: Transaction, version_base: int, **values: object) -> None:
    """Record a restore: from now on, versions count from its base."""
    await tx.execute(restores.insert().inline(), {"version_base": version_base, **values})
