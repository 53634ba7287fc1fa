"""The directory of people, on both databases: the numbers of their cases."""

from datetime import timedelta

from support_service.cases.known_agents import KnownAgents
from support_service.core.clock import utc_now
from support_service.core.domain.principals import SYSTEM
from support_service.desk.agent_models import MAX_AT_RISK, AgentChange
from support_service.desk.agents import AgentDirectory
from support_service.platform.database.tables import tickets
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.conftest import both_databases
from tests.support.cases import AT, add_cases, ticket  # noqa: F401 - a fixture


@both_databases
async def test_numbers_are_those_of_the_cases(database, add_cases):  # noqa: F811 - a fixture
    """Cases that are settled, synthetic, or of others do not count. What is at risk counts up to a limit."""
    directory = AgentDirectory(database, KnownAgents(database))
    for agent_id in ("a", "b", "c"):
        await directory.change(SYSTEM_ORIGIN, agent_id, AgentChange.model_validate({"teams": ["returns"]}))
    statuses = ("open", "open", "pending", "resolved", "closed")
    cases = [ticket(number, assigned_agent_id="a", status=status) for number, status in enumerate(statuses)]
    cases.append(ticket(5, assigned_agent_id="a", channel="synthetic", synthetic=True))
    cases += [ticket(number, assigned_agent_id="b") for number in range(6, 7 + MAX_AT_RISK)]
    await add_cases(*cases)
    soon, mine = utc_now() + timedelta(minutes=1), tickets.c.assigned_agent_id
    async with database.transaction() as tx:
        await tx.execute(tickets.update().where(mine == "b").values(sla_due_at=soon))
        await tx.execute(tickets.update().where(tickets.c.id == "case-0").values(waiting_since=AT))
        await tx.execute(tickets.update().where(tickets.c.id == "case-2").values(waiting_since=AT - timedelta(days=1)))
        await tx.execute(tickets.update().where(tickets.c.id == "case-3").values(waiting_since=AT - timedelta(days=9)))
    expected = {
        "a": (2, 1, 0, AT - timedelta(days=1)),
        "b": (MAX_AT_RISK + 1, 0, MAX_AT_RISK, None),
        "c": (0, 0, 0, None),
    }
    people, cursor = [], None
    while not people or cursor:
        page, cursor = await directory.list_agents(SYSTEM, cursor, 2)
        people += page
    for found in (people, [await directory.read(SYSTEM, agent_id) for agent_id in expected]):
        assert {each.id: (each.open, each.pending, each.at_risk, each.oldest_wait) for each in found} == expected
