"""All SQL for the keys of idempotent requests."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import pydantic_core
import sqlalchemy as sa

from support_service.platform.database import Transaction
from support_service.platform.database.dialect import insert_if_new
from support_service.platform.database.tables import idempotency_keys

_K = idempotency_keys.c
CLAIMED, APPLIED, DONE = "claimed", "applied", "done"
NO_OWNER = ""  # the owner of a claim whose response must not be stored


class KeyRow(NamedTuple):
    """The stored state of a key."""

    request: str
    until: datetime
    state: str
    created_at: datetime
    status: int | None
    headers: Mapping[str, str] | None
    body: bytes | None
    case_id: str | None


INSERT_CLAIM = insert_if_new(idempotency_keys)
LOCK = sa.select(*(_K[name] for name in KeyRow._fields)).where(_K.id == sa.bindparam("key")).with_for_update()
_OWNED = idempotency_keys.update().where(_K.id == sa.bindparam("key"), _K.owner == sa.bindparam("me"))
MARK_APPLIED = _OWNED.values(state=APPLIED, case_id=sa.bindparam("case"))
RENEW = _OWNED.values(until=sa.bindparam("later"))
RELEASE = idempotency_keys.delete().where(
    _K.id == sa.bindparam("key"), _K.owner == sa.bindparam("me"), _K.state == CLAIMED
)
LARGE_BYTES = sa.select(sa.func.coalesce(sa.func.sum(sa.func.length(_K.body)), 0).label("bytes")).where(
    _K.large_response_of == sa.bindparam("caller")
)
_OLDEST = (
    sa.select(_K.id).where(_K.created_at < sa.bindparam("before")).order_by(_K.created_at).limit(sa.bindparam("count"))
)
_NOTHING = {"status": None, "headers": None, "body": None, "large_response_of": None}
CLEARED = {"state": APPLIED, "until": _K.created_at, **_NOTHING}  # of a key whose response is erased
ABOUT_NO_CASE = (
    sa.select(_K.id, _K.body)
    .where(_K.case_id.is_(None), _K.state == DONE, _K.body.is_not(None), _K.id > sa.bindparam("after"))
    .order_by(_K.id)
    .limit(sa.literal_column("100"))
)
DELETE_EXPIRED = idempotency_keys.delete().where(_K.id.in_(_OLDEST))


async def insert_claim(tx: Transaction, row: Mapping[str, Any]) -> bool:
    """Claim an unused key. Return False if the key exists."""
    return bool(await tx.execute(INSERT_CLAIM, row))


async def lock_key(tx: Transaction, key: str) -> KeyRow | None:
    """Return the state of a key, or None. The row stays locked until this transaction ends."""
    row = await tx.fetch_one(LOCK, {"key": key})
    return KeyRow(**row._asdict()) if row else None


async def take_over(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Claim a key that this transaction has locked, and delete its stored response."""
    await tx.execute(idempotency_keys.update().where(_K.id == row["id"]).values(dict(row) | _NOTHING))


async def mark_applied(tx: Transaction, key: str, owner: str, case_id: str | None) -> bool:
    """Mark a claim as applied, with the changed case. Return False if `owner` no longer owns the claim."""
    return bool(await tx.execute(MARK_APPLIED, {"key": key, "me": owner, "case": case_id}))


async def renew(tx: Transaction, key: str, owner: str, until: datetime) -> None:
    """Extend a claim of `owner`."""
    await tx.execute(RENEW, {"key": key, "me": owner, "later": until})


async def store_response(tx: Transaction, key: str, owner: str, **answer: Any) -> None:
    """Store columns of a response in a claim of `owner`."""
    await tx.execute(_OWNED.values(answer), {"key": key, "me": owner})


async def large_bytes_of(tx: Transaction, caller: str) -> int:
    """Return the number of bytes of the large responses that are stored for a caller."""
    row = await tx.fetch_one(LARGE_BYTES, {"caller": caller})
    return int(row.bytes) if row else 0


async def release(tx: Transaction, key: str, owner: str) -> None:
    """Delete a claim of `owner` that has had no effect."""
    await tx.execute(RELEASE, {"key": key, "me": owner})


async def erase_case_responses(tx: Transaction, case_id: str) -> None:
    """Delete the stored responses about a case, and prevent those of requests in progress from being stored.

    Applied keys stay applied. Claims without effect lose their owner, and may be retried when they expire.
    """
    of_case = idempotency_keys.update().where(_K.case_id == case_id).values(owner=NO_OWNER)
    await tx.execute(of_case)
    await tx.execute(of_case.where(_K.state != CLAIMED).values(CLEARED))


async def erase_responses_naming(tx: Transaction, text: str, members: Collection[tuple[str, str]]) -> None:
    """Delete the stored responses that are about no case and have a text, in any case, or one of the JSON members.

    Their keys stay applied.
    """
    after, sought = "", pydantic_core.to_json(text).strip(b'"').lower()
    named = [pydantic_core.to_json({name: value})[1:-1] for name, value in members]
    while page := await tx.fetch_all(ABOUT_NO_CASE, {"after": after}):
        after = page[-1].id
        for row in page:
            if sought in row.body.lower() or any(member in row.body for member in named):
                await tx.execute(idempotency_keys.update().where(_K.id == row.id).values(CLEARED))


async def delete_expired(tx: Transaction, before: datetime, count: int) -> int:
    """Delete up to `count` of the oldest keys created before `before`. Return the number deleted."""
    return await tx.execute(DELETE_EXPIRED, {"before": before, "count": count})
