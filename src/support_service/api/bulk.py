"""Bulk changes: one change of many cases, its outcomes and its undo."""

from contextlib import nullcontext
from functools import partial

from support_service.api.cases import CASES_PATH, CASES_WRITE
from support_service.api.request_costs import bulk_cost, charged_turn, count_cost
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get, post
from support_service.api.routing.route import DATABASE_PROBLEMS, Tag
from support_service.desk.bulk_models import BulkResult, NewBulkChange

TAG = Tag("bulk", "Bulk changes: one change of many cases, its outcomes, its undo.")
BULK_PATH = CASES_PATH + "/bulk"
BULK_PROBLEMS = (*DATABASE_PROBLEMS, "bulk_changes_waiting")
# Codes of single cases, which are refused while the others are changed.
CHANGE_PROBLEMS = ("case_not_found", "permission_missing", "status_move_not_allowed", "too_many_tags")
UNDO_PROBLEMS = ("case_not_found", "case_changed_since", "permission_missing")


@post(
    BULK_PATH,
    access=CASES_WRITE,
    problems=(*BULK_PROBLEMS, *CHANGE_PROBLEMS, "bulk_too_large", "searches_waiting"),
    links=(("bulk_id", "/id"),),
)
async def bulk_change(call: Call, body: NewBulkChange) -> Reply[BulkResult]:
    """Change up to 500 cases.

    Each case is changed as by `PATCH /support/cases/{case_id}`, alone: some may be changed while others are refused.
    `items` has the outcome of each case, and the problem code of a refused one. Cases that the caller may not see are
    refused as `case_not_found`. A repeat with the same `Idempotency-Key` goes on where the first request ended, also
    after a 503. Ten cases count as one request.
    """
    async with call.service.bulk_turns.occupy(call.principal.name):
        in_turn = charged_turn(call, count_cost(body.query)) if body.query else nullcontext()
        return Reply(await call.service.bulk.change(call.origin, body, in_turn, partial(_charge, call)))


@get(f"{BULK_PATH}/{{bulk_id}}/outcomes", access=CASES_WRITE, problems=(*DATABASE_PROBLEMS, "bulk_change_not_found"))
async def get_bulk_change(call: Call, bulk_id: str) -> Reply[BulkResult]:
    """Get the outcomes of a bulk change of the last hour.

    Callers get their own bulk changes, supervisors get everyone's.
    """
    return Reply(await call.service.bulk.read(call.principal, bulk_id))


@post(
    f"{BULK_PATH}/{{bulk_id}}/undo",
    access=CASES_WRITE,
    problems=(*BULK_PROBLEMS, *UNDO_PROBLEMS, "bulk_change_not_found", "bulk_change_not_undoable"),
)
async def undo_bulk_change(call: Call, bulk_id: str) -> Reply[BulkResult]:
    """Undo a bulk change of the last hour.

    Each case that it changed gets its former values back, unless the case has changed since. Callers undo their own
    bulk changes, supervisors undo everyone's. A second undo returns the outcomes of the first one.
    """
    async with call.service.bulk_turns.occupy(call.principal.name):
        return Reply(await call.service.bulk.undo(call.origin, bulk_id, partial(_charge, call)))


def _charge(call: Call, cases: int) -> None:
    """Charge the caller for cases."""
    call.exchange.charge(bulk_cost(cases))
