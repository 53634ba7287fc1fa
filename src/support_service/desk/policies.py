"""Service level policies: named rules of how soon cases are answered and resolved.

A change adds a row. The rows of earlier versions stay for the cases that they apply to.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from support_service.cases.clocks.known_policies import IS_CURRENT, KnownPolicies
from support_service.cases.clocks.policy import PolicyContent
from support_service.desk.named_resources import NamedResources, ResourceKind
from support_service.desk.policy_models import Policy
from support_service.platform.database import Database, Row, Transaction
from support_service.platform.database.tables import sla_policies

POLICY_KIND = ResourceKind(
    table=sla_policies,
    current_conditions=(IS_CURRENT,),
    noun="policy",
    full_noun="service level policy",
    full_plural="service level policies",
    created_action="sla-policy.created",
    changed_action="sla-policy.changed",
    deleted_action="sla-policy.deleted",
    not_found_code="sla_policy_not_found",
    changed_code="sla_policy_changed",
    exists_code="sla_policy_exists",
    exists_message="Another request has just created the policy {name}; read it.",
    too_many_code="too_many_sla_policies",
)
RETIRE_CURRENT_VERSION = (
    sla_policies.update().where(IS_CURRENT, sla_policies.c.name == sa.bindparam("of")).values(is_current=False)
)


class PolicyService(NamedResources[PolicyContent, Policy]):
    """Reads and changes policies. A change applies to cases that are opened later."""

    def __init__(self, database: Database, policies: KnownPolicies, *, max_policies: int = 100) -> None:
        super().__init__(database, POLICY_KIND, max_policies)
        self._policies = policies

    async def list_policies(self) -> list[Policy]:
        """Return all policies in the order in which they are tried: by their names, by code points."""
        rows = await self._database.fetch_all(self._select_current)
        return sorted(map(self._to_resource, rows), key=lambda policy: policy.name)

    async def _after_commit(self) -> None:
        await self._policies.refresh()

    async def _lock_resource(self, tx: Transaction, name: str) -> Policy | None:
        policy = await super()._lock_resource(tx, name)
        # A change that this one waited for has retired that version; only another statement sees the version after it.
        while policy is None and await tx.fetch_now(self._select_by_name, {"of": name}):
            policy = await super()._lock_resource(tx, name)
        return policy

    async def _store_changed(self, tx: Transaction, resource: Policy) -> None:
        await self._remove_by_name(tx, resource.name)
        await tx.execute(self._insert, self._row_values(resource))

    async def _remove_by_name(self, tx: Transaction, name: str) -> None:
        await tx.execute(RETIRE_CURRENT_VERSION, {"of": name})

    def _build_resource(self, content: Mapping[str, Any], common: Mapping[str, Any]) -> Policy:
        return Policy.model_validate({**content, **common})

    def _content_from_row(self, row: Row) -> Mapping[str, Any]:
        content: Mapping[str, Any] = row.content
        return content

    def _columns_from_content(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"content": content, "is_current": True}
