"""SQL expressions that return the history of a case as JSON, from the audit log."""

from typing import Any

import sqlalchemy as sa

from support_service.cases.model.history import MAX_BYTES, MAX_ENTRIES, SHOWN_ACTIONS
from support_service.core.domain.principals import View
from support_service.platform.database.dialect import json_object, json_rows, octets, text_literal
from support_service.platform.database.json_projections import json_object_of
from support_service.platform.database.pages import limit_by_bytes
from support_service.platform.database.tables import audit_log, tickets

LIMITS = {"changes": MAX_ENTRIES + 1, "changes_bytes": MAX_BYTES}
"""Parameters of a statement with a history."""

_L = audit_log.c


def _is_shown(view: View) -> sa.ColumnElement[bool]:
    """Return whether a view has an entry, by the table of actions.

    A field is found by its name in the JSON: in a text, the quotation marks would be escaped.
    """
    events = list[str]()
    conditions = list[sa.ColumnElement[bool]]()
    for action, row in SHOWN_ACTIONS.items():
        fields = getattr(row, view)
        if not fields:
            continue
        if row.is_event:
            events.append(action)
        else:
            shown = sa.or_(*(_L.changes.like(text_literal(f'%"{name}":%')) for name in fields))
            conditions.append(sa.and_(_L.action == text_literal(action), shown))
    return sa.or_(_L.action.in_([text_literal(action) for action in events]), *conditions)


def _history_json(view: View) -> sa.Cast[str]:
    """Return a subquery for the history of a case, as JSON for `model.history.parse_history`."""
    size = sa.func.coalesce(octets(_L.changes), sa.literal_column("0")).label("size")
    found = (
        sa.select(_L.seq, size)
        .where(_L.case_id == tickets.c.id, _is_shown(view))
        .order_by(_L.seq.desc())
        .limit(sa.bindparam("changes"))
        .correlate(tickets)
    )
    page = limit_by_bytes(found, "seq", direction=sa.desc, limit="changes_bytes")
    # The changes are read only for the entries within the limits.
    rows = (
        sa.select(_L.at, _L.actor, _L.action, _L.changes, page.c.number)
        .where(_L.seq == page.c.seq)
        .order_by(_L.seq)
        .subquery()
    )
    members: dict[str, Any] = {name: rows.c[name] for name in ("at", "actor", "action", "changes")}
    number = sa.func.coalesce(sa.func.max(rows.c.number), sa.literal_column("0"))
    history = json_object(text_literal("found"), number, text_literal("entries"), json_rows(json_object_of(members)))
    return sa.cast(sa.select(history).scalar_subquery(), sa.Text)


# By public_only. Analysts see a part of the entries of agents.
HISTORY_JSON = {False: _history_json("full"), True: _history_json("public")}
