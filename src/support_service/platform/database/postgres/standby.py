"""Reads from a standby of PostgreSQL, if it has replayed what the caller has written and read.

A caller sends the position of what it knows, and the standby answers only once it has replayed that, and what was
committed before `max_lag`. Each session is asked how far its server is, before its statement takes a snapshot: a name
may stand for several standbys. In any other case the primary answers.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.sql.base import Executable

from support_service.core.errors import Unavailable
from support_service.core.part_state import OK
from support_service.platform.database import Parameters, Reader, Row, StandbyTimings, measured
from support_service.platform.database.failures import (
    DATABASE_POOL_EXHAUSTED,
    DATABASE_SLOW,
    StatementError,
    code_of_sqlstate,
)
from support_service.platform.database.postgres.connection import (
    ANSWERS,
    DRIVER_ERRORS,
    Connection,
    PlanMode,
    handle_forgotten_statement,
    raise_translated,
)
from support_service.platform.database.postgres.engine import PostgresDatabase
from support_service.platform.database.statements import is_planned_by_values
from support_service.platform.telemetry.instruments import Instruments, Observations
from support_service.platform.telemetry.stores import STANDBY_LAG, STANDBY_READS, PoolState

STANDBY_UNAVAILABLE = "standby_unavailable"
STANDBY_LAGGING = "standby_lagging"
POSITION_PATTERN = re.compile(r"[0-9a-f]{24}")
MAX_SAMPLES = 7200  # an hour of them: a longer lag is not told apart

_PRIMARY_STATE = sa.text("""
SELECT pg_walfile_name(pg_current_wal_insert_lsn()) AS wal_file, pg_current_wal_insert_lsn() AS inserted,
    pg_current_wal_flush_lsn() AS flushed, current_database() AS name,
    (SELECT system_identifier FROM pg_control_system()) AS system
""")
# The control file knows a new timeline with the next restartpoint; members of pg_monitor see it at once.
_STANDBY_STATE = sa.text("""
SELECT coalesce(pg_last_wal_replay_lsn(), '0/0') AS place, current_database() AS name,
    greatest((SELECT timeline_id FROM pg_control_checkpoint()), (SELECT max(received_tli) FROM pg_stat_wal_receiver))
        AS timeline,
    (SELECT system_identifier FROM pg_control_system()) AS system, pg_is_in_recovery() AS replays
