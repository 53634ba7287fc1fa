"""Units of work: a transaction that also marks the idempotency claim of its request as applied.

Each change that a request makes under an idempotency key runs in one. So a claim is marked if and only if the change is
committed. Sessions, sign-ins, claims and clean-up have transactions of their own.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

from support_service.core.domain.principals import SYSTEM, Principal
from support_service.platform.database import ContendedRow, Database, RetryWithLocks, Transaction
from support_service.platform.idempotency_keys import MARK_APPLIED, IdempotencyClaim, key_in_use_error

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_WITHOUT_LOCKS = ContextVar("without_locks", default=False)  # true for the next unit of work


@dataclass(frozen=True, slots=True)
class WriteOrigin:
    """Who makes a change: the principal, the id of the request, and the idempotency claim of the request, if any.

    `bulk_id` is the id of the bulk change that the change is a part of.
    """

    principal: Principal
    request_id: str | None = None
    claim: IdempotencyClaim | None = None
    bulk_id: str | None = None


SYSTEM_ORIGIN = WriteOrigin(SYSTEM)  # origin of the changes of background jobs


class UnitOfWork:
    """A transaction, the origin of its changes, and the cases that they change."""

    __slots__ = ("_after_commit", "_answered_with", "_case_ids", "origin", "tx")

    def __init__(self, tx: Transaction, origin: WriteOrigin) -> None:
        self.tx = tx
        self.origin = origin
        self._case_ids: set[str] = set()
        self._answered_with: str | None = None
        self._after_commit: list[Callable[[], None]] = []

    def note_case(self, case_id: str) -> None:
        self._case_ids.add(case_id)

    def note_answer(self, case_id: str) -> None:
        """Note that the answer shows a case, which may not be the addressed one.

        The erasure of that case must find the stored answer, and a replay checks whether the caller may see the case.
        """
        self._answered_with = case_id

    def after_commit(self, record: Callable[[], None]) -> None:
        """Call a function once the changes are committed, such as one that records a metric. It must not raise."""
        self._after_commit.append(record)

    def run_after_commit(self) -> None:
        """Call the functions that wait for the commit."""
        for record in self._after_commit:
            record()

    async def mark_claim_applied(self) -> None:
        """Mark the claim as applied.

        The mark names the case that the answer shows, if it was noted. Otherwise it names the addressed one if it
        changed or none did, the changed one if it is the only one, else none.
        """
        claim = self.origin.claim
        if claim is None:
            return
        case_id = claim.case_id
        if self._case_ids and case_id not in self._case_ids:
            case_id = next(iter(self._case_ids)) if len(self._case_ids) == 1 else None
        case_id = self._answered_with or case_id
        if not await self.tx.change_one(MARK_APPLIED, claim.owner_parameters | {"case": case_id}):
            raise key_in_use_error()


def retried_with_locks(use_case: Callable[Arguments, Awaitable[Result]]) -> Callable[Arguments, Awaitable[Result]]:
    """Let the one unit of work of a use case run without locks, and run the use case again with locks if it has to.

    It is faster on PostgreSQL, unless the case is changed by another replica at the same time. The first run may have
    no effect but by its unit of work.
    """

    @wraps(use_case)
    async def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        token = _WITHOUT_LOCKS.set(True)
        try:
            return await use_case(*args, **kwargs)
        except RetryWithLocks:
            pass
        finally:
            _WITHOUT_LOCKS.reset(token)
        return await use_case(*args, **kwargs)

    return run


@asynccontextmanager
async def unit_of_work(
    database: Database, origin: WriteOrigin, *rows: ContendedRow, with_locks: bool = False
) -> AsyncIterator[UnitOfWork]:
    """Run one transaction that changes the contended `rows`; before its commit the claim is marked as applied.

    Functions that wait for the commit are called after it, and jobs of this process are told of it. `with_locks` if a
    `retried_with_locks` use case does what needs them.
    """
    without_locks = _WITHOUT_LOCKS.get() and not with_locks
    _WITHOUT_LOCKS.set(False)  # for others, which are not repeated
    async with database.transaction(*rows, without_locks=without_locks) as tx:
        work = UnitOfWork(tx, origin)
        yield work
        await work.mark_claim_applied()
    work.run_after_commit()
    database.changed.send()
