"""The policy service: supervisors create, replace and delete policies; each change is one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from support_service.core.clock import time_after, to_micros, utc_now
from support_service.core.errors import Conflict, NotFound
from support_service.core.optimistic_lock import ExpectedVersions, expect_resource_version
from support_service.core.resource_names import expect_valid_name, is_valid_name
from support_service.platform.audit import log as audit
from support_service.platform.database import ContendedRow, Database
from support_service.platform.idempotency.unit_of_work import UnitOfWork, WriteOrigin, unit_of_work
from support_service.sla import policy_store as store
from support_service.sla.known_policies import KnownPolicies
from support_service.sla.policy import Policy, PolicyContent

POLICIES = ContendedRow("sla policies")  # all of them: changes of policies are rare


@dataclass(frozen=True, slots=True)
class PolicyLimits:
    """Limits of policies."""

    max_policies: int = 100


class PolicyService:
    """Reads and changes policies. Changes are recorded in the audit log, and apply to cases that are opened later."""

    def __init__(self, database: Database, policies: KnownPolicies, limits: PolicyLimits = PolicyLimits()) -> None:
        self._database = database
        self._policies = policies
        self._limits = limits

    async def list_policies(self) -> list[Policy]:
        """Return all policies in the order in which they are tried: that of their names, by code points."""
        return await store.find(self._database)

    async def get(self, name: str) -> Policy:
        """Return a policy. Raises NotFound."""
        policy = await store.get(self._database, name) if is_valid_name(name) else None
        if policy is None:
            raise _not_found(name)
        return policy

    async def put(
        self, origin: WriteOrigin, name: str, content: PolicyContent, expected: ExpectedVersions = None
    ) -> tuple[Policy, bool]:
        """Replace a policy, or create it; return it, and whether it was created.

        The same content leaves the version as it is. Raises ValidationFailed for a name that no policy can have,
        VersionConflict, and Conflict if there are too many policies or another request creates it at this moment.
        """
        expect_valid_name(name, "policy")
        async with unit_of_work(self._database, origin, POLICIES) as work:
            before = await store.lock(work.tx, name)
            expect_resource_version(before, expected, "sla_policy_changed", "policy")
            if before and before.content_json() == content.to_json():
                return before, False
            after = await self._replace(work, before, content) if before else await self._add(work, name, content)
        await self._policies.refresh()
        return after, before is None

    async def delete(self, origin: WriteOrigin, name: str, expected: ExpectedVersions = None) -> None:
        """Delete a policy; cases that it applies to keep it. Raises NotFound and VersionConflict."""
        async with unit_of_work(self._database, origin, POLICIES) as work:
            before = await store.lock(work.tx, name) if is_valid_name(name) else None
            if before is None:
                raise _not_found(name)
            expect_resource_version(before, expected, "sla_policy_changed", "policy")
            await store.retire(work.tx, name)
            await _record(work, "sla-policy.deleted", time_after(before.updated_at), before=before)
        await self._policies.refresh()

    async def _replace(self, work: UnitOfWork, before: Policy, content: PolicyContent) -> Policy:
        at = time_after(before.updated_at)
        after = _policy(content, before.name, before.created_at, at, before.version + 1)
        await store.retire(work.tx, before.name)
        await store.add(work.tx, after)
        await _record(work, "sla-policy.changed", at, before=before, after=after)
        return after

    async def _add(self, work: UnitOfWork, name: str, content: PolicyContent) -> Policy:
        at = utc_now()
        # A policy that is deleted and created again gets later versions than before, so no old ETag is valid for it.
        policy = _policy(content, name, at, at, to_micros(at))
        number = await store.lock_number(work.tx)
        if not await store.add(work.tx, policy):
            raise Conflict("sla_policy_exists", f"Another request has just created the policy {name!r}; read it.")
        if number >= self._limits.max_policies:  # rolls the new one back
            limit = f"{self._limits.max_policies} service level policies, the limit"
            raise Conflict("too_many_sla_policies", f"There are {limit}; delete one that is not used any more.")
        await _record(work, "sla-policy.created", at, after=policy)
        return policy


def _policy(content: PolicyContent, name: str, created_at: datetime, updated_at: datetime, version: int) -> Policy:
    fields = {field: getattr(content, field) for field in PolicyContent.model_fields}
    return Policy.model_construct(**fields, name=name, created_at=created_at, updated_at=updated_at, version=version)


def _not_found(name: str) -> NotFound:
    return NotFound("sla_policy_not_found", f"There is no service level policy {name[:64]!r}.")


async def _record(
    work: UnitOfWork, action: audit.Action, at: datetime, *, before: Policy | None = None, after: Policy | None = None
) -> None:
    """Record a change in the audit log: an entry of no case, with the name of the policy."""
    changes = {policy.name: (_audited(before), _audited(after)) for policy in (before, after) if policy}
    await audit.record(work, None, action, at, changes)


def _audited(policy: Policy | None) -> Mapping[str, Any] | None:
    return policy.content_json() if policy else None
