"""The clocks of a case as JSON that the database writes, and reading it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from support_service.cases.clocks.case_clocks import Clock, Clocks
from support_service.core.clock import MICROSECOND
from support_service.platform.database.dialect import json_rows
from support_service.platform.database.json_projections import json_object_of
from support_service.platform.database.tables import case_clocks, tickets

_C = case_clocks.c


def _clocks_json(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    """Return the JSON array of a case's clocks that meet the conditions; NULL for a case without a policy."""
    names = ("target", "policy", "state", "allowance", "used", "running_since", "due_at", "ended_at")
    rows = (
        sa.select(*(_C[name] for name in names))
        .where(_C.case_id == tickets.c.id, *conditions)
        .correlate(tickets)
        .subquery()
    )
    clocks = sa.select(json_rows(json_object_of({name: rows.c[name] for name in names}))).scalar_subquery()
    return sa.case((tickets.c.sla_policy.is_not(None), clocks))


CLOCKS_JSON = _clocks_json()
PUBLIC_CLOCKS_JSON = _clocks_json(_C.public)
HAS_PUBLIC_CLOCKS = sa.exists().where(_C.case_id == tickets.c.id, _C.public)
"""Whether customers see the clocks of a case."""


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
