"""Macros, service level policies and saved views: what happens when two replicas use one name at the same moment."""

import asyncio

import pytest
import sqlalchemy as sa

from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.clocks.policy import PolicyContent
from support_service.cases.known_agents import KnownAgents
from support_service.core.domain.principals import Principal
from support_service.core.errors import Conflict
from support_service.desk.agent_models import AgentChange
from support_service.desk.agents import AgentDirectory
from support_service.desk.macro_models import MacroContent
from support_service.desk.macros import MacroService
from support_service.desk.policies import PolicyService
from support_service.desk.views import ViewService
from support_service.platform.unit_of_work import SYSTEM_ORIGIN, WriteOrigin
from tests.support.calls import eventually

pytestmark = pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
WAITS = sa.text("SELECT 1 FROM pg_locks WHERE NOT granted")
OWNER = WriteOrigin(Principal("lan", "agent", "agent-1"))


def put_macro(database, content):
    return MacroService(database).put(SYSTEM_ORIGIN, "a", MacroContent(text=content))


def put_policy(database, content):
    policy = PolicyContent.model_validate({"match": {"tag": [content]}, "targets": {"resolution": "PT1H"}})
    return PolicyService(database, KnownPolicies(database)).put(SYSTEM_ORIGIN, "a", policy)


def put_agent(database, content):
    directory = AgentDirectory(database, KnownAgents(database))
    return directory.change(SYSTEM_ORIGIN, "a", AgentChange.model_validate({"displayName": content}))


def create_macro(database, content):
    return MacroService(database).create(SYSTEM_ORIGIN, "a", MacroContent(text=content))


def create_view(database, content):
    return ViewService(database).create(OWNER, "a", {"channel": content}, None)


async def at_once(database, two_databases, change):
    """Let both replicas make a change, of which each waits for a lock before it ends; return their results."""

    async def both_wait():
        return len(await database.fetch_all(WAITS)) == 2

    async with database.transaction() as tx:
        await tx.execute(sa.text("LOCK TABLE audit_log IN SHARE MODE"))
        changes = [asyncio.create_task(change(each, f"{number}")) for number, each in enumerate(two_databases)]
        await eventually(both_wait)
    return await asyncio.gather(*changes, return_exceptions=True)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (create_macro, "macro_exists"),
        (put_macro, "macro_exists"),
        (put_agent, "agent_exists"),
        (put_policy, "sla_policy_exists"),
        (create_view, "view_name_taken"),
    ],
)
async def test_of_two_creates_at_once_one_is_refused_as_a_conflict(database, two_databases, change, code):
    """409 with a code that says what exists, whatever the kind of the resource: 412 is for If-Match only."""
    (refused,) = [each for each in await at_once(database, two_databases, change) if isinstance(each, Exception)]
    assert isinstance(refused, Conflict)
    assert refused.code == code


@pytest.mark.parametrize("change", [put_macro, put_policy, put_agent])
async def test_two_replacements_at_once_both_succeed(database, two_databases, change):
    """Without If-Match a replacement needs no version, so the second one replaces the first one."""
    await change(database, "before")
    replaced = await at_once(database, two_databases, change)
    assert [created for _, created in replaced] == [False, False]
