"""What changes call: an entry is kept in the transaction of the change that it tells of, or neither is."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import pydantic_core

from support_service.audit import sealer, store
from support_service.audit.chain import ERASED
from support_service.core.principals import CALLER
from support_service.database import Transaction
from support_service.idempotency import claims
from support_service.telemetry.logs import REQUEST_ID

Action = Literal[
    "case.opened",
    "case.changed",
    "case.closed",
    "case.reopened",
    "case.deleted",
    "message.added",
    "attachment.added",
    "attachment.removed",
    "lever.pulled",
    "lever.released",
    "case.erased",
]
Changes = Mapping[str, tuple[Any, Any]]
"""What became of each field, by its name in JSON: (before, after)."""
MAX_ACTOR = 255  # characters


async def record(tx: Transaction, case_id: str | None, action: Action, at: datetime, changes: Changes) -> None:
    """Keep an entry of one change."""
    await record_all(tx, action, at, [(case_id, changes)])


async def record_all(
    tx: Transaction, action: Action, at: datetime, changed: Sequence[tuple[str | None, Changes]]
) -> None:
    """Keep an entry of each of several changes: (case id, changes).

    Since every change of a case comes by here, so does the mark that an idempotent request has taken effect.
    """
    if not changed:
        return
    caller = CALLER.get()
    actor, by = caller.name[:MAX_ACTOR], {}
    if caller.role == "customer":  # whose name must be erasable, as the changes are
        actor, by = "customer", {"by": (None, caller.name)}
    request_id = REQUEST_ID.get()
    entries = [
        {
            "at": at,
            "actor": actor,
            "role": caller.role,
            "action": action,
            "case_id": case_id,
            "request_id": request_id,
            "changes": pydantic_core.to_json({**changes, **by} if by else changes, inf_nan_mode="null").decode(),
        }
        for case_id, changes in changed
    ]
    await store.add(tx, entries)
    await claims.mark(tx, changed[0][0] if len(changed) == 1 else None)


async def erase(tx: Transaction, cases: Sequence[str], at: datetime) -> int:
    """Erase what the log says of how cases were changed, and keep an entry of that; gives how many entries it was.

    Who did what to which case and when stays, and so does the chain. Nobody may change the cases meanwhile: the
    transaction is to have locked them, or removed them.
    """
    await sealer.seal_all(tx)
    erased = await store.erase(tx, cases)
    for case_id in cases:
        await record(tx, case_id, ERASED, at, {"erasedPositions": (None, erased.get(case_id, []))})
    await sealer.seal_all(tx)  # so that whoever sees that something is gone sees why
    return sum(map(len, erased.values()))
