"""All SQL for policies. A change adds a row; the rows of earlier versions stay for the cases that they apply to."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from support_service.platform.database import Reader, Row, Transaction
from support_service.platform.database.dialect import insert_if_new
from support_service.platform.database.tables import sla_policies
from support_service.sla.policy import Policy, PolicyContent, PolicyVersion

_P = sla_policies.c
_COLUMNS = (_P.seq, _P.name, _P.content, _P.created_at, _P.updated_at, _P.version)
_IS_CURRENT = _P.is_current.is_(sa.true())
CURRENT = sa.select(*_COLUMNS).where(_IS_CURRENT)
CURRENT_SEQS = sa.select(_P.seq).where(_IS_CURRENT)
BY_NAME = CURRENT.where(_P.name == sa.bindparam("of"))
LOCK = BY_NAME.with_for_update()
BY_SEQ = sa.select(*_COLUMNS).where(_P.seq == sa.bindparam("of"))
ADD = insert_if_new(sla_policies).inline()
RETIRE = sla_policies.update().where(_IS_CURRENT, _P.name == sa.bindparam("of")).values(is_current=False)
LOCK_FIRST = CURRENT_SEQS.order_by(_P.seq).limit(1).with_for_update()
COUNT = sa.select(sa.func.count().label("number")).select_from(sla_policies).where(_IS_CURRENT)


async def find(reader: Reader) -> list[Policy]:
    """Return all policies in the order of their names."""
    return sorted((to_policy(row) for row in await reader.fetch_all(CURRENT)), key=lambda policy: policy.name)


async def get(reader: Reader, name: str) -> Policy | None:
    """Return a policy, or None."""
    row = await reader.fetch_one(BY_NAME, {"of": name})
    return to_policy(row) if row else None


async def lock(tx: Transaction, name: str) -> Policy | None:
    """Lock a policy until the transaction ends; return it, or None."""
    row = await tx.fetch_one(LOCK, {"of": name})
    # A change that this one waited for has retired that version; only another statement sees the version after it.
    while row is None and await tx.fetch_one(BY_NAME, {"of": name}):
        row = await tx.fetch_one(LOCK, {"of": name})
    return to_policy(row) if row else None


async def lock_number(tx: Transaction) -> int:
    """Return the number of policies; another transaction that asks for it waits until this one ends."""
    await tx.fetch_one(LOCK_FIRST)
    row = await tx.fetch_one(COUNT)  # a statement of its own, so that it sees what was committed while this one waited
    return int(row.number) if row else 0


async def add(tx: Transaction, policy: Policy) -> bool:
    """Insert a version of a policy as the current one; return False if there is a current one of its name."""
    return bool(await tx.execute(ADD, _values(policy)))


async def retire(tx: Transaction, name: str) -> None:
    """Make a policy an earlier version: no further case gets it."""
    await tx.execute(RETIRE, {"of": name})


async def current_versions(reader: Reader) -> set[int]:
    """Return the ids of the versions that apply to new cases."""
    return {row.seq for row in await reader.fetch_all(CURRENT_SEQS)}


async def read_current(reader: Reader) -> Sequence[PolicyVersion]:
    """Return the versions that apply to new cases, in the order of their names."""
    return sorted((_to_version(row) for row in await reader.fetch_all(CURRENT)), key=lambda version: version.name)


async def read_version(reader: Reader, version: int) -> PolicyVersion | None:
    """Return a version of a policy by its id."""
    row = await reader.fetch_one(BY_SEQ, {"of": version})
    return _to_version(row) if row else None


async def any_exists(reader: Reader) -> bool:
    """Return whether there is a policy, or was one."""
    return await reader.fetch_one(sa.select(_P.seq).limit(1)) is not None


def to_policy(row: Row) -> Policy:
    """Return the policy that a row stores."""
    times = {name: getattr(row, name) for name in ("name", "created_at", "updated_at", "version")}
    return Policy.model_validate(row.content | times)


def _to_version(row: Row) -> PolicyVersion:
    content = PolicyContent.model_validate(row.content)
    return PolicyVersion(row.seq, row.name, content, content.to_terms())


def _values(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "content": policy.content_json(),
        "is_current": True,
        "created_at": policy.created_at,
        "updated_at": policy.updated_at,
        "version": policy.version,
    }
