"""Operations on service level policies."""

from collections.abc import Sequence
from typing import Unpack

from support_service.client.operations import Operations, forget_version, json_members, parse
from support_service.client.parameters import PolicyFields
from support_service.desk.policy_models import Policy, SlaPolicyList

POLICIES = ("support", "sla-policies")


class ServiceLevelOperations(Operations):
    """Operations on service level policies."""

    async def list_sla_policies(self) -> Sequence[Policy]:
        """List all policies in the order in which they are tried. Their versions are not known: they are 0."""
        policies = (await self._read(SlaPolicyList, *POLICIES)).items
        for policy in policies:
            forget_version(policy)
        return policies

    async def get_sla_policy(self, policy_name: str) -> Policy:
        """Get a policy."""
        return await self._read(Policy, *POLICIES, policy_name)

    async def put_sla_policy(
        self,
        policy_name: str,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[PolicyFields],
    ) -> Policy:
        """Replace a policy, or create it. Fields that are left out get their defaults."""
        body = json_members(fields)
        answer = await self._write("PUT", *POLICIES, policy_name, body=body, version=version, key=idempotency_key)
        return parse(Policy, answer)

    async def delete_sla_policy(
        self, policy_name: str, *, version: int | None = None, idempotency_key: str | None = None
    ) -> None:
        """Delete a policy; cases that it applies to keep their clocks."""
        await self._write("DELETE", *POLICIES, policy_name, version=version, key=idempotency_key)
