"""Fixtures of a service that requires tokens, with a person of each role."""

import pytest
import pytest_asyncio

from tests.support.access.fixtures import write_token

OWNED = {"customerId": "customer-1", "assignedAgentId": "agent-1"}


@pytest.fixture(scope="module")
def token_file(tmp_path_factory):
    return tmp_path_factory.mktemp("shared") / "tokens.json"


@pytest.fixture(scope="module")
def tokens(token_file):
    """A token for each role, two of agent-1, of which one is in a team, and one of agent-2 in another team."""
    subjects = {"agent": "agent-1", "customer": "customer-1"}
    roles = ("agent", "supervisor", "analyst", "customer", "service")
    tokens = {role: write_token(token_file, role, role=role, subject=subjects.get(role)) for role in roles}
    tokens["leaver"] = write_token(token_file, "leaver", role="agent", subject="agent-1")
    for agent, team in (("agent-1", "returns"), ("agent-2", "billing")):
        tokens[team] = write_token(token_file, team, role="agent", subject=agent, teams=[team])
    return tokens


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client_with_tokens(make_shared_client, token_file, tokens):
    """A client of a service that requires the tokens."""
    return await make_shared_client(SUPPORT_AUTH="token", SUPPORT_TOKENS_FILE=str(token_file))


@pytest.fixture
def headers(tokens):
    return {"Authorization": f"Bearer {tokens['supervisor']}"}


@pytest.fixture
async def owned_case(headers, client):
    """A case of customer-1 and agent-1 with an internal note."""
    new = {"subject": "Where is my parcel?", "channel": "email", **OWNED}
    case = await (await client.post("/support/cases", json=new, headers=headers)).json()
    note = {"authorType": "agent", "message": "The customer is cross.", "visibility": "internal"}
    await client.post(f"/support/cases/{case['id']}/messages", json=note, headers=headers)
    return case
