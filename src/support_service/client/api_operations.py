"""One method for each operation of the API.

`make generate` writes this module.
"""

from collections.abc import AsyncGenerator, Sequence
from datetime import date, datetime, timedelta
from typing import Unpack

from support_service.api.models.audit import AuditEntry, AuditLogEntry, AuditLogPage, AuditPage, Verification
from support_service.api.models.cases import CaseCount, CustomerPage
from support_service.api.models.oncall import OnCall
from support_service.api.models.oncall_actions import (
    DeadLetterPage,
    DeliveryPage,
    DeliveryState,
    ShownDeadLetter,
    ShownDelivery,
    ShownOverride,
)
from support_service.api.models.service import Health, Me
from support_service.cases.model.case import Attachment, Case, CasePage, CaseSummary, ListedCase, Message, Workload
from support_service.client.operations import Key, Operations, Version
from support_service.client.parameters import (
    AgentChangeFields,
    BulkChangeFields,
    CaseChangeFields,
    CaseFilterFields,
    CaseReadOptions,
    ClosingFields,
    CustomerChangeFields,
    MacroFields,
    NewCaseFields,
    NewMessageFields,
    PolicyFields,
    ViewChangeFields,
)
from support_service.core.domain.case_vocabulary import NotificationKind, PresenceState, Status
from support_service.desk.agent_models import Agent, AgentPage, ListedAgent
from support_service.desk.bulk_models import BulkResult
from support_service.desk.customer_models import Customer, FoundCustomers
from support_service.desk.macro_models import FilledMacro, Macro, MacroPage
from support_service.desk.notification_models import Follower, Followers, Notification, NotificationPage, UnreadCount
from support_service.desk.policy_models import Policy, SlaPolicyList
from support_service.desk.view_models import CountedView, SavedView, StandardView, StandardViews, ViewPage
from support_service.platform.audit.chain import Action
from support_service.reports.measures import Dimension
from support_service.reports.report_models import ReportPage, ReportRow


