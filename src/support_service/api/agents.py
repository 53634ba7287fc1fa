"""Agents: their workload."""

from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import get
from support_service.api.routing.problem_groups import DATABASE_PROBLEMS
from support_service.api.routing.route import Permission, Tag
from support_service.cases.model.case import Workload

TAG = Tag("agents", "Agents: their workload.")


@get(
    "/support/agents/{agent_id}/workload",
    access=Permission("agents:read", {"agent": "own", "supervisor": "all", "analyst": "all"}),
    problems=DATABASE_PROBLEMS,
)
async def workload(call: Call, agent_id: str) -> Reply[Workload]:
    """Count an agent's cases by status.

    An unknown agent has none.
    """
    return Reply(await call.services.cases.workload(call.principal, agent_id))
