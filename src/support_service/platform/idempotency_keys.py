"""Claims on idempotency keys.

A request claims its key, marks the claim in the transaction of its change, and stores its response. So it takes effect
once, regardless of when a replica dies. Before the mark is committed nothing has happened, and the claim can be taken
over after it expires. After the commit the request is not executed again. A claim can be taken over from a request that
is still running. Then only the current owner can mark it, so the two cannot both commit.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pydantic_core
import sqlalchemy as sa

from support_service.core.clock import utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import SupportError, Unavailable, problem
from support_service.core.ids import new_id
from support_service.platform.background import Job, run_in_background
from support_service.platform.database import Database, RowReader, Transaction
from support_service.platform.database.dialect import insert_if_new, text_literal
from support_service.platform.database.failures import DATABASE_POOL_EXHAUSTED
from support_service.platform.database.statements import compiled, delete_in_batches
from support_service.platform.database.tables import idempotency_keys

_K = idempotency_keys.c
CLAIMED, APPLIED, DONE = "claimed", "applied", "done"
CLAIM_LEASE = timedelta(seconds=30)  # until another request may take over a claim that is not renewed
RENEW_INTERVAL, CLEANUP_INTERVAL = 10.0, 600.0  # seconds
SETTLE_INTERVAL = 1.0  # seconds between attempts to settle claims
NO_OWNER = ""  # the owner of a claim whose response must not be stored

INSERT_CLAIM = compiled(insert_if_new(idempotency_keys).inline())
LOCK_KEY = (
    sa.select(_K.request, _K.until, _K.state, _K.created_at, _K.status, _K.headers, _K.body, _K.case_id)
    .where(_K.id == sa.bindparam("key"))
    .with_for_update()
)
_UPDATE_OWNED = idempotency_keys.update().where(_K.id == sa.bindparam("key"), _K.owner == sa.bindparam("me"))
MARK_APPLIED = compiled(_UPDATE_OWNED.values(state=text_literal(APPLIED), case_id=sa.bindparam("case")))
CHANGE_LEASE = compiled(_UPDATE_OWNED.values(until=sa.bindparam("end")))
RELEASE_CLAIM = compiled(
    idempotency_keys.delete().where(
        _K.id == sa.bindparam("key"), _K.owner == sa.bindparam("me"), _K.state == text_literal(CLAIMED)
    )
)
_RESPONSE_COLUMNS = ("state", "until", "status", "headers", "body", "large_response_of")
STORE_RESPONSE = compiled(
    _UPDATE_OWNED.values({name: sa.bindparam(f"new_{name}", type_=_K[name].type) for name in _RESPONSE_COLUMNS})
)
SUM_LARGE_BYTES_OF_CALLER = sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(_K.body)), 0).label("bytes")).where(
    _K.large_response_of == sa.bindparam("caller")
)
_SELECT_EXPIRED = (
    sa.select(_K.id).where(_K.created_at < sa.bindparam("before")).order_by(_K.created_at).limit(sa.bindparam("count"))
)
DELETE_EXPIRED = idempotency_keys.delete().where(_K.id.in_(_SELECT_EXPIRED))
NO_RESPONSE = {"status": None, "headers": None, "body": None, "large_response_of": None}
WITHOUT_RESPONSE = {"state": APPLIED, "until": _K.created_at, **NO_RESPONSE}  # of a key whose response is erased
SELECT_RESPONSES_ABOUT_NO_CASE = (
    sa.select(_K.id, _K.body)
    .where(_K.case_id.is_(None), _K.state == DONE, _K.body.is_not(None), _K.id > sa.bindparam("after"))
    .order_by(_K.id)
    .limit(sa.literal_column("100"))
)

RETENTION = timedelta(hours=24)
MAX_BODY_BYTES = 1024 * 1024  # the body of a larger response is not stored
LARGE_BODY_BYTES = 16 * 1024  # larger bodies count towards the next limit
MAX_LARGE_BYTES_PER_CALLER = 16 * 1024 * 1024  # bytes of large bodies that are stored for one caller
CLEANUP_BATCH_SIZE = 500  # keys deleted per transaction


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """The claim of a request in progress: its key, the id of its owner, and the case that the request addresses."""

    key: str
    owner: str
    case_id: str | None = None

    @property
    def owner_parameters(self) -> dict[str, Any]:
        """The parameters of statements that change the key only while this claim owns it."""
        return {"key": self.key, "me": self.owner}


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response to a request, as it is stored for retries."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    case_id: str | None = None  # the case that it is about, as in the claim and its mark


def hash_key(principal: Principal, key: str) -> str:
    """Return the stored form of a key: a hash that also covers the principal, so that principals share no keys."""
    return _digest(principal.name, principal.subject or "", key)


def hash_caller(principal: Principal) -> str:
    return _digest(principal.name, principal.subject or "")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def key_reused_error() -> SupportError:
    """Return the error for a key that was used for another request."""
    return problem("idempotency_key_reused", "This Idempotency-Key was used for another request; take a new one.")


def answer_lost_error() -> SupportError:
    """Return the error for a key of a request that was executed and whose response is gone."""
    return problem(
        "idempotency_answer_lost",
        "This request has taken effect, but its answer was not kept; read the case to see what is.",
    )


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """What a failure of the database left of a request that has ended: its response, or None to release its claim."""

    lease_end: datetime
    response: StoredResponse | None = None
    caller: str = ""


class IdempotencyService:
    """Operations on claims, each in its own transaction; `unit_of_work` marks a claim as applied."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unsettled: dict[IdempotencyClaim, _Unsettled] = {}

    async def claim_or_read_response(
        self, key: str, request: str, case_id: str | None = None
    ) -> IdempotencyClaim | StoredResponse:
        """Claim a key for a request, or return the stored response to the same request.

        `request` is the digest of the request. `case_id` is the case that it addresses: the erasure of the case must
        find the response, even before it is stored.

        The method reports on the first request after a commit, which a synchronous standby confirms. So the standby has
        the effect of the first request before, too.
        """
        now = utc_now()
        claim = IdempotencyClaim(key, new_id(), case_id)
        try:
            return await self._claim_or_read_response(claim, request, now)
        except Unavailable as failure:
            if failure.code != DATABASE_POOL_EXHAUSTED:  # something was sent: the claim may be stored
                self._unsettled[claim] = _Unsettled(now + CLAIM_LEASE)
            raise

    async def _claim_or_read_response(
        self, claim: IdempotencyClaim, request: str, now: datetime
    ) -> IdempotencyClaim | StoredResponse:
        row = {
            "id": claim.key,
            "request": request,
            "owner": claim.owner,
            "until": now + CLAIM_LEASE,
            "state": CLAIMED,
            "created_at": now,
            "case_id": claim.case_id,
        }
        if await self._database.execute(INSERT_CLAIM, row):
            return claim
        async with self._database.transaction() as tx:
            stored = await tx.fetch_now(LOCK_KEY, {"key": claim.key})
            if stored is None:  # pragma: no cover - released between the two statements, so a retry can claim it
                raise key_in_use_error()
            is_kept = stored.created_at > now - RETENTION
            if is_kept and stored.request != request:
                raise key_reused_error()
            is_claimed = not is_kept or (stored.state == CLAIMED and stored.until <= now)
            if is_claimed:
                await tx.execute(idempotency_keys.update().where(_K.id == claim.key).values(row | NO_RESPONSE))
        if is_claimed:
            return claim
        if stored.state == DONE and stored.status is not None:
            return StoredResponse(stored.status, stored.headers or {}, stored.body or b"", stored.case_id)
        if stored.until > now:
            raise key_in_use_error()
        raise answer_lost_error()

    async def renew(self, claim: IdempotencyClaim) -> None:
        """Extend a claim's lease, so that other requests do not take it over."""
        await self._database.execute(CHANGE_LEASE, claim.owner_parameters | {"end": utc_now() + CLAIM_LEASE})

    def renewing(self, claim: IdempotencyClaim) -> AbstractAsyncContextManager[None]:
        """Return a context manager that renews a claim in the background while the block runs."""
        renewals = Job("Renewing an idempotency claim", RENEW_INTERVAL, lambda: self.renew(claim))
        return run_in_background(renewals)

    async def store_response(self, claim: IdempotencyClaim, response: StoredResponse, caller: str) -> None:
        """Store a response for retries, or only that the request has taken effect.

        The response is not stored if its body is too large, or if too many bytes of large bodies are stored for
        `caller`. Then a repeat learns that the response was lost, and is not executed again. If the
        storing fails, `settle_again` does it.
        """
        is_small = len(response.body) <= LARGE_BODY_BYTES
        with self._remembering(claim, response if is_small else None, caller):
            await self._store_response(claim, response, caller)

    async def _store_response(self, claim: IdempotencyClaim, response: StoredResponse, caller: str) -> None:
        size = len(response.body)
        lost: dict[str, Any] = {"state": APPLIED, **NO_RESPONSE}
        answer: dict[str, Any] = {
            "state": DONE,
            "status": response.status,
            "headers": dict(response.headers),
            "body": response.body,
            "large_response_of": None,
        }
        if size > MAX_BODY_BYTES:
            answer = lost
        if size <= LARGE_BODY_BYTES or answer is lost:
            await self._database.execute(STORE_RESPONSE, _response_parameters(claim, answer))
            return
        async with self._database.transaction() as tx:
            row = await tx.fetch_now(SUM_LARGE_BYTES_OF_CALLER, {"caller": caller})
            has_room = int(row.bytes if row else 0) + size <= MAX_LARGE_BYTES_PER_CALLER
            answer = answer | {"large_response_of": caller} if has_room else lost
            await tx.execute(STORE_RESPONSE, _response_parameters(claim, answer))

    async def release(self, claim: IdempotencyClaim) -> None:
        """Delete a claim whose request has had no effect, so that its key can be used again.

        If it has had one, a repeat learns at once that there is no response. If the release fails, `settle_again`
        does it.
        """
        with self._remembering(claim):
            if not await self._database.execute(RELEASE_CLAIM, claim.owner_parameters):
                await self._database.execute(CHANGE_LEASE, claim.owner_parameters | {"end": utc_now()})

    async def settle_again(self) -> None:
        """Store the responses and release the claims that a failure of the database left, until one fails again."""
        now = utc_now()
        self._unsettled = {claim: left for claim, left in self._unsettled.items() if left.lease_end > now}
        with suppress(Unavailable):
            for claim, left in [*self._unsettled.items()]:
                if left.response is None:
                    await self.release(claim)
                else:
                    await self.store_response(claim, left.response, left.caller)

    @contextmanager
    def _remembering(
        self, claim: IdempotencyClaim, response: StoredResponse | None = None, caller: str = ""
    ) -> Iterator[None]:
        """Remember what is left to do for a claim unless the block succeeds."""
        try:
            yield
        except Unavailable:
            self._unsettled.setdefault(claim, _Unsettled(utc_now() + CLAIM_LEASE, response, caller))
            raise
        self._unsettled.pop(claim, None)

    async def delete_expired(self) -> None:
        """Delete the keys that are older than the retention."""
        before = utc_now() - RETENTION
        oldest = {"before": before, "count": CLEANUP_BATCH_SIZE}
        await delete_in_batches(self._database, lambda tx: tx.execute(DELETE_EXPIRED, oldest), CLEANUP_BATCH_SIZE)


