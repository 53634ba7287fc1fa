"""Reads of cases: each gives what the principal may see."""

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from support_service.cases.case_rules import permission_missing
from support_service.cases.clocks.known_policies import KnownPolicies
from support_service.cases.listing import case_list, case_sorts
from support_service.cases.listing.case_list import CaseNumbers, SharedCounts
from support_service.cases.model.case import CasePage, Workload
from support_service.cases.model.requests import CaseFilters, CaseQuery
from support_service.cases.sql import case_reading, link_rows
from support_service.cases.sql.case_reading import NO_VERSION, StoredCase
from support_service.core.domain.principals import CaseOwnership, Principal
from support_service.core.errors import case_not_found, problem
from support_service.core.ids import is_valid_id
from support_service.platform.database import Database

Found = TypeVar("Found", CaseOwnership, StoredCase)


class CaseReader:
    """Reads single cases, lists of cases and their numbers."""

    def __init__(self, database: Database, policies: KnownPolicies) -> None:
        self._database = database
        self._policies = policies
        self._counts = SharedCounts(database)

    async def read_case(
        self,
        principal: Principal,
        case_id: str,
        known_version: int = NO_VERSION,
        known_history: int | None = None,
        *,
        any_size: bool = False,
    ) -> StoredCase:
        """Return a case with what the principal may read of it, as `case_reading.read` does. Raises NotFound."""
        stored = None
        if is_valid_id(case_id):
            stored = await case_reading.read(
                self._database,
                case_id,
                public_only=principal.reads_only_public,
                known_version=known_version,
                known_history=known_history,
                any_size=any_size,
            )
        return _check_visible(principal, case_id, stored)

    async def read_with_duplicates(self, principal: Principal, case_id: str, *, with_history: bool) -> list[StoredCase]:
        """Return a case and its duplicates, with what the principal may read of them. Raises NotFound."""
        found = []
        if is_valid_id(case_id):
            found = await link_rows.read_with_duplicates(
                self._database, case_id, public_only=principal.reads_only_public, with_history=with_history
            )
        return [_check_visible(principal, case_id, found[0] if found else None), *found[1:]]

    async def read_visible_owner(self, principal: Principal, case_id: str) -> CaseOwnership:
        """Return the customer, the agent and the team of a case. Raises NotFound if the principal may not see it."""
        owner = await case_reading.read_owner(self._database, case_id) if is_valid_id(case_id) else None
        return _check_visible(principal, case_id, owner)

    async def read_owners(self, case_ids: Collection[str]) -> dict[str, CaseOwnership]:
        """Return the customer, the agent and the team of each case by its id. Unknown ids are left out."""
        return await case_reading.read_owners(self._database, case_ids)

    async def read_cases_of_messages(self, message_ids: Collection[str]) -> dict[str, str]:
        """Return the id of the case of each message by its id. Unknown ids are left out."""
        return await case_reading.read_cases_of_messages(self._database, message_ids)

    async def read_case_page(self, principal: Principal, case_id: str, after: str | None, limit: int) -> StoredCase:
        """Return a case with the JSON of at most `limit` messages: the first ones, or those after a message.

        Messages of its duplicates are among them. Raises NotFound, and ValidationFailed if the message is not one that
        the principal may read.
        """
        found = None
        if is_valid_id(case_id):
            public_only = principal.reads_only_public
            found = await case_reading.read_page(self._database, case_id, after, limit, public_only=public_only)
        stored = _check_visible(principal, case_id, found)
        if stored.has_duplicates:
            page = await link_rows.read_merged_page(self._database, case_id, after, limit, public_only=public_only)
            stored = stored._replace(**page._asdict())
        if stored.messages is None:
            raise problem("invalid_request", "`messagesAfter` is not the id of a message of this case.")
        return stored

    async def list_cases(self, principal: Principal, query: CaseQuery) -> CasePage:
        """Return a page of the matching cases that the principal may see, in the order of the query's sort.

        Raises ValidationFailed for a bad cursor. A page has at most `query.limit` cases, and fewer if they are large;
        `next_cursor` continues after the last one.
        """
        after = case_sorts.decode_cursor(query.sort, query.cursor)
        found = await case_list.find_cases(self._database, query, after, principal)
        for _, case in found.cases:
            case.sla = await self._policies.clocks_shown_now(case.clocks)
        return CasePage.model_construct(
            items=[case for _, case in found.cases],
            next_cursor=case_sorts.encode_cursor(query.sort, found.cases[-1][0]) if found.has_more else None,
        )

    async def count_cases(
        self,
        principal: Principal,
        query: CaseFilters,
        max_count: int,
        open_turn: Callable[[], AbstractAsyncContextManager[None]],
    ) -> int:
        """Return the number of matching cases that the principal may see; at most `max_count` are counted.

        They are counted in a turn of the caller, which `open_turn` opens, unless their number was counted a moment ago.
        """
        return (await self._counts.count_cases(principal, query, max_count, open_turn)).number

    async def count_late_cases(
        self,
        principal: Principal,
        query: CaseFilters,
        max_count: int,
        open_turn: Callable[[], AbstractAsyncContextManager[None]],
    ) -> CaseNumbers:
        """Return the numbers of `count_cases`, and how many of these cases are late; both with one statement."""
        return await self._counts.count_cases(principal, query, max_count, open_turn, late=True)

    async def count_by_status(self, principal: Principal, agent_id: str) -> Workload:
        """Return the number of an agent's cases by status; zeros for an unknown agent. Raises Forbidden.

        Agents may read their own workload only.
        """
        if principal.role == "agent" and agent_id != principal.subject:
            raise permission_missing("agents:read-others", "Agents see their own workload.")
        cases = await case_list.count_cases_by_status(self._database, agent_id) if is_valid_id(agent_id) else {}
        return Workload.model_validate({"agentId": agent_id, **cases})


def _check_visible(principal: Principal, case_id: str, found: Found | None) -> Found:
    """Return what was read of a case. Raises NotFound if there is none, or if the principal may not see the case."""
    if found is None or not principal.may_see(found):
        raise case_not_found(case_id)
    return found
