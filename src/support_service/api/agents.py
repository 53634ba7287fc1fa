"""Agents: their workload."""

from support_service.api.routing.call import Call, Reply
from support_service.api.routing.problem_groups import DATABASE_PROBLEMS
from support_service.api.routing.route import Permission, Route, Tag
from support_service.cases.model.case import Workload

TAG = Tag("agents", "Agents: their workload.")


async def workload(call: Call, agent_id: str) -> Reply[Workload]:
    """Count an agent's cases by status.

    An unknown agent has none.
    """
    return Reply(await call.services.cases.workload(call.principal, agent_id))


ROUTES = (
    Route(
        operation="workload",
        tag=TAG,
        method="GET",
        path="/support/agents/{agent_id}/workload",
        handler=workload,
        access=Permission("agents:read", {"agent": "own", "supervisor": "all", "analyst": "all"}),
        response_model=Workload,
        problems=DATABASE_PROBLEMS,
    ),
)
