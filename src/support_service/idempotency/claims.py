"""Claims on keys. A request claims its key, marks the claim in the transaction of its change, and keeps its answer.

So a request takes effect once, whatever dies when: before the mark was committed nothing has happened, and the claim
can be taken over once its time is over; after it nobody does it again. Two who hold the same claim, because one was
taken for dead, can't both commit: only the one who holds it then can mark it.
"""

import hashlib
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from support_service.core.errors import Conflict, Invalid
from support_service.core.ids import new_id
from support_service.core.principals import Caller
from support_service.database import Database, Transaction
from support_service.idempotency import store

KEPT = timedelta(hours=24)
HELD = timedelta(seconds=30)  # until others may take over from one who shows no sign of life
RENEW_EVERY = HELD.total_seconds() / 3
MAX_BODY = 1024 * 1024  # bytes of an answer that is kept
FORGET_EVERY = 600.0  # seconds
AT_ONCE = 500  # keys forgotten in one transaction


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that is being done."""

    key: str
    owner: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered with."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    case_id: str | None = None  # the case that it tells of, as the claim and its mark know it


CLAIM: ContextVar[Claim | None] = ContextVar("claim", default=None)


async def mark(tx: Transaction, case_id: str | None) -> None:
    """Remember, together with the change, that this request has taken effect; raises Conflict for one taken over.

    The case is the one that was changed, where it was one.
    """
    claim = CLAIM.get()
    if claim is not None and not await store.mark(tx, claim.key, claim.owner, case_id):
        raise _in_use()


def identity(caller: Caller, key: str) -> str:
    """A caller's key as it is kept: the keys of one are never those of another."""
    return hashlib.sha256("\0".join((caller.name, caller.subject or "", key)).encode()).hexdigest()


def reused() -> Invalid:
    """What is said of a key that was used for something else."""
    return Invalid("idempotency_key_reused", "This Idempotency-Key was used for another request; take a new one.")


class Claims:
    """Takes, holds and forgets claims."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, key: str, request: str, case_id: str | None = None) -> Claim | Answer:
        """Claim a key for a request, by its digest; or give what the same request was answered with.

        The case is the one that is asked for: its erasure must find the answer, even before it is kept.

        Raises Conflict while the same request is in work, or where its answer got lost; Invalid for another request.
        """
        now = datetime.now(UTC)
        claim = Claim(key, new_id())
        row = {
            "id": key,
            "request": request,
            "owner": claim.owner,
            "until": now + HELD,
            "state": store.CLAIMED,
            "created_at": now,
            "case_id": case_id,
        }
        async with self._database.transaction() as tx:
            if await store.begin(tx, row):
                return claim
            kept = await store.lock(tx, key)
            if kept is None:
                raise _in_use()  # it was released a moment ago
            if kept.created_at > now - KEPT:
                if kept.request != request:
                    raise reused()
                if kept.state == store.DONE and kept.status is not None:
                    return Answer(kept.status, kept.headers or {}, kept.body or b"", kept.case_id)
                if kept.until > now:
                    raise _in_use()
                if kept.state == store.APPLIED:
                    raise Conflict(
                        "idempotency_answer_lost",
                        "This request has taken effect, but its answer was not kept; read the case to see what is.",
                    )
            await store.take_over(tx, row)
        return claim

    async def renew(self, claim: Claim) -> None:
        """Show a sign of life."""
        async with self._database.transaction() as tx:
            await store.renew(tx, claim.key, claim.owner, datetime.now(UTC) + HELD)

    async def keep(self, claim: Claim, answer: Answer) -> None:
        """Keep what was answered, for whoever asks again; of a very large answer that it was given."""
        async with self._database.transaction() as tx:
            if len(answer.body) > MAX_BODY:
                await store.keep(tx, claim.key, claim.owner, state=store.APPLIED, until=datetime.now(UTC))
                return
            await store.keep(
                tx,
                claim.key,
                claim.owner,
                state=store.DONE,
                status=answer.status,
                headers=dict(answer.headers),
                body=answer.body,
            )

    async def release(self, claim: Claim) -> None:
        """Let a key be used again where its request has had no effect."""
        async with self._database.transaction() as tx:
            await store.release(tx, claim.key, claim.owner)

    async def forget_old(self) -> None:
        """Forget keys whose time is over, a few at a time: others write in between."""
        before = datetime.now(UTC) - KEPT
        forgotten = AT_ONCE
        while forgotten == AT_ONCE:
            async with self._database.transaction() as tx:
                forgotten = await store.forget(tx, before, AT_ONCE)


def _in_use() -> Conflict:
    return Conflict("idempotency_key_in_use", "The same request is in work; try again in a moment.")
