"""The policies that a replica knows: those for new cases, and versions that apply to earlier ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import pydantic_core
import sqlalchemy as sa
from cachetools import LRUCache

from support_service.cases.clocks.case_clocks import MeasuredClocks, ShownClocks
from support_service.cases.clocks.policy import PolicyContent, PolicyVersion, first_matching_policy
from support_service.cases.model.case import CaseSummary
from support_service.cases.sql.clock_rows import to_clocks
from support_service.core.clock import utc_now
from support_service.platform.database import Database, Row, RowReader
from support_service.platform.database.tables import sla_policies

MAX_CACHED_VERSIONS = 500

_P = sla_policies.c
IS_CURRENT = _P.is_current.is_(sa.true())  # the other rows are earlier versions
CURRENT_POLICIES = sa.select(_P.seq, _P.name, _P.content).where(IS_CURRENT)
SEQS_OF_CURRENT_POLICIES = sa.select(_P.seq).where(IS_CURRENT)
VERSION_BY_SEQ = sa.select(_P.seq, _P.name, _P.content).where(_P.seq == sa.bindparam("of"))
ANY_VERSION = sa.select(_P.seq).limit(1)


class KnownPolicies:
    """Keeps policies in memory, so that opening a case reads none.

    A change by another replica is known after the next `refresh`; until then new cases here get the version before it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._current: Sequence[PolicyVersion] = ()
        self._versions: LRUCache[int, PolicyVersion] = LRUCache(MAX_CACHED_VERSIONS)  # versions never change
        self._is_used = False

    @property
    def is_used(self) -> bool:
        """Whether there is a policy, or was one, so that cases may have clocks."""
        return self._is_used

    async def refresh(self) -> None:
        """Read the policies if they have changed."""
        seqs = {row.seq for row in await self._database.fetch_all(SEQS_OF_CURRENT_POLICIES)}
        if seqs != {version.id for version in self._current}:
            versions = map(_to_version, await self._database.fetch_all(CURRENT_POLICIES))
            self._current = sorted(versions, key=lambda version: version.name)
            self._versions.update({version.id: version for version in self._current})
        self._is_used = self._is_used or bool(seqs) or await self._database.fetch_now(ANY_VERSION) is not None

    def policy_for_new_case(self, case: CaseSummary) -> PolicyVersion | None:
        """Return the policy that applies to a new case, or None."""
        return first_matching_policy(self._current, case)

    async def read_version(self, reader: RowReader, version: int) -> PolicyVersion:
        """Return a version of a policy, which is read once."""
        known = self._versions.get(version)
        if known is None:
            row = await reader.fetch_now(VERSION_BY_SEQ, {"of": version})
            if row is None:
                raise LookupError(f"there is no version {version} of a service level policy")
            self._versions[version] = known = _to_version(row)
        return known

    async def measured_clocks(self, clocks: str | Sequence[Mapping[str, Any]] | None) -> MeasuredClocks | None:
        """Return the clocks that CLOCKS_JSON has read, as text or as a list; None if there is none."""
        rows = pydantic_core.from_json(clocks) if isinstance(clocks, str) else clocks
        if not rows:
            return None
        version = await self.read_version(self._database, rows[0]["policy"])
        return MeasuredClocks(to_clocks(rows), version.terms.calendar)

    async def clocks_shown_now(self, clocks: Sequence[Mapping[str, Any]] | None) -> ShownClocks | None:
        """Return the clocks that CLOCKS_JSON has read as clients see them now; None if there is none."""
        measured = await self.measured_clocks(clocks)
        return measured and measured.shown_at(utc_now())


def _to_version(row: Row) -> PolicyVersion:
    content = PolicyContent.model_validate(row.content)
    return PolicyVersion(row.seq, row.name, content, content.to_terms())
