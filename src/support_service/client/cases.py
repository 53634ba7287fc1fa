"""Operations on cases: open, list, read, change, close; their messages and links."""

from collections.abc import AsyncGenerator, Callable
from typing import Unpack

from support_service.api.models.cases import CaseCount
from support_service.cases.model.case import Case, CaseLink, CasePage, CaseSummary, ListedCase, Message
from support_service.client.errors import VersionConflict
from support_service.client.operations import Operations, json_members, parse
from support_service.client.parameters import (
    CaseChangeFields,
    CaseFilterFields,
    CaseReadOptions,
    ClosingFields,
    LinkKind,
    NewCaseFields,
    NewMessageFields,
)
from support_service.client.retries import Attempts
from support_service.core.domain.case_vocabulary import Status

CASES = ("support", "cases")


class CaseOperations(Operations):
    """Operations on cases. `version` makes a change only if the case still has this version, else VersionConflict."""

    async def open_case(self, *, idempotency_key: str | None = None, **fields: Unpack[NewCaseFields]) -> Case:
        """Open a case, optionally with its first message."""
        body = json_members(fields)
        if first := fields.get("initial_message"):
            body["initialMessage"] = json_members(first)
        return parse(Case, await self._write("POST", *CASES, body=body, key=idempotency_key))

    def list_cases(
        self, *, page_size: int | None = None, **filters: Unpack[CaseFilterFields]
    ) -> AsyncGenerator[ListedCase, None]:
        """Yield the cases that match every filter, in the order of `sort`. Pages are read when they are needed.

        The version of these cases is not known: it is 0.
        """
        return self._items(lambda cursor: self._read(CasePage, *CASES, **filters, limit=page_size, cursor=cursor))

    async def count_cases(self, **filters: Unpack[CaseFilterFields]) -> CaseCount:
        """Return how many cases match every filter, exact up to 1,000."""
        return await self._read(CaseCount, *CASES, "count", **filters)

    async def get_case(self, case_id: str, **options: Unpack[CaseReadOptions]) -> Case:
        """Get a case with its messages and attachments, and on request with its timeline or its duplicates."""
        return await self._read(Case, *CASES, case_id, **options)

    async def change_case(
        self,
        case_id: str,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
        **changes: Unpack[CaseChangeFields],
    ) -> CaseSummary:
        """Change some fields of a case. See `update_case` for changes that depend on what the case has."""
        body = json_members(changes)
        answer = await self._write("PATCH", *CASES, case_id, body=body, version=version, key=idempotency_key)
        return parse(CaseSummary, answer)

    async def update_case(self, case_id: str, change: Callable[[Case], CaseChangeFields | None]) -> CaseSummary:
        """Change a case to what `change` returns for it; None or no fields change nothing.

        If another caller changes the case meanwhile, it is read again and `change` is called again.
        """
        attempts = Attempts(self._transport.timings)
        while True:
            case = await self.get_case(case_id)
            changes = change(case)
            if not changes:
                return case
            try:
                return await self.change_case(case_id, version=case.version, **changes)
            except VersionConflict as conflict:
                await attempts.wait_after(conflict, repeat=True)

    async def delete_case(
        self, case_id: str, *, version: int | None = None, idempotency_key: str | None = None
    ) -> None:
        """Delete a synthetic case with its files."""
        await self._write("DELETE", *CASES, case_id, version=version, key=idempotency_key)

    async def add_message(
        self,
        case_id: str,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
        **message: Unpack[NewMessageFields],
    ) -> Message:
        """Add a message to a case."""
        body = json_members(message)
        path = (*CASES, case_id, "messages")
        return parse(Message, await self._write("POST", *path, body=body, version=version, key=idempotency_key))

    async def set_status(
        self,
        case_id: str,
        status: Status,
        *,
        assigned_agent_id: str | None = None,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> CaseSummary:
        """Set the status of a case, and optionally its agent."""
        body = {"status": status, "assignedAgentId": assigned_agent_id}
        path = (*CASES, case_id, "status")
        return parse(CaseSummary, await self._write("POST", *path, body=body, version=version, key=idempotency_key))

    async def close_case(
        self,
        case_id: str,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
        **closing: Unpack[ClosingFields],
    ) -> Case:
        """Close a case, optionally with a last message."""
        body = json_members(closing)
        path = (*CASES, case_id, "close")
        return parse(Case, await self._write("POST", *path, body=body, version=version, key=idempotency_key))

    async def refresh_timeline(self, case_id: str) -> Case:
        """Collect the timeline of a case again, bypassing the cache."""
        return parse(Case, await self._write("POST", *CASES, case_id, "timeline", "refresh"))

    async def add_link(
        self,
        case_id: str,
        other_case_id: str,
        kind: LinkKind,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
    ) -> CaseLink:
        """Link a case with another one; `kind` says what the case is to the other one."""
        body = {"kind": kind, "caseId": other_case_id}
        path = (*CASES, case_id, "links")
        return parse(CaseLink, await self._write("POST", *path, body=body, version=version, key=idempotency_key))

    async def remove_link(
        self, case_id: str, link_id: str, *, version: int | None = None, idempotency_key: str | None = None
    ) -> None:
        """Remove a link, from either of its cases."""
        await self._write("DELETE", *CASES, case_id, "links", link_id, version=version, key=idempotency_key)
