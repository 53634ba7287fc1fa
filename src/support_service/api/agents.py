"""The people who work on cases: the directory, and how many cases each has."""

from urllib.parse import quote

from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, put
from support_service.api.routing.etags import unique_version_etag_header, version_etag_header
from support_service.api.routing.route import DATABASE_PROBLEMS, Permission, RouteResponse, Tag
from support_service.cases.model.case import Workload
from support_service.core.optimistic_lock import ExpectedVersions
from support_service.desk.agent_models import Agent, AgentChange, AgentPage, AgentQuery, ListedAgent

TAG = Tag("agents", "Agents: the directory of the people who work on cases, and their workload.")
AGENTS_PATH = "/support/agents"
AGENT_PATH = AGENTS_PATH + "/{agent_id}"

DIRECTORY_READ = Permission("directory:read", {"agent": "all", "supervisor": "all"})
DIRECTORY_PROBLEMS = (*DATABASE_PROBLEMS, "agent_changed")


@get(
    AGENT_PATH + "/workload",
    access=Permission("agents:read", {"agent": "own", "supervisor": "all", "analyst": "all"}),
    problems=DATABASE_PROBLEMS,
)
async def workload(call: Call, agent_id: str) -> Reply[Workload]:
    """Count an agent's cases by status.

    An unknown agent has none.
    """
    return Reply(await call.service.cases.count_by_status(call.principal, agent_id))


@get(AGENTS_PATH, access=DIRECTORY_READ, problems=DATABASE_PROBLEMS)
async def list_agents(call: Call, query: AgentQuery) -> Reply[AgentPage]:
    """List the people who work on cases, oldest entry first.

    Each has the numbers of the person's open and pending cases, which agents get of their own only, and null of others.
    `present` says who has the console or another stream of changes open. `nextCursor` requests the next page, and is
    null on the last one.
    """
    found, cursor = await call.service.agents.list_agents(call.principal, query.cursor, query.limit)
    for each in found:
        each.present = call.service.stream.presence.is_present(each.id)
    return Reply(AgentPage.model_construct(items=found, next_cursor=cursor))


@get(AGENT_PATH, access=DIRECTORY_READ, headers=("ETag",), problems=(*DATABASE_PROBLEMS, "agent_not_found"))
async def get_agent(call: Call, agent_id: str) -> Reply[ListedAgent]:
    """Get a person of the directory.

    The numbers of cases change without the entry, so that the `ETag` is valid in If-Match only.
    """
    agent = await call.service.agents.read(call.principal, agent_id)
    agent.present = call.service.stream.presence.is_present(agent_id)
    return Reply(agent, unique_version_etag_header(agent.version))


@put(
    AGENT_PATH,
    access=Permission("directory:write", {"agent": "own", "supervisor": "all"}),
    headers=("ETag",),
    other_responses=(RouteResponse(201, "The person was added.", Agent, headers=("ETag", "Location")),),
    problems=(*DIRECTORY_PROBLEMS, "agent_exists", "too_many_agents"),
)
async def put_agent(call: Call, agent_id: str, body: AgentChange, expected: ExpectedVersions) -> Reply[Agent]:
    """Change a person in the directory, or add the person.

    Fields that are not sent stay as they are; null clears a field, and `teams` is set as a whole. Supervisors change
    every entry; agents set `away` of their own. The entry gives no rights: the token of the person does.
    """
    agent, created = await call.service.agents.change(call.origin, agent_id, body, expected)
    headers = version_etag_header(agent.version)
    if not created:
        return Reply(agent, headers)
    return Reply(agent, headers | {"Location": f"{AGENTS_PATH}/{quote(agent_id, safe='')}"}, 201)


@delete(
    AGENT_PATH,
    access=Permission("directory:delete", {"supervisor": "all"}),
    problems=(*DIRECTORY_PROBLEMS, "agent_not_found"),
)
async def delete_agent(call: Call, agent_id: str, expected: ExpectedVersions) -> Reply[None]:
    """Remove a person from the directory.

    Cases and messages keep the id, and answers have no name for it any more. Assign the person's cases to others first.
    """
    await call.service.agents.delete(call.origin, agent_id, expected)
    return Reply(None)
