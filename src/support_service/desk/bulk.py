"""Bulk changes: one change of many cases, with the outcome of each, which can be repeated and undone.

Each case is changed in a transaction of its own, which also adds the outcome of the case. So a case is changed once,
whichever process runs the bulk change. A repeat after a kill goes on with the cases that have no outcome yet. Of two
processes that change the same case, one finds the outcome of the other. The claim on the idempotency key is not marked
by the first of these transactions, because its repeat must go on. The key is a column of the bulk change instead.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pydantic_core
import sqlalchemy as sa

from support_service.cases.listing.case_list import find_ids
from support_service.cases.model.vocabulary import check_snooze_end
from support_service.cases.recorder import CaseRecorder, LockedCase
from support_service.cases.sql import case_rows
from support_service.cases.sql.projections import json_object_of
from support_service.core.clock import parse_time, utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import FieldError, ServiceFailed, SupportError, case_not_found, problem
from support_service.core.ids import is_valid_id, new_id
from support_service.desk.bulk_models import (
    CHANGED,
    MAX_BULK_CASES,
    REFUSED,
    UNCHANGED,
    UNDONE,
    BulkItem,
    BulkResult,
    NewBulkChange,
    Outcome,
    count_outcomes,
)
from support_service.desk.view_models import ViewFilters
from support_service.platform.database import ContendedRow, Database, Transaction
from support_service.platform.database.dialect import insert_if_new, json_rows
from support_service.platform.database.statements import compiled
from support_service.platform.database.tables import bulk_changes, bulk_items, erased_values
from support_service.platform.idempotency_keys import answer_lost_error, key_reused_error
from support_service.platform.unit_of_work import UnitOfWork, WriteOrigin, retried_with_locks, unit_of_work

_B, _I = bulk_changes.c, bulk_items.c
_ITEM_COLUMNS = ("case_id", "outcome", "code", "former", "version")
_ITEMS_JSON = (
    sa.select(sa.cast(json_rows(json_object_of({name: _I[name] for name in _ITEM_COLUMNS})), sa.Text))
    .where(_I.bulk_id == _B.id)
    .correlate(bulk_changes)
    .scalar_subquery()
    .label("items")
)
_READ = sa.select(bulk_changes, _ITEMS_JSON)
READ_BULK = _READ.where(_B.id == sa.bindparam("bulk"))
READ_BULK_OF_KEY = _READ.where(_B.idempotency_key == sa.bindparam("key"))
READ_UNDO = _READ.where(_B.undoes == sa.bindparam("bulk"))
ADD_BULK = insert_if_new(bulk_changes).inline()
ADD_ITEM = compiled(insert_if_new(bulk_items).inline())
FINISH = (
    bulk_changes.update()
    .where(_B.id == sa.bindparam("bulk"), _B.finished_at.is_(None))
    .values(
        finished_at=sa.bindparam("at", type_=_B.finished_at.type),
        expires_at=sa.bindparam("until", type_=_B.expires_at.type),
    )
)
EXPIRED = (
    sa.select(_B.id, _B.idempotency_key, _B.created_at)
    .where(_B.expires_at < sa.bindparam("now"))
    .order_by(_B.expires_at)
    .limit(sa.bindparam("count"))
)
_OF_BULK: sa.BindParameter[list[str]] = sa.bindparam("bulks", expanding=True)
DELETE_ITEMS = bulk_items.delete().where(_I.bulk_id.in_(_OF_BULK))
DELETE_BULKS = bulk_changes.delete().where(_B.id.in_(_OF_BULK))
KEEP_KEY = (
    bulk_changes.update()
    .where(_B.id == sa.bindparam("bulk"))
    .values(case_ids=[], expires_at=sa.bindparam("until", type_=_B.expires_at.type))
)

UNDO_TIME = timedelta(hours=1)  # after the end of a bulk change
KEY_TIME = timedelta(hours=24)  # as that of idempotency keys: a repeat finds the cases that are done
MAX_CONCURRENT = 8  # cases of one bulk change that are changed at once: others get their turn in between
CLEANUP_BATCH = 10  # bulk changes whose outcomes are deleted per transaction
MAX_COUNTED = 1000  # cases of a query that are counted for the error


class StoredBulk(NamedTuple):
    """A stored bulk change, and the outcomes of its cases by their ids."""

    id: str
    undoes: str | None
    owner: str
    request: str
    case_ids: list[str]
    finished_at: datetime | None
    items: Mapping[str, Mapping[str, Any]]


_DONE_MEANWHILE = "done_meanwhile"  # code of the error of a case that has an outcome already
_NO_CHANGE: Mapping[str, Any] = {"former": None, "version": None}


ChangeCase = Callable[[WriteOrigin, str], Awaitable[Outcome | None]]
"""Changes a case. Returns its outcome, or None if the outcome is stored. Raises SupportError if the case is refused."""


class BulkService:
    """Makes bulk changes, undoes them, and tells their outcomes."""

    def __init__(self, database: Database, recorder: CaseRecorder) -> None:
        self._database = database
        self._recorder = recorder

    async def change(
        self,
        origin: WriteOrigin,
        new: NewBulkChange,
        in_turn: AbstractAsyncContextManager[None],
        charge: Callable[[int], None],
    ) -> BulkResult:
        """Change many cases; return the outcome of each. `charge` gets the number of cases without an outcome.

        A query is looked up in a turn of the caller. A repeat with the idempotency key of an
        earlier change goes on where the earlier change has ended, also after its `until`. Raises ValidationFailed for a
        wrong `until`, for a query that matches too many cases, and for a key used for another request. Raises Conflict
        if the outcomes were deleted, and Unavailable.
        """
        sent = new.model_dump_json(by_alias=True, exclude_unset=True)
        request, key = hashlib.sha256(sent.encode()).hexdigest(), origin.claim.key if origin.claim else None
        found = await self._read(READ_BULK_OF_KEY, key=key) if key else None
        if found is None:
            _check_until(new.change.until)
            case_ids = new.ids
            if new.query is not None:
                async with in_turn:
                    case_ids = await self._find_cases(origin.principal, new.query)
            found = await self._add(origin.principal, request, case_ids or [], key=key)
        if found.request != request:
            raise key_reused_error()
        if self._is_expired(found):
            raise answer_lost_error()
        bulk = found

        @retried_with_locks
        async def change_case(case_origin: WriteOrigin, case_id: str) -> Outcome | None:
            async with unit_of_work(self._database, case_origin, ContendedRow(case_id)) as work:
                case = await LockedCase.lock(work, self._recorder, case_id)
                before = case.current
                changed = await case.change_fields(new.change.values_for(before))
                if not changed:
                    return UNCHANGED
                await _add_item(work, bulk, case, CHANGED, before.model_dump(mode="json", include=set(changed)))
            return None

        return await self._run(origin, bulk, change_case, charge)

    async def undo(self, origin: WriteOrigin, bulk_id: str, charge: Callable[[int], None]) -> BulkResult:
        """Give the cases of a bulk change their former values back, unless they have changed since.

        A second undo returns the outcomes of the first one, and goes on if that has not ended. The caller need not see
        the cases any more: the bulk change may have handed them to another team. Raises NotFound, Conflict and
        Unavailable.
        """
        undone = await self._read_own(origin.principal, bulk_id)
        if undone.undoes is not None:
            raise problem("bulk_change_not_undoable", "This bulk change is an undo itself; make another bulk change.")
        if undone.finished_at is None:
            raise problem("bulk_change_not_undoable", "This bulk change has not ended; repeat its request first.")
        undo = await self._read(READ_UNDO, bulk=bulk_id)
        if undo is None:
            changed = [each for each in undone.case_ids if undone.items[each]["outcome"] == CHANGED]
            undo = await self._add(origin.principal, undone.request, changed, undoes=bulk_id)
        bulk = undo

        @retried_with_locks
        async def undo_case(case_origin: WriteOrigin, case_id: str) -> Outcome | None:
            item = undone.items[case_id]
            async with unit_of_work(self._database, case_origin, ContendedRow(case_id)) as work:
                found = await case_rows.lock(work.tx, case_id)
                if found is None:
                    raise case_not_found(case_id)
                if found.version != item["version"] or item["former"] is None:
                    raise problem("case_changed_since", "The case has changed since the bulk change.")
                case = LockedCase(work, self._recorder, found)
                former = {**item["former"]}
                if former.get("snoozed_until"):
                    former["snoozed_until"] = parse_time(former["snoozed_until"])
                await case.change_fields(former, any_status=True)
                await _add_item(work, bulk, case, UNDONE, None)
            return None

        return await self._run(origin, bulk, undo_case, charge)

    async def read(self, principal: Principal, bulk_id: str) -> BulkResult:
        """Return a bulk change of the caller, or any if the caller is a supervisor."""
        return self._to_result(await self._read_own(principal, bulk_id))

    async def delete_expired(self) -> None:
        """Delete the outcomes of bulk changes that can't be undone any more.

        A bulk change with an idempotency key stays without them for as long as the key. So a repeat whose answer was
        lost does not change the cases again.
        """
        now = utc_now()
        while expired := await self._database.fetch_all(EXPIRED, {"now": now, "count": CLEANUP_BATCH}):
            kept = {
                row.id: until for row in expired if row.idempotency_key and (until := row.created_at + KEY_TIME) > now
            }
            ids = [row.id for row in expired]
            async with self._database.transaction() as tx:
                await tx.execute(DELETE_ITEMS, {"bulks": ids})
                for bulk_id, until in kept.items():
                    await tx.execute(KEEP_KEY, {"bulk": bulk_id, "until": until})
                await tx.execute(DELETE_BULKS, {"bulks": [each for each in ids if each not in kept]})

    async def _run(
        self, origin: WriteOrigin, bulk: StoredBulk, change_case: ChangeCase, charge: Callable[[int], None]
    ) -> BulkResult:
        """Give each case of a bulk change that has no outcome yet its outcome; return all outcomes.

        A few cases are changed at once. The first error of the service ends this; the changed cases stay changed.
        """
        if bulk.finished_at is None:
            waiting = [each for each in bulk.case_ids if each not in bulk.items]
            charge(len(waiting))
            case_origin = replace(origin, claim=None, bulk_id=bulk.id)
            left, items, failures = iter(waiting), list[dict[str, Any]](), list[ServiceFailed]()

            async def change_cases() -> None:
                for case_id in left:
                    try:
                        outcome, code = await _outcome_of(change_case(case_origin, case_id))
                    except ServiceFailed as failure:
                        failures.append(failure)
                    if failures:
                        return
                    if outcome:
                        items.append(
                            {**_NO_CHANGE, "bulk_id": bulk.id, "case_id": case_id, "outcome": outcome, "code": code}
                        )

            async with asyncio.TaskGroup() as group:
                for _ in range(MAX_CONCURRENT):
                    group.create_task(change_cases())
            if failures:
                raise failures[0]
            await self._finish(bulk.id, items)
            bulk = await self._read(READ_BULK, bulk=bulk.id) or bulk
        return self._to_result(bulk)

    async def _finish(self, bulk_id: str, items: Sequence[Mapping[str, Any]]) -> None:
        at = utc_now()
        async with self._database.transaction() as tx:
            if items:
                await tx.execute_later(ADD_ITEM, items)
            await tx.execute_later(FINISH, {"bulk": bulk_id, "at": at, "until": at + UNDO_TIME})

    async def _find_cases(self, principal: Principal, query: ViewFilters) -> list[str]:
        """Return the ids of the cases of a list."""
        most = MAX_COUNTED
        found = await find_ids(self._database, query, principal, most + 1)
        if len(found) > MAX_BULK_CASES:
            number = f"{len(found):,}" if len(found) <= most else f"more than {most:,}"
            raise problem(
                "bulk_too_large",
                f"The query matches {number} cases, and a bulk change has at most {MAX_BULK_CASES}. Add a filter.",
            )
        return found

    async def _add(
        self,
        principal: Principal,
        request: str,
        case_ids: Collection[str],
        *,
        key: str | None = None,
        undoes: str | None = None,
    ) -> StoredBulk:
        """Store a new bulk change, unless another process has stored it meanwhile; return it.

        One without a case has ended.
        """
        at = utc_now()
        row: dict[str, Any] = {
            "id": new_id(),
            "idempotency_key": key,
            "undoes": undoes,
            "owner": principal.id,
            "request": request,
            "case_ids": list(case_ids),
            "created_at": at,
            "finished_at": None if case_ids else at,
            "expires_at": at + (KEY_TIME if case_ids else UNDO_TIME),
        }
        if await self._database.execute(ADD_BULK, row):
            return StoredBulk(**{name: row.get(name, {}) for name in StoredBulk._fields})
        found = await (self._read(READ_UNDO, bulk=undoes) if undoes else self._read(READ_BULK_OF_KEY, key=key))
        assert found is not None  # noqa: S101 - only one with this key, or of this undo, prevents the insert
        return found

    async def _read_own(self, principal: Principal, bulk_id: str) -> StoredBulk:
        found = await self._read(READ_BULK, bulk=bulk_id) if is_valid_id(bulk_id) else None
        is_own = found is not None and (found.owner == principal.id or principal.role == "supervisor")
        if found is None or not is_own or self._is_expired(found):
            raise problem("bulk_change_not_found", f"There is no bulk change {bulk_id[:64]!r} of the last hour.")
        return found

    async def _read(self, statement: sa.Select[Any], **named: str | None) -> StoredBulk | None:
        row = await self._database.fetch_now(statement, named)
        if row is None:
            return None
        items = {each["case_id"]: each for each in pydantic_core.from_json(row.items)}
        return StoredBulk(**{name: getattr(row, name) for name in StoredBulk._fields} | {"items": items})

    def _is_expired(self, bulk: StoredBulk) -> bool:
        return bulk.finished_at is not None and bulk.finished_at + UNDO_TIME <= utc_now()

    def _to_result(self, bulk: StoredBulk) -> BulkResult:
        stored = [bulk.items[each] for each in bulk.case_ids if each in bulk.items]
        items = [
            BulkItem.model_construct(id=each["case_id"], outcome=each["outcome"], code=each["code"]) for each in stored
        ]
        until = bulk.finished_at + UNDO_TIME if bulk.finished_at and bulk.undoes is None else None
        return BulkResult.model_construct(
            id=bulk.id,
            undoes=bulk.undoes,
            finished=bulk.finished_at is not None,
            undo_until=until,
            counts=count_outcomes(items),
            items=items,
        )


def _check_until(until: datetime | None) -> None:
    try:
        if until is not None:
            check_snooze_end(until)
    except ValueError as wrong:
        message = f"change.until {wrong}."
        raise problem("invalid_request", message, [FieldError("change.until", str(wrong))]) from None


async def _outcome_of(changed: Awaitable[Outcome | None]) -> tuple[Outcome | None, str | None]:
    """Return the outcome of a case that is to be stored, and its problem code. Raises ServiceFailed."""
    try:
        return await changed, None
    except ServiceFailed:
        raise
    except SupportError as refusal:
        return (None, None) if refusal.code == _DONE_MEANWHILE else (REFUSED, refusal.code)


async def _add_item(
    work: UnitOfWork, bulk: StoredBulk, case: LockedCase, outcome: Outcome, former: Mapping[str, Any] | None
) -> None:
    """Store the outcome of a changed case. Raises _DONE_MEANWHILE if it has one, which undoes the change."""
    row = {
        "bulk_id": bulk.id,
        "case_id": case.current.id,
        "outcome": outcome,
        "code": None,
        "former": former,
        "version": case.current.version,
    }
    if not await work.tx.change_one(ADD_ITEM, row):
        raise SupportError(_DONE_MEANWHILE, "Another process has given the case its outcome.")


async def erase_former_values(tx: Transaction, case_ids: Collection[str]) -> None:
    """Erase the former values of cases, which may have personal tags: their bulk changes can't be undone any more."""
    await tx.execute(bulk_items.update().where(_I.case_id.in_(case_ids)).values(erased_values(bulk_items)))