""")

_NO_ANSWER = (TimeoutError, Unavailable, StatementError)

log = logging.getLogger(__name__)


class Position(NamedTuple):
    """A place in the log of changes, in bytes, and its timeline, a new one after each failover."""

    timeline: int
    place: int

    @classmethod
    def parse(cls, text: str | None) -> "Position | None":
        """Return the position in a header, or None: then nothing is known of the caller."""
        if text is None or not POSITION_PATTERN.fullmatch(text):
            return None
        return cls(int(text[:8], 16), int(text[8:], 16))

    def __str__(self) -> str:
        """Return the text, whose order is that of positions."""
        return f"{self.timeline:08x}{self.place:016x}"

    def includes(self, other: "Position") -> bool:
        """Return whether a server that is here has everything up to the other position."""
        return self.timeline == other.timeline and self.place >= other.place


class _Sample(NamedTuple):
    """A position of the primary: everything that was committed at a time of the monotonic clock lies before it."""

    at: float
    position: Position


@dataclass(frozen=True, slots=True)
class ReaderBehind:
    """Reads for a caller: from the standby if it has reached what the caller knows, else from the primary."""

    standby: "Standby"
    known: Position

    async def fetch_one(self, statement: Executable, parameters: Parameters | None = None) -> Row | None:
        """Return the first row, or None."""
        rows = await self.fetch_all(statement, parameters)
        return rows[0] if rows else None

    async def fetch_all(self, statement: Executable, parameters: Parameters | None = None) -> Sequence[Row]:
        """Return all rows."""
        rows = await self.standby.read(statement, parameters, self.known)
        return await self.standby.primary.fetch_all(statement, parameters) if rows is None else rows


class Standby:
    """A standby of the primary, its lag, and the positions that callers get."""

    def __init__(
        self,
        primary: PostgresDatabase,
        reads: PostgresDatabase,
        watch: PostgresDatabase,
        instruments: Instruments,
        timings: StandbyTimings,
    ) -> None:
        """`reads` and `watch` both lead to the standby: long reads do not delay the measurement of the lag."""
        self.primary = primary
        self._reads = reads
        self._watch = watch
        self._instruments = instruments
        self._timings = timings
        self._samples: deque[_Sample] = deque(maxlen=MAX_SAMPLES)
        self._identity: tuple[int, str] | None = None  # of the cluster, and the name of the database
        self._reached_at: float | None = None  # the standby has everything that was committed then
        self._fault: str | None = "it was not asked yet"
        self._replayed = WeakKeyDictionary[Connection, Position]()  # by the server of each session
        self._next_position: asyncio.Task[str] | None = None
        self._asking = asyncio.Lock()
        instruments.observe(STANDBY_LAG, self._observe_lag)

    @property
    def lag(self) -> float | None:
        """The age in seconds of the newest state that the standby has; None while it is unknown."""
        return None if self._reached_at is None else monotonic() - self._reached_at

    @property
    def status(self) -> str:
        """OK, or why the primary answers all reads."""
        if self._fault:
            return STANDBY_UNAVAILABLE
        lag = self.lag
        return OK if lag is not None and lag <= self._timings.max_lag else STANDBY_LAGGING

    def reader(self, sent: str | None) -> Reader:
        """Return what reads for a caller that has sent a position; the primary without one."""
        known = Position.parse(sent)
        if known is None:
            self._count("no_position")
            return self.primary
        return ReaderBehind(self, known)

    async def position(self) -> str:
        """Return a position behind everything that is committed now, or "" if the primary does not tell it in time.

        Callers who wait together share one query.
        """
        if self._next_position is None:
            self._next_position = asyncio.create_task(self._read_position())
        return await asyncio.shield(self._next_position)

    async def read(self, statement: Executable, parameters: Parameters | None, known: Position) -> Sequence[Row] | None:
        """Return the rows, or None if the standby can't answer now. Raises Unavailable if they take too long."""
        assert parameters is None or isinstance(parameters, dict)  # noqa: S101 - reads have one set of parameters
        needed = self._needed_for(known)
        if needed is None:
            self._count("unavailable")
            return None
        bound = self._reads.statements.bind(statement, parameters)
        plans_by_values = is_planned_by_values(statement) and self._reads.begin_of_reads is None
        plan_mode: PlanMode = "force_custom_plan" if plans_by_values else "auto"
        with measured(self._reads.measure, "SELECT"):
            found = await self._run(bound.sql, bound.values, plan_mode, needed)
        return None if found is None else bound.form.rows(found)

    async def open(self) -> None:
        """Ask both servers for the first time. The standby need not answer."""
        with suppress(*_NO_ANSWER):
            async with asyncio.timeout(self._timings.timeout):
                await self._reads.open()
        await self.refresh()

    async def refresh(self) -> None:
        """Ask both servers how far they are."""
        sent = monotonic()
        with suppress(*_NO_ANSWER):
            self._note_primary(sent, await self._ask(self.primary, _PRIMARY_STATE))
        try:
            state = await self._ask(self._watch, _STANDBY_STATE)
        except _NO_ANSWER as failure:
            self._note_fault(f"it does not answer: {_reason(failure)}")
            self._reads.pool.terminate()  # the primary answers its reads
            return
        self._note_fault(self._flaw_of(state))
        if self._fault is None:
            self._note_reached(_position_of(state))

    async def close(self) -> None:
        """Close all connections to the standby."""
        if self._next_position is not None:
            self._next_position.cancel()
        await asyncio.gather(self._reads.close(), self._watch.close())

    async def _read_position(self) -> str:
        async with self._asking:
            self._next_position = None  # for those who come now, the query may be too early
            try:
                state = await self._ask(self.primary, _PRIMARY_STATE)
            except _NO_ANSWER as failure:
                log.warning("The position of a change is unknown: %s", _reason(failure))
                return ""
            # A commit without a flush may lie behind what is flushed.
            return str(Position(_timeline_of(state), state.inserted))

    async def _ask(self, database: PostgresDatabase, statement: Executable) -> Any:
        """Return the answer to a query without data. Raises _NO_ANSWER."""
        async with asyncio.timeout(self._timings.timeout):
            return await database.fetch_one(statement)

    def _note_primary(self, sent: float, state: Any) -> None:
        timeline = _timeline_of(state)
        if self._samples and self._samples[-1].position.timeline != timeline:
            self._samples.clear()
        self._identity = (state.system, state.name)
        self._samples.append(_Sample(sent, Position(timeline, state.flushed)))

    def _flaw_of(self, state: Any) -> str | None:
        """Return why a server can't answer for the primary, or None."""
        if not state.replays:
            return "it is no standby"
        if self._identity is None:
            return "the primary was not asked yet"
        if (state.system, state.name) != self._identity:
            return "it has another database than the primary"
        if state.timeline != self._samples[-1].position.timeline:
            return "it has not followed the last failover of the primary yet"
        return None

    def _note_reached(self, reached: Position) -> None:
        samples, oldest = self._samples, monotonic() - self._timings.max_lag
        while len(samples) > 1 and samples[1].at < oldest and reached.includes(samples[1].position):
            samples.popleft()
        found = [sample.at for sample in samples if reached.includes(sample.position)]
        self._reached_at = max([*found, *([] if self._reached_at is None else [self._reached_at])], default=None)

    def _note_fault(self, fault: str | None) -> None:
        if fault and self._fault != fault:
            log.warning("The standby at SUPPORT_DATABASE_READ_URL is not used: %s", fault)
        elif self._fault and not fault:
            log.info("The standby at SUPPORT_DATABASE_READ_URL is used")
        self._fault = fault

    def _needed_for(self, known: Position) -> Position | None:
        """Return the position that the standby must have reached, or None if it must not answer."""
        if self.status != OK:
            return None
        timeline, oldest = self._samples[-1].position.timeline, monotonic() - self._timings.max_lag
        in_time = next((sample.position.place for sample in self._samples if sample.at >= oldest), None)
        if in_time is None or known.timeline > timeline:  # this process has not seen the failover yet
            return None
        return Position(timeline, max(known.place, in_time))

    async def _run(
        self, sql: str, values: Sequence[Any], plan_mode: PlanMode, needed: Position
    ) -> Sequence[Any] | None:
        """Return the driver's rows of a session whose server has replayed enough, or None."""
        pool = self._reads.pool
        try:
            connection = await pool.take(plan_mode)
        except Unavailable as failure:
            if failure.code == DATABASE_POOL_EXHAUSTED and self.status == OK:
                raise  # the primary keeps its connections for what only it can do
            self._count("unavailable")
            return None
        answered = False
        try:
            rows = await self._fetch(connection, sql, values, needed)
            answered = True
        except DRIVER_ERRORS as failure:
            answered = isinstance(failure, ANSWERS)
            if code_of_sqlstate(getattr(failure, "sqlstate", None)) == DATABASE_SLOW:
                raise_translated(failure, connection)  # it would take as long on the primary
            handle_forgotten_statement(failure, connection)
            self._count("unavailable")
            return None
        finally:
            pool.release(connection, answered=answered)
        self._count("behind" if rows is None else "standby")
        return rows

    async def _fetch(
        self, connection: Connection, sql: str, values: Sequence[Any], needed: Position
    ) -> Sequence[Any] | None:
        rows: Sequence[Any] | None = None
        begin = self._reads.begin_of_reads
        if begin is None:
            if await self._has_replayed(connection, needed):
                rows = await connection.fetch(sql, *values)
            return rows
        await connection.execute(begin)  # a pooler may give each transaction another server
        self._replayed.pop(connection, None)
        if await self._has_replayed(connection, needed):
            rows = await connection.fetch(sql, *values)
        await connection.execute("COMMIT")
        return rows

    async def _has_replayed(self, connection: Connection, needed: Position) -> bool:
        """Return whether the server of a session has replayed enough, and belongs to the primary."""
        replayed = self._replayed.get(connection)
        if replayed is None or not replayed.includes(needed):
            bound = self._reads.statements.bind(_STANDBY_STATE, None)
            (state,) = bound.form.rows(await connection.fetch(bound.sql))
            if self._flaw_of(state):
                return False
            replayed = self._replayed[connection] = _position_of(state)
        return replayed.includes(needed)

    def pool_state(self) -> PoolState:
        """Return the state of the pool of reads."""
        return self._reads.pool_state()

    def _observe_lag(self) -> Observations:
        lag = self.lag
        return [] if lag is None else [(lag, {})]

    def _count(self, outcome: str) -> None:
        self._instruments.add(STANDBY_READS, 1, {"outcome": outcome})


def _reason(failure: Exception) -> str:
    return str(failure) or "it takes too long"


def _timeline_of(state: Any) -> int:
    """Return the timeline in the name of the file that the primary writes its log to."""
    return int(state.wal_file[:8], 16)


def _position_of(state: Any) -> Position:
    return Position(state.timeline, state.place)
