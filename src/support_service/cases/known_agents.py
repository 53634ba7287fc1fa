"""The directory of the people who work on cases, as a replica knows it: names and teams cost no query."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import pydantic_core
import sqlalchemy as sa
from cachetools import LRUCache

from support_service.platform.database import Database
from support_service.platform.database.tables import agents

DIRECTORY_REFRESH_INTERVAL = 2.0  # seconds until a name that another replica has changed is shown here
MAX_KEPT_NAMES = 10_000  # answers whose names are kept as JSON

_A = agents.c
ALL_AGENTS = sa.select(_A.id, _A.display_name, _A.teams, _A.role, _A.away, _A.name_from_claims).order_by(_A.seq)
# Changes with each change of the directory: versions are times in microseconds.
STATE_OF_DIRECTORY = sa.select(
    sa.func.count().label("number"), sa.func.sum(_A.version % sa.literal_column("2147483647")).label("versions")
)


class KnownAgent(NamedTuple):
    """A person of the directory."""

    id: str
    display_name: str | None
    teams: frozenset[str]
    role: str | None
    away: bool
    name_from_claims: bool  # the name comes from the provider, and is not one that a person has set


class KnownAgents:
    """Keeps the directory in memory. A change by another replica is known after the next `refresh`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._state: tuple[int, int | None] | None = None
        self._by_id: Mapping[str, KnownAgent] = {}
        self._by_team: Mapping[str, Sequence[str]] = {}
        self._names_json: LRUCache[tuple[str, ...], bytes] = LRUCache(MAX_KEPT_NAMES)

    async def refresh(self) -> None:
        """Read the directory if it has changed."""
        row = await self._database.fetch_now(STATE_OF_DIRECTORY)
        assert row is not None  # noqa: S101 - an aggregate has one row
        if self._state == (row.number, row.versions):
            return
        found = {
            each.id: KnownAgent(
                each.id, each.display_name, frozenset(each.teams), each.role, each.away, each.name_from_claims
            )
            for each in await self._database.fetch_all(ALL_AGENTS)
        }
        by_team = defaultdict[str, list[str]](list)
        for agent in found.values():
            for team in agent.teams:
                by_team[team].append(agent.id)
        self._names_json.clear()
        self._by_id, self._by_team, self._state = found, by_team, (row.number, row.versions)

    def find(self, agent_id: str) -> KnownAgent | None:
        """Return the person with an id, as in `assignedAgentId` and `authorId`, or None."""
        return self._by_id.get(agent_id)

    def all(self) -> Collection[KnownAgent]:
        """Return all people, in the order in which they were added."""
        return self._by_id.values()

    def ids_of_team(self, team: str) -> Sequence[str]:
        """Return the ids of the members of a team."""
        return self._by_team.get(team, ())

    def names_json(self, ids: tuple[str, ...]) -> bytes:
        """Return what `names_of` returns as JSON; empty without names. It is kept until the directory changes."""
        found = self._names_json.get(ids)
        if found is None:
            names = self.names_of(ids)
            found = self._names_json[ids] = pydantic_core.to_json(names) if names else b""
        return found

    def names_of(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the display names of those ids that have one."""
        known = self._by_id
        return {each: agent.display_name for each in ids if (agent := known.get(each)) and agent.display_name}
