"""The directory of the people who work on cases: their names and teams, and whether they are away.

Entries come from supervisors, from the command line, and from the claims of people who sign in.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from support_service.cases.known_agents import KnownAgents
from support_service.cases.policy import permission_missing
from support_service.core import pagination
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.desk.agent_models import MAX_ID_LENGTH, Agent, AgentChange, AgentContent, is_valid_agent_id
from support_service.desk.named_resources import NamedResources, ResourceKind
from support_service.platform.database import Database, Row
from support_service.platform.database.tables import agents
from support_service.platform.unit_of_work import WriteOrigin

AGENT_KIND = ResourceKind(
    table=agents,
    name_column="id",
    is_valid_name=is_valid_agent_id,
    name_rule=f"must have 1 to {MAX_ID_LENGTH} printable characters",
    noun="person",
    full_noun="person with the id",
    full_plural="people in the directory",
    created_action="agent.created",
    changed_action="agent.changed",
    deleted_action="agent.deleted",
    not_found_code="agent_not_found",
    changed_code="agent_changed",
    exists_code="agent_exists",
    exists_message="Another request has just added the person {name}; read it.",
    too_many_code="too_many_agents",
)
_A = agents.c
PAGE_OF_AGENTS = (
    sa.select(agents).where(_A.seq > sa.bindparam("after")).order_by(_A.seq).limit(sa.bindparam("one_more"))
)


class AgentDirectory(NamedResources[AgentContent, Agent]):
    """Reads and changes the directory. Changes cause no events."""

    def __init__(self, database: Database, known: KnownAgents, *, max_agents: int = 5000) -> None:
        super().__init__(database, AGENT_KIND, max_agents)
        self.known = known

    async def list_agents(self, cursor: str | None, limit: int) -> tuple[list[Agent], str | None]:
        """Return a page of people, oldest entry first, and the cursor of the next page, or None on the last one.

        Raises ValidationFailed for a bad cursor.
        """
        after = pagination.decode_cursor(cursor) or 0
        rows = await self._database.fetch_all(PAGE_OF_AGENTS, {"after": after, "one_more": limit + 1})
        following = pagination.encode_cursor(rows[limit - 1].seq) if len(rows) > limit else None
        return [self._to_resource(row) for row in rows[:limit]], following

    async def change(
        self, origin: WriteOrigin, agent_id: str, change: AgentChange, expected: ExpectedVersions = None
    ) -> tuple[Agent, bool]:
        """Change an entry, or add it; return it, and whether it is new.

        An agent may set whether they are away themselves. Raises Forbidden, and the errors of `put`.
        """
        sent = change.sent_fields()
        if origin.principal.role == "agent" and (agent_id != origin.principal.id or sent.keys() - {"away"}):
            raise permission_missing("directory:write-others", "Agents set `away` of their own entry only.")
        if "display_name" in sent:
            sent["name_from_claims"] = False

        def changed(before: Agent | None) -> AgentContent:
            known = {} if before is None else {name: getattr(before, name) for name in AgentContent.model_fields}
            return AgentContent.model_construct(**{**known, **sent})

        return await self.replace(origin, agent_id, changed, expected)

    async def _after_commit(self) -> None:
        await self.known.refresh()

    def _build_resource(self, content: Mapping[str, Any], common: Mapping[str, Any]) -> Agent:
        return Agent.model_validate({**content, **common, "id": common["name"]}, by_name=True, by_alias=True)

    def _content_from_row(self, row: Row) -> Mapping[str, Any]:
        return {name: getattr(row, name) for name in AgentContent.model_fields}

    def _columns_from_content(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: content[field.alias or name] for name, field in AgentContent.model_fields.items()}
