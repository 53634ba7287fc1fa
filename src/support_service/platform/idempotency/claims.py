"""Claims on idempotency keys.

A request claims its key, marks the claim in the transaction of its change, and stores its response. So it takes effect
once, regardless of when a replica dies. Before the mark is committed nothing has happened, and the claim can be taken
over after it expires. After the commit the request is not executed again. If a claim is taken over from a request that
is still running, only the current owner can mark it, so the two cannot both commit.
"""

import hashlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta

from support_service.core.clock import utc_now
from support_service.core.domain.principals import Principal
from support_service.core.errors import Conflict, ValidationFailed
from support_service.core.ids import new_id
from support_service.platform.background import run_every, run_in_background
from support_service.platform.database import Database
from support_service.platform.database.statements import delete_in_batches
from support_service.platform.idempotency import key_rows


@dataclass(frozen=True, slots=True)
class IdempotencyTimings:
    """Times and limits of idempotency keys."""

    retention: timedelta = timedelta(hours=24)
    claim_lease: timedelta = timedelta(seconds=30)  # until another request may take over a claim that is not renewed
    renew_interval: float = 10.0  # seconds
    max_body_bytes: int = 1024 * 1024  # the body of a larger response is not stored
    large_body_bytes: int = 16 * 1024  # larger bodies count towards the next limit
    max_large_bytes_per_caller: int = 16 * 1024 * 1024  # bytes of large bodies that are stored for one caller
    cleanup_interval: float = 600.0  # seconds
    cleanup_batch_size: int = 500  # keys deleted per transaction


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """The claim of a request in progress: its key, the id of its owner, and the case that the request addresses."""

    key: str
    owner: str
    case_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response to a request, as it is stored for retries."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    case_id: str | None = None  # the case that it is about, as in the claim and its mark


def stored_key(principal: Principal, key: str) -> str:
    """Return the stored form of a key: a hash that also covers the principal, so that principals share no keys."""
    return _digest(principal.name, principal.subject or "", key)


def stored_caller(principal: Principal) -> str:
    """Return the stored form of a principal, a hash."""
    return _digest(principal.name, principal.subject or "")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def key_reused_error() -> ValidationFailed:
    """Return the error for a key that was used for another request."""
    return ValidationFailed(
        "idempotency_key_reused", "This Idempotency-Key was used for another request; take a new one."
    )


class IdempotencyService:
    """Operations on claims, each in its own transaction; `unit_of_work` marks a claim as applied."""

    def __init__(self, database: Database, timings: IdempotencyTimings = IdempotencyTimings()) -> None:
        self._database = database
        self._timings = timings

    async def take(self, key: str, request: str, case_id: str | None = None) -> IdempotencyClaim | StoredResponse:
        """Claim a key for a request, or return the stored response to the same request.

        `request` is the digest of the request. `case_id` is the case that it addresses: the erasure of the case must
        find the response, even before it is stored.

        Raises Conflict while the same request is in progress or if its response was lost, and ValidationFailed
        if the key was used for another request.
        """
        now = utc_now()
        claim = IdempotencyClaim(key, new_id(), case_id)
        row = {
            "id": key,
            "request": request,
            "owner": claim.owner,
            "until": now + self._timings.claim_lease,
            "state": key_rows.CLAIMED,
            "created_at": now,
            "case_id": case_id,
        }
        async with self._database.transaction() as tx:
            if await key_rows.insert_claim(tx, row):
                return claim
            stored = await key_rows.lock_key(tx, key)
            if stored is None:  # pragma: no cover - released between the two statements, so a retry can claim it
                raise key_in_use_error()
            if stored.created_at > now - self._timings.retention:
                if stored.request != request:
                    raise key_reused_error()
                if stored.state == key_rows.DONE and stored.status is not None:
                    return StoredResponse(stored.status, stored.headers or {}, stored.body or b"", stored.case_id)
                if stored.until > now:
                    raise key_in_use_error()
                if stored.state == key_rows.APPLIED:
                    raise Conflict(
                        "idempotency_answer_lost",
                        "This request has taken effect, but its answer was not kept; read the case to see what is.",
                    )
            await key_rows.take_over(tx, row)
        return claim

    async def renew(self, claim: IdempotencyClaim) -> None:
        """Extend a claim's lease, so that other requests do not take it over."""
        async with self._database.transaction() as tx:
            await key_rows.renew(tx, claim.key, claim.owner, utc_now() + self._timings.claim_lease)

    def renewing(self, claim: IdempotencyClaim) -> AbstractAsyncContextManager[None]:
        """Return a context manager that renews a claim in the background while the block runs."""
        renewals = run_every(self._timings.renew_interval, lambda: self.renew(claim), "Renewing an idempotency claim")
        return run_in_background(renewals)

    async def keep(self, claim: IdempotencyClaim, response: StoredResponse, caller: str) -> None:
        """Store a response for retries, or only that the request has taken effect.

        The latter if the body is too large, or if too many bytes of large bodies are stored for `caller`: a repeat
        learns that the response was lost, and is not executed again.
        """
        size = len(response.body)
        large = size > self._timings.large_body_bytes
        async with self._database.transaction() as tx:
            stored = await key_rows.large_bytes_of(tx, caller) if large else 0
            if size > self._timings.max_body_bytes or stored + size > self._timings.max_large_bytes_per_caller:
                await key_rows.store_response(tx, claim.key, claim.owner, state=key_rows.APPLIED, until=utc_now())
                return
            await key_rows.store_response(
                tx,
                claim.key,
                claim.owner,
                state=key_rows.DONE,
                status=response.status,
                headers=dict(response.headers),
                body=response.body,
                large_response_of=caller if large else None,
            )

    async def release(self, claim: IdempotencyClaim) -> None:
        """Delete a claim whose request has had no effect, so that its key can be used again."""
        async with self._database.transaction() as tx:
            await key_rows.release(tx, claim.key, claim.owner)

    async def delete_expired(self) -> None:
        """Delete the keys that are older than the retention."""
        before, batch_size = utc_now() - self._timings.retention, self._timings.cleanup_batch_size
        await delete_in_batches(self._database, lambda tx: key_rows.delete_expired(tx, before, batch_size), batch_size)


def key_in_use_error() -> Conflict:
    """Return the error for a key whose claim another request holds."""
    return Conflict("idempotency_key_in_use", "The same request is in progress; try again in a moment.")
