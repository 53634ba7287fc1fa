"""Recording of changes: an entry is stored in the transaction of its change, so both are committed or neither."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pydantic_core

from support_service.core.domain.principals import Principal
from support_service.platform.audit import actions, sealer, store
from support_service.platform.audit.chain import CASE_ERASED
from support_service.platform.idempotency.unit_of_work import UnitOfWork

Action = actions.Action
FieldChanges = Mapping[str, tuple[Any, Any]]
"""The changed fields by their name in JSON: (before, after)."""


async def record(work: UnitOfWork, case_id: str | None, action: Action, at: datetime, changes: FieldChanges) -> None:
    """Store an entry for one change, and note the changed case in the unit of work."""
    await record_all(work, action, [(case_id, at, changes)])


async def record_all(
    work: UnitOfWork, action: Action, changed: Sequence[tuple[str | None, datetime, FieldChanges]]
) -> None:
    """Store an entry for each of several changes, (case id, time, changes); note the cases in the unit of work."""
    if not changed:
        return
    principal = work.origin.principal
    actor, by = actor_of(principal), {"by": (None, principal.name)} if principal.role == "customer" else {}
    entries = [
        {
            "at": at,
            "actor": actor,
            "role": principal.role,
            "action": action,
            "case_id": case_id,
            "request_id": work.origin.request_id,
            "changes": pydantic_core.to_json({**changes, **by} if by else changes, inf_nan_mode="null").decode(),
        }
        for case_id, at, changes in changed
    ]
    await store.add_entries(work.tx, entries)
    for case_id, _, _ in changed:
        if case_id is not None:
            work.note_case(case_id)


def actor_of(principal: Principal) -> str:
    """Return the actor that an entry names: no customer's name, because that must be erasable, like the changes."""
    return "customer" if principal.role == "customer" else principal.name[: actions.MAX_ACTOR]


async def erase_cases(work: UnitOfWork, cases: Sequence[str], at: datetime) -> int:
    """Erase the recorded changes of cases, and store an entry about it for each. Return the number of entries erased.

    Who did what to which case, and when, stays in the log, and the chain stays valid. The transaction must have locked
    or deleted the cases, so that they do not change meanwhile.
    """
    await sealer.seal_all(work.tx)
    erased = await store.erase(work.tx, cases)
    for case_id in cases:
        await record(work, case_id, CASE_ERASED, at, {"erasedPositions": (None, erased.get(case_id, []))})
    await sealer.seal_all(work.tx)  # so that a reader who sees that changes are missing also sees the reason
    return sum(map(len, erased.values()))