def _response_parameters(claim: IdempotencyClaim, answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of STORE_RESPONSE. From now on, no request waits for the response."""
    return claim.owner_parameters | {f"new_{name}": value for name, value in {**answer, "until": utc_now()}.items()}


def key_in_use_error() -> SupportError:
    """Return the error for a key whose claim another request holds."""
    return problem("idempotency_key_in_use", "The same request is in progress; try again in a moment.")


async def erase_case_responses(tx: Transaction, case_ids: Collection[str]) -> None:
    """Delete the stored responses about cases, and do not let requests in progress store theirs.

    Applied keys stay applied. Claims without effect lose their owner, and may be retried when they expire.
    """
    of_case = idempotency_keys.update().where(_K.case_id.in_(case_ids)).values(owner=NO_OWNER)
    await tx.execute(of_case)
    await tx.execute(of_case.where(_K.state != CLAIMED).values(WITHOUT_RESPONSE))


async def read_keys_in_progress(reader: RowReader, now: datetime) -> list[str]:
    """Return the keys of requests about no case that are in progress, so that their responses are not stored yet."""
    running = sa.select(_K.id).where(_K.case_id.is_(None), _K.state != DONE, _K.until > now)
    return [row.id for row in await reader.fetch_all(running)]


async def erase_responses_naming(tx: Transaction, text: str, members: Collection[tuple[str, str]]) -> None:
    """Delete the stored responses that are about no case and have a text, in any case, or one of the JSON members.

    Their keys stay applied.
    """
    after, sought = "", pydantic_core.to_json(text).strip(b'"').lower()
    named = [pydantic_core.to_json({name: value})[1:-1] for name, value in members]
    while page := await tx.fetch_all(SELECT_RESPONSES_ABOUT_NO_CASE, {"after": after}):
        after = page[-1].id
        for row in page:
            if sought in row.body.lower() or any(member in row.body for member in named):
                await tx.execute(idempotency_keys.update().where(_K.id == row.id).values(WITHOUT_RESPONSE))
