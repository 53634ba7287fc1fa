"""Whom a note mentions: ids of the directory and teams, at the edges of words."""

import pytest

from support_service.cases.known_agents import KnownAgents
from support_service.cases.notifier import MAX_MENTIONED, find_mentions
from support_service.desk.agent_models import AgentChange
from support_service.desk.agents import AgentDirectory
from support_service.platform.database.tables import agents
from support_service.platform.unit_of_work import SYSTEM_ORIGIN
from tests.support.each import each_row

PEOPLE = {"agent-7": ["returns", "billing"], "agent": [], "linh@example.com": ["returns"]}
PEOPLE |= {"billing": [], "auth0|5": ["everyone"], "Đặng": []}  # billing is the name of a team, too


@pytest.fixture
async def known(database):
    found = KnownAgents(database)
    directory = AgentDirectory(database, found)
    for each, teams in PEOPLE.items():
        await directory.change(SYSTEM_ORIGIN, each, AgentChange(teams=teams))
    return found


@each_row(
    ("text", "people", "others"),
    [
        *((text, ["agent-7"], []) for text in ("@agent-7 please look", "Please look, @agent-7.", "@agent-7's case")),
        *((text, ["agent-7"], []) for text in ("@agent-7\u2019s case", "**@agent-7**", "@agent-7 @agent-7")),
        *((text, ["agent-7", "agent"], []) for text in ("(@agent-7), @agent!", "@agent-7,@agent")),
        ("(@agent-7)(@agent) @nobody,@Đặng", ["agent-7", "agent", "Đặng"], []),
        ("@returns/@agent", ["agent"], ["agent-7", "linh@example.com"]),
        ("@agent-7\u2014@Đặng\u3002", ["agent-7", "Đặng"], []),
        *((text, [], []) for text in ("@agent-77 and @agent-", "@Agent-7", "@nobody @ @@agent-7 @", "Linh Trần")),
        ("@linh@example.com, see this", ["linh@example.com"], []),
        ("write to linh@example.com or x@agent-7", [], []),
        ("@auth0|5: yours", ["auth0|5"], []),
        ("@Đặng?", ["Đặng"], []),
        ("@returns", [], ["agent-7", "linh@example.com"]),
        ("@returns and @agent-7", ["agent-7"], ["linh@example.com"]),
        ("@billing", ["billing"], []),
    ],
)
async def test_mention_is_an_id_or_a_team(known, text, people, others):
    """Names that the directory does not know are plain text, and so are addresses of mail."""
    found, everyone = find_mentions(text, known)
    assert (set(found), set(everyone)) == (set(people), {*people, *others})


async def test_people_of_a_note_are_bounded(known, database):
    row = {"display_name": None, "role": None, "away": False, "name_from_claims": False, "version": 1}
    at = (await database.fetch_now(agents.select())).created_at
    rows = [{"id": f"x{n}", "teams": ["large"], "created_at": at, "updated_at": at} | row for n in range(300)]
    async with database.transaction() as tx:
        await tx.execute(agents.insert(), rows)
    await known.refresh()
    people, everyone = find_mentions("@agent-7 @large", known)
    assert (len(everyone), set(people)) == (MAX_MENTIONED, {"agent-7"})
