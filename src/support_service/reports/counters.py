"""The counters of reports: the job that adds occurrences to them, and the read of a report."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple

import pydantic_core
import sqlalchemy as sa

from support_service.core.errors import FieldError, problem
from support_service.platform.database import Database, Row, Transaction
from support_service.platform.database.dialect import LockNumber, UtcDateTime, take_lock
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import report_changes, report_counts, report_state
from support_service.platform.telemetry.instruments import known_or_other
from support_service.reports.measures import (
    DIMENSIONS,
    CounterKey,
    Counts,
    Dimension,
    Occurrence,
    blocks_of,
    counters_of,
    day_number,
    day_of,
    end_of,
    grain_name,
    start_of,
)

MAX_COUNTERS = 50_000  # of one report; adding them up takes 0.2 s
COUNTERS_PER_TURN = 1000  # then other requests have their turn
_C, _N, _S = report_counts.c, report_changes.c, report_state.c
_SEQ_LIMIT = sa.select(_N.seq).order_by(_N.seq).limit(sa.bindparam("count"))
LOCK_COUNTERS = take_lock(LockNumber.REPORT_COUNTERS)
COUNT_OCCURRENCES = sa.select(sa.func.count().label("number")).select_from(_SEQ_LIMIT.subquery())
TAKE_OCCURRENCES = (
    report_changes.delete()
    .where(_N.seq.in_(_SEQ_LIMIT))
    .returning(*(_N[name] for name in ("measure", "at", "since", "team", "agent", "channel")))
)
_LISTS: dict[str, sa.BindParameter[Any]] = {
    name: sa.bindparam(f"{name}s", expanding=True) for name in ("day", "team", "agent", "channel")
}
READ_COUNTERS = sa.select(*(_C[name] for name in CounterKey._fields), _C.counts).where(
    _C.grain == sa.bindparam("of_grain"),
    _C.span == sa.bindparam("of_span"),
    *(_C[name].in_(values) for name, values in _LISTS.items()),
)
ADD_COUNTER = compiled(report_counts.insert().inline())
SET_COUNTER = compiled(
    report_counts.update()
    .where(*(_C[name] == sa.bindparam(f"of_{name}") for name in CounterKey._fields))
    .values(counts=sa.bindparam("new_counts"))
)


async def add_to_counters(tx: Transaction, added: Mapping[CounterKey, Counts]) -> None:
    """Add counts to their counters. The transaction holds the lock of the counters until it ends."""
    await tx.fetch_all(LOCK_COUNTERS)
    for (grain, span), group in groupby(sorted(added), key=lambda key: (key.grain, key.span)):
        keys = list(group)
        lists = {f"{name}s": sorted({getattr(key, name) for key in keys}) for name in _LISTS}
        rows = await tx.fetch_all(READ_COUNTERS, {"of_grain": grain, "of_span": span, **lists})
        stored = {CounterKey(*(getattr(row, name) for name in CounterKey._fields)): row.counts for row in rows}
        new, changed = [], []
        for key in keys:
            if key in stored:
                counts = added[key] + Counter(pydantic_core.from_json(stored[key]))
                of_key = {f"of_{name}": value for name, value in key._asdict().items()}
                changed.append({**of_key, "new_counts": _to_json(counts)})
            else:
                new.append({**key._asdict(), "counts": _to_json(added[key])})
        if new:
            await tx.execute(ADD_COUNTER, new)
        if changed:
            await tx.execute(SET_COUNTER, changed)


def _to_json(counts: Counts) -> str:
    return pydantic_core.to_json(counts).decode()


def to_occurrence(row: Row, channels: Collection[str]) -> Occurrence:
    """Return a stored occurrence. A channel that is not known becomes `other`: it may be a text of a customer."""
    channel = known_or_other(row.channel, channels)
    return Occurrence(row.measure, row.at, row.since, row.team or "", row.agent or "", channel)


ADD_INTERVAL = 15.0  # seconds
MIN_OCCURRENCES = 500  # so that one change of a counter adds several; reports read those that wait
BATCH_SIZE = 2000  # that are taken at once


class ReportQuestion(NamedTuple):
    """What a report counts: its days, the dimensions of its rows, and values that all its cases had."""

    by: Sequence[Dimension]
    first: int
    last: int
    filters: Mapping[str, str]  # by dimension; an empty value is none


class ReportAnswer(NamedTuple):
    """The rows of a report by what tells them apart, from when on they are complete, and the first day left out."""

    rows: Mapping[tuple[str | int, ...], Counts]
    since: datetime | None
    next_day: int | None


class ReportCounters:
    """Adds occurrences to the counters, and reads reports."""

    def __init__(self, database: Database, channels: Collection[str]) -> None:
        self._database = database
        self._channels = channels

    async def add_occurrences(self) -> None:
        """Add the occurrences to the counters, if there are enough of them. Any replicas may do so at once."""
        waiting = await self._count_occurrences(MIN_OCCURRENCES)
        while waiting >= MIN_OCCURRENCES:
            async with self._database.transaction() as tx:
                await tx.fetch_all(LOCK_COUNTERS)
                rows = await tx.fetch_all(TAKE_OCCURRENCES, {"count": BATCH_SIZE})
                await add_to_counters(tx, counters_of(to_occurrence(row, self._channels) for row in rows))
            if len(rows) < BATCH_SIZE:
                return

    async def _count_occurrences(self, most: int) -> int:
        (row,) = await self._database.fetch_all(COUNT_OCCURRENCES, {"count": most})
        return int(row.number)

    async def read(self, question: ReportQuestion, limit: int) -> ReportAnswer:
        """Return a report. By days it has whole days, and at most `limit` rows, or all rows of its first day."""
        most = MAX_COUNTERS
        by_day = "day" in question.by
        told_apart = {*question.by, *question.filters} - {"day"}
        is_free = bool({*question.by} - {"day", *question.filters})
        last = question.last
        if by_day:
            most = limit if is_free else most
            last = last if is_free else min(last, question.first + limit - 1)
        rows = await self._database.fetch_all(
            *_read_statement(question, grain_name(told_apart), last, most, is_free=is_free)
        )
        counters = [row for row in rows if row.measure is None]
        if len(counters) > most:
            if not by_day:
                wrong = FieldError("by", "has too many rows: ask for fewer days, or by team, agent or channel alone")
                raise problem("invalid_request", "The report is too large.", [wrong])
            last = max(row.day for row in counters) - 1  # its rows may be incomplete
            if last < question.first:
                whole = await self.read(question._replace(last=question.first), MAX_COUNTERS)
                return whole._replace(next_day=question.first + 1 if question.first < question.last else None)
        found: dict[tuple[str | int, ...], Counts] = {}
        for number, row in enumerate(counters):
            if row.day <= last:
                key = tuple(getattr(row, name) for name in question.by)
                found.setdefault(key, Counter()).update(pydantic_core.from_json(row.counts))
            if number % COUNTERS_PER_TURN == COUNTERS_PER_TURN - 1:
                await asyncio.sleep(0)
        since = next((row.at for row in rows if row.measure == "since"), None)
        occurrences = (to_occurrence(row, self._channels) for row in rows if row.measure not in (None, "since"))
        self._add_waiting(found, occurrences, question, last)
        return ReportAnswer(found, since, last + 1 if last < question.last else None)

    @staticmethod
    def _add_waiting(
        found: dict[tuple[str | int, ...], Counts],
        occurrences: Iterable[Occurrence],
        question: ReportQuestion,
        last: int,
    ) -> None:
        for occurrence in occurrences:
            values: dict[str, str | int] = {name: getattr(occurrence, name) for name in DIMENSIONS[1:]}
            values["day"] = day = day_number(occurrence.at.date())
            is_asked = all(values[name] == value for name, value in question.filters.items())
            if is_asked and question.first <= day <= last:
                found.setdefault(tuple(values[name] for name in question.by), Counter())[occurrence.count_name] += 1


def _read_statement(
    question: ReportQuestion, grain: str, last: int, most: int, *, is_free: bool
) -> tuple[sa.CompoundSelect[Any], dict[str, Any]]:
    """Return the statement that reads counters, the occurrences that wait, and from when on both are complete."""
    parameters: dict[str, Any] = {
        "of_grain": grain,
        "most": most + 1,
        "start": start_of(day_of(question.first)),
        "end": end_of(day_of(last)),
    }
    conditions = [_C.grain == sa.bindparam("of_grain")]
    for name in DIMENSIONS[1:]:
        if name in question.filters or name not in grain.split("+"):
            conditions.append(_C[name] == sa.bindparam(f"of_{name}"))
            parameters[f"of_{name}"] = question.filters.get(name, "")
    columns = sa.select(_C.day, _C.team, _C.agent, _C.channel, _C.counts).where(*conditions)
    if "day" in question.by and is_free:  # read in order, as far as the page goes
        parameters |= {"first": question.first, "last": last}
        days = _C.day.between(sa.bindparam("first"), sa.bindparam("last"))
        found = columns.where(_C.span == 1, days).order_by(_C.day, _C.team, _C.agent, _C.channel)
        counters = found.limit(sa.bindparam("most")).subquery()
    else:
        blocks = {1: list(range(question.first, last + 1))} if "day" in question.by else blocks_of(question.first, last)
        parameters |= {f"blocks_{span}": days for span, days in blocks.items()}
        # With OR in place of UNION, SQLite would read the whole grain.
        parts = (
            columns.where(_C.span == span, _C.day.in_(sa.bindparam(f"blocks_{span}", expanding=True)))
            for span in blocks
        )
        blocks_read = sa.union_all(*parts).subquery()
        counters = sa.select(*blocks_read.c).limit(sa.bindparam("most")).subquery()
    no_time, no_text = sa.cast(sa.null(), UtcDateTime()), sa.cast(sa.null(), sa.Text())
    start, end = (sa.bindparam(name, type_=UtcDateTime()) for name in ("start", "end"))
    return sa.union_all(
        sa.select(*counters.c, no_text.label("measure"), no_time.label("at"), no_time.label("since")),
        sa.select(sa.literal_column("0"), _N.team, _N.agent, _N.channel, no_text, _N.measure, _N.at, _N.since).where(
            _N.at >= start, _N.at < end
        ),
        sa.select(
            sa.literal_column("0"),
            *(no_text,) * 4,
            sa.literal_column("'since'"),
            sa.func.coalesce(_S.rebuilt_from, _S.since),
            no_time,
        ),
    ), parameters
