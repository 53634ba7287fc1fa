"""SQL of the clocks of cases. Who changes clocks holds the lock of their case."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.cases.clocks.case_clocks import Clock, Clocks
from support_service.cases.clocks.policy import PolicyVersion
from support_service.cases.sql.projections import LATEST_CHANGE
from support_service.core.clock import MICROSECOND
from support_service.platform.database import Row, RowReader, Transaction
from support_service.platform.database.dialect import UtcDateTime
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import case_clocks, tickets

_C = case_clocks.c
_STATE_COLUMNS = ("state", "allowance", "used", "running_since", "due_at", "ended_at")
READ_CLOCKS = compiled(
    sa.select(_C.target, *(_C[name] for name in _STATE_COLUMNS)).where(_C.case_id == sa.bindparam("of_case"))
)
INSERT_CLOCK = compiled(case_clocks.insert().inline())
UPDATE_CLOCK = compiled(
    case_clocks.update()
    .where(_C.case_id == sa.bindparam("of_case"), _C.target == sa.bindparam("of_target"))
    .values({name: sa.bindparam(f"new_{name}", type_=_C[name].type) for name in _STATE_COLUMNS})
)
SET_FIRST_DUE = compiled(
    tickets.update()
    .where(tickets.c.id == sa.bindparam("of_case"))
    .values(sla_due_at=sa.bindparam("first_due", type_=UtcDateTime()))
)
_RUNNING = sa.literal_column("'running'", sa.String)  # a parameter would hide the condition from the partial index
_IS_DUE = (_C.state == _RUNNING, _C.due_at < sa.bindparam("now", type_=UtcDateTime()))
CASES_DUE = sa.select(_C.case_id).where(*_IS_DUE).order_by(_C.due_at).limit(sa.bindparam("count"))
# A case that another transaction changes now is left for the next run.
LOCK_CASES = (
    sa.select(tickets.c.id, LATEST_CHANGE.label("latest"))
    .where(tickets.c.id.in_(sa.bindparam("cases", expanding=True)))
    .order_by(tickets.c.id)
    .with_for_update(skip_locked=True)
)
SET_DUE_BREACHED = (
    case_clocks.update()
    .where(_C.case_id.in_(sa.bindparam("cases", expanding=True)), *_IS_DUE)
    .values(state="breached")
    .returning(_C.case_id, _C.target, _C.due_at, _C.public)
)
_AT = sa.bindparam("at", type_=UtcDateTime())
_NEXT_VERSION = tickets.c.version + 1
INCREMENT_VERSIONS = {  # by whether customers see the change
    True: {"updated_at": _AT, "version": _NEXT_VERSION},
    False: {"internal_updated_at": _AT, "version": _NEXT_VERSION, "internal_changes": tickets.c.internal_changes + 1},
}


def first_due(clocks: Clocks) -> datetime | None:
    """Return the first due time of the clocks that run, also of breached ones; None if none runs."""
    return min((clock.due_at for clock in clocks.values() if clock.is_waiting and clock.due_at), default=None)


async def read(reader: RowReader, case_id: str) -> Clocks:
    """Return the clocks of a case."""
    return to_clocks(row._asdict() for row in await reader.fetch_all(READ_CLOCKS, {"of_case": case_id}))


async def add(tx: Transaction, case_id: str, policy: PolicyVersion, clocks: Sequence[Clock]) -> None:
    """Insert clocks, later than the row of their case."""
    if not clocks:
        return
    of_case = {"case_id": case_id, "policy": policy.id, "public": policy.content.public}
    rows = [of_case | {"target": clock.target} | _state_values(clock) for clock in clocks]
    await tx.execute_later(INSERT_CLOCK, rows)


async def update_changed(tx: Transaction, case_id: str, policy: PolicyVersion, before: Clocks, after: Clocks) -> None:
    """Write the clocks of a case that have changed, and its first due time."""
    changed = [clock for target, clock in after.items() if before.get(target) != clock]
    await add(tx, case_id, policy, [clock for clock in changed if clock.target not in before])
    updated = [
        {"of_case": case_id, "of_target": clock.target}
        | {f"new_{name}": value for name, value in _state_values(clock).items()}
        for clock in changed
        if clock.target in before
    ]
    if updated:
        await tx.execute_later(UPDATE_CLOCK, updated)
    if first_due(before) != first_due(after):
        await tx.execute_later(SET_FIRST_DUE, {"of_case": case_id, "first_due": first_due(after)})


async def read_cases_due(reader: RowReader, now: datetime, count: int) -> list[str]:
    """Return the cases of at most `count` running clocks that are due before `now`, the longest due first."""
    return [row.case_id for row in await reader.fetch_all(CASES_DUE, {"now": now, "count": count})]


async def lock_cases(tx: Transaction, case_ids: Sequence[str]) -> Sequence[Row]:
    """Lock cases that no other transaction has locked; return `id` and the time of the `latest` change of each."""
    return await tx.fetch_all(LOCK_CASES, {"cases": case_ids})


async def set_due_breached(tx: Transaction, case_ids: Sequence[str], now: datetime) -> Sequence[Row]:
    """Set the due clocks of locked cases to breached; return `case_id`, `target`, `due_at` and `public` of each."""
    return await tx.fetch_all(SET_DUE_BREACHED, {"cases": case_ids, "now": now})


async def increment_versions(tx: Transaction, changed: Sequence[tuple[str, datetime]], *, public: bool) -> None:
    """Give locked cases (id, time) a new version; `public` if customers see the change."""
    if changed:
        statement = tickets.update().where(tickets.c.id == sa.bindparam("of_case")).values(INCREMENT_VERSIONS[public])
        await tx.execute(statement, [{"of_case": case_id, "at": at} for case_id, at in changed])


def _state_values(clock: Clock) -> dict[str, Any]:
    return {
        "state": clock.state,
        "allowance": clock.allowance // MICROSECOND,
        "used": clock.used // MICROSECOND,
        "running_since": clock.running_since,
        "due_at": clock.due_at,
        "ended_at": clock.ended_at,
    }


def to_clocks(rows: Iterable[Mapping[str, Any]]) -> Clocks:
    """Return the clocks of a case from rows of `case_clocks`, whose times may be texts."""
    return {row["target"]: _to_clock(row) for row in rows}


def _to_clock(row: Mapping[str, Any]) -> Clock:
    return Clock(
        row["target"],
        row["state"],
        row["allowance"] * MICROSECOND,
        row["used"] * MICROSECOND,
        *(_to_time(row[name]) for name in ("running_since", "due_at", "ended_at")),
    )


def _to_time(value: str | datetime | None) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
