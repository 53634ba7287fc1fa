"""Operations on what agents work with: customers, saved views, macros, workloads."""

from collections.abc import AsyncGenerator
from typing import Unpack

from support_service.api.models.cases import CustomerPage
from support_service.cases.model.case import Workload
from support_service.client.cases import CASES
from support_service.client.operations import Operations, json_members, parse
from support_service.client.parameters import CaseFilterFields, MacroFields, ViewChangeFields
from support_service.desk.macro_models import FilledMacro, Macro, MacroPage
from support_service.desk.view_models import CountedView, SavedView, ViewPage

VIEWS = ("support", "views")
MACROS = ("support", "macros")


class AgentWorkOperations(Operations):
    """Operations on what agents work with. Lists are read page by page; `page_size` is the size of a page."""

    async def get_customer(
        self, customer_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> CustomerPage:
        """Get a page of a customer's cases, with what they refer to and their files."""
        return await self._read(CustomerPage, "support", "customers", customer_id, limit=limit, cursor=cursor)

    async def workload(self, agent_id: str) -> Workload:
        """Count an agent's cases by status."""
        return await self._read(Workload, "support", "agents", agent_id, "workload")

    async def create_view(
        self, name: str, query: CaseFilterFields, *, team: str | None = None, idempotency_key: str | None = None
    ) -> SavedView:
        """Save a view of the list of cases, for the caller or for a team."""
        body = {"name": name, "query": json_members(query), "team": team}
        return parse(SavedView, await self._write("POST", *VIEWS, body=body, key=idempotency_key))

    def list_views(self, *, page_size: int | None = None) -> AsyncGenerator[CountedView, None]:
        """Yield the views of the caller and of the caller's teams, newest first, each with its number of cases."""
        return self._items(lambda cursor: self._read(ViewPage, *VIEWS, limit=page_size, cursor=cursor))

    async def get_view(self, view_id: str) -> CountedView:
        """Get a saved view with the number of cases that it shows."""
        return await self._read(CountedView, *VIEWS, view_id)

    async def change_view(
        self,
        view_id: str,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
        **changes: Unpack[ViewChangeFields],
    ) -> SavedView:
        """Change the name, the query or the team of a saved view."""
        body = json_members(changes)
        if "query" in changes:
            body["query"] = json_members(changes["query"])
        answer = await self._write("PATCH", *VIEWS, view_id, body=body, version=version, key=idempotency_key)
        return parse(SavedView, answer)

    async def delete_view(
        self, view_id: str, *, version: int | None = None, idempotency_key: str | None = None
    ) -> None:
        """Delete a saved view."""
        await self._write("DELETE", *VIEWS, view_id, version=version, key=idempotency_key)

    def list_macros(self, *, page_size: int | None = None) -> AsyncGenerator[Macro, None]:
        """Yield the macros, oldest first."""
        return self._items(lambda cursor: self._read(MacroPage, *MACROS, limit=page_size, cursor=cursor))

    async def create_macro(
        self, name: str, *, idempotency_key: str | None = None, **fields: Unpack[MacroFields]
    ) -> Macro:
        """Create a macro."""
        body = {"name": name, **json_members(fields)}
        return parse(Macro, await self._write("POST", *MACROS, body=body, key=idempotency_key))

    async def get_macro(self, macro_name: str) -> Macro:
        """Get a macro, with its variables as they were saved."""
        return await self._read(Macro, *MACROS, macro_name)

    async def put_macro(
        self,
        macro_name: str,
        *,
        version: int | None = None,
        idempotency_key: str | None = None,
        **fields: Unpack[MacroFields],
    ) -> Macro:
        """Replace a macro, or create it."""
        body = json_members(fields)
        answer = await self._write("PUT", *MACROS, macro_name, body=body, version=version, key=idempotency_key)
        return parse(Macro, answer)

    async def delete_macro(
        self, macro_name: str, *, version: int | None = None, idempotency_key: str | None = None
    ) -> None:
        """Delete a macro."""
        await self._write("DELETE", *MACROS, macro_name, version=version, key=idempotency_key)

    async def preview_macro(self, case_id: str, macro_name: str) -> FilledMacro:
        """Fill a macro from a case and its timeline, before it is sent."""
        path = (*CASES, case_id, "macros", macro_name, "preview")
        return parse(FilledMacro, await self._write("POST", *path))
