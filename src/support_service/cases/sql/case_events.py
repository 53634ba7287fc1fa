"""Events of cases in the outbox: each change writes its event in the same transaction, in its final published form.

The database inserts the case, as the transaction leaves it, into the event (its `ticket` member): one statement, and no
row is read first.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pydantic_core
import sqlalchemy as sa

from support_service.cases.model.published import EVENT_SOURCE
from support_service.cases.sql.projections import CASE_COLUMNS, IS_ACTIVE, IS_SYNTHETIC, json_text
from support_service.core.clock import format_time
from support_service.core.ids import new_id
from support_service.platform.database import Transaction
from support_service.platform.database.shared import VERSION_BASE
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import outbox, tickets
from support_service.platform.telemetry.traces import propagation_headers as current_trace

# `publicVersion` is the version that customers see.
PUBLISHED_COLUMNS: dict[str, sa.ColumnElement[Any]] = CASE_COLUMNS | {
    "waitingSince": sa.case((IS_ACTIVE, tickets.c.waiting_since)),
    "version": tickets.c.version + VERSION_BASE,
    "publicVersion": tickets.c.version - tickets.c.internal_changes + VERSION_BASE,
}
APPEND_EVENT = compiled(
    outbox.insert().from_select(
        ["type", "at", "event", "case_id"],
        sa.select(
            sa.bindparam("type", type_=sa.Text),
            sa.bindparam("at", type_=sa.Text),
            # Synthetic cases are never published; the WHERE clause excludes them.
            sa.bindparam("head", type_=sa.Text) + json_text(PUBLISHED_COLUMNS) + sa.literal_column("'}}'", sa.Text),
            tickets.c.id,
        ).where(tickets.c.id == sa.bindparam("case_id"), sa.not_(IS_SYNTHETIC)),
        include_defaults=False,
    )
)


async def append(tx: Transaction, case_id: str, event_type: str, at: datetime, **data: Any) -> None:
    """Write an event about a case. `data` becomes members beside `ticket`; models are written in camelCase.

    The transaction must hold the lock of the case, so that the events of a case are in the order of its commits.
    """
    await tx.execute_later(APPEND_EVENT, _event_parameters(case_id, event_type, at, data))


async def append_all(
    tx: Transaction, event_type: str, changes: Sequence[tuple[str, datetime, Mapping[str, Any]]]
) -> None:
    """Write an event about each of several changes, each with its case id, time and data."""
    if changes:
        await tx.execute_later(
            APPEND_EVENT, [_event_parameters(case_id, event_type, at, data) for case_id, at, data in changes]
        )


def _event_parameters(case_id: str, event_type: str, at: datetime, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of APPEND. `head` is the event's JSON up to the value of `ticket`."""
    # The last member is `ticket`: the database replaces its value.
    row = event_row(event_type, case_id, at, {**data, "ticket": None})
    head = row.pop("event").removesuffix("null}}")
    return {**row, "head": head, "case_id": case_id}


def event_row(event_type: str, subject: str, at: datetime, data: Mapping[str, Any]) -> dict[str, str]:
    """Return the type, the time and the JSON of an event, in the form that the outbox stores."""
    time = format_time(at)
    event = {
        "specversion": "1.0",
        "id": new_id(),
        "source": EVENT_SOURCE,
        "type": event_type,
        "subject": subject,
        "time": time,
        "datacontenttype": "application/json",
        **current_trace(),
        "data": data,
    }
    text = pydantic_core.to_json(event, by_alias=True, inf_nan_mode="null").decode()
    return {"type": event_type, "at": time, "event": text}