class ApiOperations(Operations):
    """The operations of the API.

    `version` makes a change only if the object still has this version, else VersionConflict. Lists are read page by
    page; `page_size` is the size of a page. The version of what a list has is not known: it is 0.
    """

    async def bulk_change(
        self,
        change: BulkChangeFields,
        *,
        ids: Sequence[str] | None = None,
        query: CaseFilterFields | None = None,
        idempotency_key: Key = None,
    ) -> BulkResult:
        """Change up to 500 cases."""
        return await self._write(
            BulkResult,
            "POST",
            ("support", "cases", "bulk"),
            {"ids": ids, "query": query, "change": change},
            key=idempotency_key,
        )

    async def get_bulk_change(self, bulk_id: str) -> BulkResult:
        """Get the outcomes of a bulk change of the last hour."""
        return await self._read(BulkResult, ("support", "cases", "bulk", bulk_id, "outcomes"))

    async def undo_bulk_change(self, bulk_id: str, *, idempotency_key: Key = None) -> BulkResult:
        """Undo a bulk change of the last hour."""
        return await self._write(BulkResult, "POST", ("support", "cases", "bulk", bulk_id, "undo"), key=idempotency_key)

    async def count_cases(self, **fields: Unpack[CaseFilterFields]) -> CaseCount:
        """Count the cases that a list with these filters shows to the caller."""
        return await self._read(CaseCount, ("support", "cases", "count"), **fields)

    async def open_case(self, *, idempotency_key: Key = None, **fields: Unpack[NewCaseFields]) -> Case:
        """Open a case, optionally with its first message."""
        return await self._write(Case, "POST", ("support", "cases"), fields, key=idempotency_key)

    def list_cases(
        self, *, page_size: int | None = None, **fields: Unpack[CaseFilterFields]
    ) -> AsyncGenerator[ListedCase, None]:
        """List cases, newest first or in the order of `sort`."""
        return self._items(CasePage, ("support", "cases"), page_size, **fields)

    async def get_case(self, case_id: str, **fields: Unpack[CaseReadOptions]) -> Case:
        """Get a case with its messages and attachments."""
        return await self._read(Case, ("support", "cases", case_id), **fields)

    async def change_case(
        self, case_id: str, *, version: Version = None, idempotency_key: Key = None, **fields: Unpack[CaseChangeFields]
    ) -> CaseSummary:
        """Change some fields of a case."""
        return await self._write(
            CaseSummary, "PATCH", ("support", "cases", case_id), fields, version, key=idempotency_key
        )

    async def delete_case(self, case_id: str, *, version: Version = None, idempotency_key: Key = None) -> None:
        """Delete a synthetic case with its files."""
        await self._send("DELETE", ("support", "cases", case_id), None, version, key=idempotency_key)

    async def add_message(
        self, case_id: str, *, version: Version = None, idempotency_key: Key = None, **fields: Unpack[NewMessageFields]
    ) -> Message:
        """Add a message to a case."""
        return await self._write(
            Message, "POST", ("support", "cases", case_id, "messages"), fields, version, key=idempotency_key
        )

    async def set_status(
        self,
        case_id: str,
        status: Status,
        *,
        assigned_agent_id: str | None = None,
        until: datetime | None = None,
        version: Version = None,
        idempotency_key: Key = None,
    ) -> CaseSummary:
        """Set the status of a case, and optionally its agent."""
        return await self._write(
            CaseSummary,
            "POST",
            ("support", "cases", case_id, "status"),
            {"status": status, "assigned_agent_id": assigned_agent_id, "until": until},
            version,
            key=idempotency_key,
        )

    async def close_case(
        self, case_id: str, *, version: Version = None, idempotency_key: Key = None, **fields: Unpack[ClosingFields]
    ) -> Case:
        """Close a case, optionally with a last message."""
        return await self._write(
            Case, "POST", ("support", "cases", case_id, "close"), fields, version, key=idempotency_key
        )

    async def merge_case(
        self, case_id: str, into: str, *, version: Version = None, idempotency_key: Key = None
    ) -> CaseSummary:
        """Merge a case into another one: close it as a duplicate, and return the other case."""
        return await self._write(
            CaseSummary, "POST", ("support", "cases", case_id, "merge"), {"into": into}, version, key=idempotency_key
        )

    async def split_case(
        self,
        case_id: str,
        message_ids: Sequence[str],
        subject: str,
        *,
        version: Version = None,
        idempotency_key: Key = None,
    ) -> Case:
        """Split messages of a case, with the files that they name, into a new case."""
        return await self._write(
            Case,
            "POST",
            ("support", "cases", case_id, "split"),
            {"message_ids": message_ids, "subject": subject},
            version,
            key=idempotency_key,
        )

    async def remove_link(
        self, case_id: str, link_id: str, *, version: Version = None, idempotency_key: Key = None
    ) -> None:
        """Remove a link, from either of its cases."""
        await self._send("DELETE", ("support", "cases", case_id, "links", link_id), None, version, key=idempotency_key)

    async def refresh_timeline(self, case_id: str) -> Case:
        """Refresh the timeline of a case, bypassing the cache."""
        return await self._write(Case, "POST", ("support", "cases", case_id, "timeline", "refresh"))

    async def list_attachments(self, case_id: str) -> list[Attachment]:
        """List a case's attachments, oldest first."""
        return await self._read_list(Attachment, ("support", "cases", case_id, "attachments"))

    async def remove_attachment(
        self, case_id: str, attachment_id: str, *, version: Version = None, idempotency_key: Key = None
    ) -> None:
        """Remove an attachment, or a staged file of the caller."""
        await self._send(
            "DELETE", ("support", "cases", case_id, "attachments", attachment_id), None, version, key=idempotency_key
        )

    async def find_customers(
        self, *, q: str | None = None, contact: str | None = None, limit: int | None = None
    ) -> Sequence[Customer]:
        """Find customers by their name, or by an e-mail address, a phone number or another contact."""
        return (await self._read(FoundCustomers, ("support", "customers"), q=q, contact=contact, limit=limit)).items

    async def get_customer(
        self, customer_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> CustomerPage:
        """Get a customer: the name and contacts, the cases, what they refer to, and their files."""
        return await self._read(CustomerPage, ("support", "customers", customer_id), limit=limit, cursor=cursor)

    async def put_customer(
        self,
        customer_id: str,
        *,
        version: Version = None,
        idempotency_key: Key = None,
        **fields: Unpack[CustomerChangeFields],
    ) -> Customer:
        """Change the name, the contacts or the notes of a customer, or add the record of a customer."""
        return await self._write(
            Customer, "PUT", ("support", "customers", customer_id), fields, version, key=idempotency_key
        )

    async def merge_customer(
        self, customer_id: str, into: str, *, version: Version = None, idempotency_key: Key = None
    ) -> Customer:
        """Merge a customer into another one, who is the same person, and return the person."""
        return await self._write(
            Customer,
            "POST",
            ("support", "customers", customer_id, "merge"),
            {"into": into},
            version,
            key=idempotency_key,
        )

    async def separate_customer(
        self, customer_id: str, other_id: str, *, version: Version = None, idempotency_key: Key = None
    ) -> None:
        """Undo the merge of another id: it is a customer of its own again, with the ids that were merged into it."""
        await self._send(
            "DELETE", ("support", "customers", customer_id, "identities", other_id), None, version, key=idempotency_key
        )

    def list_audit(self, case_id: str, *, page_size: int | None = None) -> AsyncGenerator[AuditEntry, None]:
        """List the changes of a case, newest first."""
        return self._items(AuditPage, ("support", "cases", case_id, "audit"), page_size)

    def list_audit_log(
        self,
        *,
        actor: str | None = None,
        action: Action | None = None,
        case_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        page_size: int | None = None,
    ) -> AsyncGenerator[AuditLogEntry, None]:
        """List the changes of all cases, overrides, views and macros, newest first."""
        return self._items(
            AuditLogPage,
            ("support", "audit"),
            page_size,
            actor=actor,
            action=action,
            case_id=case_id,
            **{"from": start, "to": end},
        )

    async def verify_audit_log(self, *, after: int | None = None, limit: int | None = None) -> Verification:
        """Verify a part of the chain, by default its last 1,000 entries."""
        return await self._read(Verification, ("support", "audit", "verification"), after=after, limit=limit)

    async def workload(self, agent_id: str) -> Workload:
        """Count an agent's cases by status."""
        return await self._read(Workload, ("support", "agents", agent_id, "workload"))

    def list_agents(self, *, page_size: int | None = None) -> AsyncGenerator[ListedAgent, None]:
        """List the people who work on cases, oldest entry first."""
        return self._items(AgentPage, ("support", "agents"), page_size)

    async def get_agent(self, agent_id: str) -> ListedAgent:
        """Get a person of the directory."""
        return await self._read(ListedAgent, ("support", "agents", agent_id))

    async def put_agent(
        self,
        agent_id: str,
        *,
        version: Version = None,
        idempotency_key: Key = None,
        **fields: Unpack[AgentChangeFields],
    ) -> Agent:
        """Change a person in the directory, or add the person."""
        return await self._write(Agent, "PUT", ("support", "agents", agent_id), fields, version, key=idempotency_key)

    async def delete_agent(self, agent_id: str, *, version: Version = None, idempotency_key: Key = None) -> None:
        """Remove a person from the directory."""
        await self._send("DELETE", ("support", "agents", agent_id), None, version, key=idempotency_key)

    def list_notifications(
        self, *, unread: bool | None = None, kind: NotificationKind | None = None, page_size: int | None = None
    ) -> AsyncGenerator[Notification, None]:
        """List the notifications of the caller, newest first."""
        return self._items(NotificationPage, ("support", "notifications"), page_size, unread=unread, kind=kind)

    async def mark_notifications_read(
        self, *, ids: Sequence[str] | None = None, until: str | None = None, idempotency_key: Key = None
    ) -> UnreadCount:
        """Mark notifications of the caller as read."""
        return await self._write(
            UnreadCount, "POST", ("support", "notifications", "read"), {"ids": ids, "until": until}, key=idempotency_key
        )

    async def list_followers(self, case_id: str) -> Sequence[Follower]:
        """List the people who follow a case."""
        return (await self._read(Followers, ("support", "cases", case_id, "followers"))).items

    async def add_follower(self, case_id: str, agent_id: str, *, idempotency_key: Key = None) -> None:
        """Let a person follow a case."""
        await self._send("PUT", ("support", "cases", case_id, "followers", agent_id), key=idempotency_key)

    async def remove_follower(self, case_id: str, agent_id: str, *, idempotency_key: Key = None) -> None:
        """Let a person no longer follow a case."""
        await self._send("DELETE", ("support", "cases", case_id, "followers", agent_id), key=idempotency_key)

    async def create_view(
        self, name: str, query: CaseFilterFields, *, team: str | None = None, idempotency_key: Key = None
    ) -> SavedView:
        """Save a view of the list of cases."""
        return await self._write(
            SavedView, "POST", ("support", "views"), {"name": name, "query": query, "team": team}, key=idempotency_key
        )

    def list_views(self, *, page_size: int | None = None) -> AsyncGenerator[CountedView, None]:
        """List the saved views of the caller and of the caller's teams, newest first."""
        return self._items(ViewPage, ("support", "views"), page_size)

    async def count_views(self) -> Sequence[StandardView]:
        """Count the cases of the views that every caller has."""
        return (await self._read(StandardViews, ("support", "views", "counts"))).items

    async def get_view(self, view_id: str) -> CountedView:
        """Get a saved view with the number of cases that it shows to the caller."""
        return await self._read(CountedView, ("support", "views", view_id))

    async def change_view(
        self, view_id: str, *, version: Version = None, idempotency_key: Key = None, **fields: Unpack[ViewChangeFields]
    ) -> SavedView:
        """Change the name, the query or the team of a saved view."""
        return await self._write(
            SavedView, "PATCH", ("support", "views", view_id), fields, version, key=idempotency_key
        )

    async def delete_view(self, view_id: str, *, version: Version = None, idempotency_key: Key = None) -> None:
        """Delete a saved view."""
        await self._send("DELETE", ("support", "views", view_id), None, version, key=idempotency_key)

    async def get_me(self) -> Me:
        """Tell the caller who it is and what it may do."""
        return await self._read(Me, ("support", "me"))

    def list_macros(self, *, page_size: int | None = None) -> AsyncGenerator[Macro, None]:
        """List macros, oldest first."""
        return self._items(MacroPage, ("support", "macros"), page_size)

    async def create_macro(self, name: str, *, idempotency_key: Key = None, **fields: Unpack[MacroFields]) -> Macro:
        """Create a macro."""
        return await self._write(Macro, "POST", ("support", "macros"), {"name": name, **fields}, key=idempotency_key)

    async def get_macro(self, macro_name: str) -> Macro:
        """Get a macro."""
        return await self._read(Macro, ("support", "macros", macro_name))

    async def put_macro(
        self, macro_name: str, *, version: Version = None, idempotency_key: Key = None, **fields: Unpack[MacroFields]
    ) -> Macro:
        """Replace a macro, or create it."""
        return await self._write(Macro, "PUT", ("support", "macros", macro_name), fields, version, key=idempotency_key)

    async def delete_macro(self, macro_name: str, *, version: Version = None, idempotency_key: Key = None) -> None:
        """Delete a macro."""
        await self._send("DELETE", ("support", "macros", macro_name), None, version, key=idempotency_key)

    async def preview_macro(self, case_id: str, macro_name: str) -> FilledMacro:
        """Fill a macro from a case and its timeline."""
        return await self._write(FilledMacro, "POST", ("support", "cases", case_id, "macros", macro_name, "preview"))

    async def list_sla_policies(self) -> Sequence[Policy]:
        """List service level policies."""
        return (await self._read(SlaPolicyList, ("support", "sla-policies"))).items

    async def get_sla_policy(self, policy_name: str) -> Policy:
        """Get a service level policy."""
        return await self._read(Policy, ("support", "sla-policies", policy_name))

    async def put_sla_policy(
        self, policy_name: str, *, version: Version = None, idempotency_key: Key = None, **fields: Unpack[PolicyFields]
    ) -> Policy:
        """Replace a service level policy, or create it."""
        return await self._write(
            Policy, "PUT", ("support", "sla-policies", policy_name), fields, version, key=idempotency_key
        )

    async def delete_sla_policy(
        self, policy_name: str, *, version: Version = None, idempotency_key: Key = None
    ) -> None:
        """Delete a service level policy."""
        await self._send("DELETE", ("support", "sla-policies", policy_name), None, version, key=idempotency_key)

    def read_report(
        self,
        *,
        start: date | None = None,
        end: date | None = None,
        by: Dimension | Sequence[Dimension] | None = None,
        team: str | None = None,
        agent: str | None = None,
        channel: str | None = None,
        page_size: int | None = None,
    ) -> AsyncGenerator[ReportRow, None]:
        """Report what happened to cases."""
        return self._items(
            ReportPage,
            ("support", "reports"),
            page_size,
            by=by,
            team=team,
            agent=agent,
            channel=channel,
            **{"from": start, "to": end},
        )

    async def put_presence(self, case_id: str, state: PresenceState) -> None:
        """Say that the caller views a case, or types in it."""
        await self._send("PUT", ("support", "cases", case_id, "presence"), {"state": state})

    async def delete_presence(self, case_id: str) -> None:
        """Say that the caller has left the case."""
        await self._send("DELETE", ("support", "cases", case_id, "presence"))

    async def get_oncall(self) -> OnCall:
        """Get the verdict on the service, and the state of its parts."""
        return await self._read(OnCall, ("support", "oncall"))

    async def set_override(
        self,
        override_name: str,
        duration: timedelta | str,
        *,
        value: float | None = None,
        reason: str = "",
        version: Version = None,
        idempotency_key: Key = None,
    ) -> ShownOverride:
        """Set an override, in place of any override of the same name."""
        return await self._write(
            ShownOverride,
            "PUT",
            ("support", "overrides", override_name),
            {"value": value, "reason": reason, "duration": duration},
            version,
            key=idempotency_key,
        )

    async def clear_override(self, override_name: str, *, version: Version = None, idempotency_key: Key = None) -> None:
        """Clear an override before it expires."""
        await self._send("DELETE", ("support", "overrides", override_name), None, version, key=idempotency_key)

    def list_dead_letters(self, *, page_size: int | None = None) -> AsyncGenerator[ShownDeadLetter, None]:
        """List dead letters, oldest first."""
        return self._items(DeadLetterPage, ("support", "dead-letters"), page_size)

    async def replay_dead_letter(self, letter_id: str, *, idempotency_key: Key = None) -> None:
        """Move a dead letter back to the end of its stream."""
        await self._send("POST", ("support", "dead-letters", letter_id, "replay"), key=idempotency_key)

    async def drop_dead_letter(self, letter_id: str, *, idempotency_key: Key = None) -> None:
        """Delete a dead letter."""
        await self._send("DELETE", ("support", "dead-letters", letter_id), key=idempotency_key)

    def list_deliveries(
        self, *, state: DeliveryState = "failed", page_size: int | None = None
    ) -> AsyncGenerator[ShownDelivery, None]:
        """List webhook deliveries in a state, latest `due` first."""
        return self._items(DeliveryPage, ("support", "webhook-deliveries"), page_size, state=state)

    async def replay_delivery(self, delivery_id: int, *, idempotency_key: Key = None) -> None:
        """Schedule a webhook delivery again from now on."""
        await self._send("POST", ("support", "webhook-deliveries", str(delivery_id), "replay"), key=idempotency_key)

    async def drop_delivery(self, delivery_id: int, *, idempotency_key: Key = None) -> None:
        """Delete a webhook delivery."""
        await self._send("DELETE", ("support", "webhook-deliveries", str(delivery_id)), key=idempotency_key)

    async def health(self) -> Health:
        """Get the status of the service."""
        return await self._read(Health, ("health",))

    async def livez(self) -> Health:
        """Check liveness."""
        return await self._read(Health, ("livez",))
