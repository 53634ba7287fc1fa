"""The directory of the people who work on cases: their names and teams, and whether they are away.

Entries come from supervisors, from the command line, and from the claims of people who sign in.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any, cast

import sqlalchemy as sa
from cachetools import TTLCache

from support_service.cases.case_rules import permission_missing
from support_service.cases.known_agents import KnownAgent, KnownAgents
from support_service.cases.sql.projections import IS_ACTIVE, IS_SYNTHETIC
from support_service.core import pagination
from support_service.core.clock import utc_now
from support_service.core.domain.case_vocabulary import ACTIVE_STATUSES
from support_service.core.domain.principals import Principal
from support_service.core.errors import SupportError
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.desk.agent_models import (
    AGENT_ID_RULE,
    MAX_AT_RISK,
    Agent,
    AgentChange,
    AgentContent,
    ListedAgent,
    PersonRole,
    is_valid_agent_id,
)
from support_service.desk.named_resources import NamedResources, ResourceKind
from support_service.desk.view_models import AT_RISK_WITHIN
from support_service.platform.database import Database, Row
from support_service.platform.database.dialect import UtcDateTime, text_literal
from support_service.platform.database.tables import agent_counts, agents, tickets
from support_service.platform.unit_of_work import WriteOrigin

CLAIMS_NOTED_FOR = 3600.0  # seconds
CLAIMS_INTERVAL = 1.0  # seconds until noted claims are stored

log = logging.getLogger(__name__)

AGENT_KIND = ResourceKind(
    table=agents,
    name_column="id",
    is_valid_name=is_valid_agent_id,
    name_rule=AGENT_ID_RULE,
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
_T, _N = tickets.c, agent_counts.c
_OF_AGENT = _T.assigned_agent_id == _A.id
# The counters have a few rows for each agent, and the other numbers read the first entries of an index for each.
_NUMBERS = (
    sa.select(
        _N.agent_id,
        *(
            sa.func.sum(sa.case((_N.status == text_literal(status), _N.number), else_=0)).label(status)
            for status in ACTIVE_STATUSES
        ),
    )
    .group_by(_N.agent_id)
    .subquery()
)
_FIRST_AT_RISK = (
    sa.select(sa.literal_column("1"))
    .where(_OF_AGENT, _T.sla_due_at.is_not(None), _T.sla_due_at < sa.bindparam("soon", type_=UtcDateTime()))
    .limit(MAX_AT_RISK)
    .correlate(agents)
    .subquery()
)
_OLDEST_WAIT = (
    sa.select(_T.waiting_since)
    .where(_OF_AGENT, _T.waiting_since.is_not(None), IS_ACTIVE, sa.not_(IS_SYNTHETIC))
    .order_by(_T.waiting_since, _T.seq)
    .limit(1)
    .correlate(agents)
    .scalar_subquery()
)
LISTED_AGENTS = sa.select(
    agents,
    *(sa.cast(sa.func.coalesce(_NUMBERS.c[each], 0), sa.BigInteger).label(each) for each in ACTIVE_STATUSES),
    sa.select(sa.func.count()).select_from(_FIRST_AT_RISK).scalar_subquery().label("at_risk"),
    _OLDEST_WAIT.label("oldest_wait"),
).join_from(agents, _NUMBERS, _NUMBERS.c.agent_id == _A.id, isouter=True)
PAGE_OF_AGENTS = LISTED_AGENTS.where(_A.seq > sa.bindparam("after")).order_by(_A.seq).limit(sa.bindparam("one_more"))
LISTED_AGENT = LISTED_AGENTS.where(_A.id == sa.bindparam("of"))
NUMBERS = (*ACTIVE_STATUSES, "at_risk", "oldest_wait")


class AgentDirectory(NamedResources[AgentContent, Agent]):
    """Reads and changes the directory. Changes cause no events."""

    def __init__(self, database: Database, known: KnownAgents, *, max_agents: int = 5000) -> None:
        super().__init__(database, AGENT_KIND, max_agents)
        self.known = known
        self._noted: TTLCache[Any, bool] = TTLCache(2 * max_agents, CLAIMS_NOTED_FOR)
        self._claims: dict[str, Principal] = {}  # to be stored
        self._storing_claims = asyncio.Lock()

    async def list_agents(
        self, principal: Principal, cursor: str | None, limit: int
    ) -> tuple[list[ListedAgent], str | None]:
        """Return a page of people, oldest entry first, and the cursor of the next page, or None on the last one."""
        after = pagination.decode_cursor(cursor) or 0
        rows = await self._database.fetch_all(PAGE_OF_AGENTS, {"after": after, "one_more": limit + 1, "soon": _soon()})
        following = pagination.encode_cursor(rows[limit - 1].seq) if len(rows) > limit else None
        return [self._to_listed(principal, row) for row in rows[:limit]], following

    async def read(self, principal: Principal, agent_id: str) -> ListedAgent:
        """Return a person with the numbers of the person's cases."""
        is_valid = is_valid_agent_id(agent_id)
        row = await self._database.fetch_now(LISTED_AGENT, {"of": agent_id, "soon": _soon()}) if is_valid else None
        if row is None:
            raise self._not_found(agent_id)
        return self._to_listed(principal, row)

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

    def note_claims(self, principal: Principal) -> None:
        """Note who calls with a name of the provider, so that `store_claims` adds or changes the entry.

        Claims that were noted within the last hour are not noted again. An older token, which others still use, would
        undo the claims of a newer one with each request.
        """
        if principal.display_name is None:
            return
        claims = (principal.id, principal.display_name, principal.role, principal.teams)
        if claims in self._noted:
            return
        self._noted[claims] = True
        known = self.known.find(principal.id)
        if known is None or (known.display_name, known.role, known.teams) != (
            known.display_name if _keeps_name(known) else claims[1],
            *claims[2:],
        ):
            self._claims[principal.id] = principal

    async def store_claims(self) -> None:
        """Store the names, roles and teams that were noted. The names that people have set stay."""
        async with self._storing_claims:
            while self._claims:
                agent_id, principal = next(iter(self._claims.items()))
                try:
                    await self.replace(WriteOrigin(principal), agent_id, partial(_content_of_claims, principal))
                except SupportError as refusal:
                    # Another replica has added the person, there are too many people, or the id is reserved.
                    if refusal.code not in (AGENT_KIND.exists_code, AGENT_KIND.too_many_code, "invalid_request"):
                        raise
                    log.info("The directory does not take the claims of %r: %s", agent_id, refusal)
                if self._claims[agent_id] is principal:  # otherwise newer claims were noted meanwhile
                    del self._claims[agent_id]

    async def _after_commit(self) -> None:
        await self.known.refresh()

    def _to_listed(self, principal: Principal, row: Row) -> ListedAgent:
        entry = self._to_resource(row)
        is_shown = principal.role != "agent" or entry.id == principal.id
        numbers = {name: getattr(row, name) for name in NUMBERS} if is_shown else {}
        return ListedAgent.model_construct(**dict(entry), **numbers)

    def _build_resource(self, content: Mapping[str, Any], common: Mapping[str, Any]) -> Agent:
        return Agent.model_validate({**content, **common, "id": common["name"]}, by_name=True, by_alias=True)

    def _content_from_row(self, row: Row) -> Mapping[str, Any]:
        return {name: getattr(row, name) for name in AgentContent.model_fields}

    def _columns_from_content(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: content[field.alias or name] for name, field in AgentContent.model_fields.items()}


def _soon() -> datetime:
    return utc_now() + AT_RISK_WITHIN


def _keeps_name(entry: Agent | KnownAgent) -> bool:
    """Return whether somebody has set the name, so that claims do not change it."""
    return entry.display_name is not None and not entry.name_from_claims


def _content_of_claims(principal: Principal, before: Agent | None) -> AgentContent:
    """Return the entry of a person who signs in. The claims decide, except for a name that somebody has set."""
    keeps_name = before is not None and _keeps_name(before)
    return AgentContent.model_construct(
        display_name=before.display_name if before and keeps_name else principal.display_name,
        teams=sorted(principal.teams),
        role=cast(PersonRole, principal.role),  # no other role has a name
        away=before is not None and before.away,
        name_from_claims=not keeps_name,
    )
