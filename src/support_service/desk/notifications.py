"""Notifications of the caller, and the followers of a case.

Who may see a case is checked when a notification is read, so that one of a case that has moved is not shown.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from support_service.cases.case_rules import permission_missing
from support_service.cases.known_agents import KnownAgents
from support_service.cases.notifier import MAX_FOLLOWERS
from support_service.cases.recorder import CaseRecorder, LockedCase
from support_service.cases.sql import case_rows, notification_rows
from support_service.cases.sql.notification_rows import MAX_COUNTED
from support_service.core import pagination
from support_service.core.clock import time_after, utc_now
from support_service.core.domain.principals import CaseOwnership, Principal
from support_service.core.errors import FieldError, case_not_found, problem
from support_service.core.ids import is_valid_id
from support_service.desk.agent_models import is_valid_agent_id
from support_service.desk.agents import AGENT_KIND
from support_service.desk.notification_models import (
    Follower,
    Followers,
    Notification,
    NotificationPage,
    NotificationQuery,
    ReadNotifications,
    UnreadCount,
)
from support_service.platform.audit import log as audit
from support_service.platform.database import ContendedRow, Database, Row
from support_service.platform.database.statements import delete_in_batches
from support_service.platform.database.tables import tickets
from support_service.platform.unit_of_work import WriteOrigin, retried_with_locks, unit_of_work

_T = tickets.c
FOLLOWERS = sa.select(_T.followers, _T.customer_id, _T.assigned_agent_id, _T.team).where(
    _T.id == sa.bindparam("case_id")
)

KEEP = timedelta(days=30)  # also unread ones
CLEANUP_INTERVAL = 60.0  # seconds
MAX_KEPT = 10_000  # of one person; those beyond it are deleted
PEOPLE_PER_RUN = 20  # whose number is checked in one run of the job
BATCH_SIZE = 500  # rows deleted by a transaction


class NotificationService:
    """Reads notifications, marks them as read, deletes old ones, and changes the followers of cases."""

    def __init__(self, database: Database, recorder: CaseRecorder, known: KnownAgents) -> None:
        self._database = database
        self._recorder = recorder
        self._known = known
        self._checked = ""  # the last person whose number was checked

    async def list_notifications(self, principal: Principal, query: NotificationQuery) -> NotificationPage:
        """Return a page of the principal's notifications about cases that it may see, newest first."""
        before, limit = pagination.decode_cursor(query.cursor), query.limit
        rows, number = await notification_rows.read_page(
            self._database, principal, before, limit + 1, unread=query.unread, kind=query.kind
        )
        return NotificationPage.model_construct(
            items=list(map(_to_notification, rows[:limit])),
            next_cursor=pagination.encode_cursor(rows[limit - 1].seq) if len(rows) > limit else None,
            unread=min(number, MAX_COUNTED),
            more_unread=number > MAX_COUNTED,
        )

    async def mark_read(self, origin: WriteOrigin, read: ReadNotifications) -> UnreadCount:
        """Mark notifications of the caller as read; return how many are unread. Ids of others have no effect."""
        principal = origin.principal
        async with unit_of_work(self._database, origin, ContendedRow(f"notifications of {principal.id}")) as work:
            if read.until is None:
                await notification_rows.mark_read(work.tx, principal, read.ids or ())
            else:
                await notification_rows.mark_read_until(work.tx, principal, read.until)
            number = await notification_rows.count_unread(work.tx, principal)
        return UnreadCount.model_construct(unread=min(number, MAX_COUNTED), more_unread=number > MAX_COUNTED)

    async def delete_expired(self) -> None:
        """Delete old notifications, and surplus notifications of the next people who have too many."""
        await self._delete(notification_rows.DELETE_OLD, {"before": utc_now() - KEEP, "count": BATCH_SIZE})
        for _ in range(PEOPLE_PER_RUN):
            row = await self._database.fetch_now(notification_rows.NEXT_RECIPIENT, {"after": self._checked})
            recipient = row.recipient if row else None
            self._checked = recipient or ""
            if recipient is None:
                return
            values = {"person": recipient, "kept": MAX_KEPT, "count": BATCH_SIZE}
            await self._delete(notification_rows.DELETE_BEYOND, values)

    async def read_followers(self, principal: Principal, case_id: str) -> Followers:
        """Return the people who follow a case."""
        row = await self._database.fetch_now(FOLLOWERS, {"case_id": case_id}) if is_valid_id(case_id) else None
        if row is None or not principal.may_see(CaseOwnership(row.customer_id, row.assigned_agent_id, row.team)):
            raise case_not_found(case_id)
        ids = row.followers or ()
        names = self._known.names_of(ids)
        people = [Follower.model_construct(id=each, display_name=names.get(each)) for each in ids]
        return Followers.model_construct(items=people)

    async def add_follower(self, origin: WriteOrigin, case_id: str, agent_id: str) -> None:
        """Let a person follow a case."""
        _check_may_change(origin.principal, agent_id)
        await self._change(origin, case_id, agent_id, follows=True)

    async def remove_follower(self, origin: WriteOrigin, case_id: str, agent_id: str) -> None:
        """Let a person no longer follow a case."""
        _check_may_change(origin.principal, agent_id)
        await self._change(origin, case_id, agent_id, follows=False)

    @retried_with_locks
    async def _change(self, origin: WriteOrigin, case_id: str, agent_id: str, *, follows: bool) -> None:
        async with unit_of_work(self._database, origin, ContendedRow(case_id)) as work:
            case = (await LockedCase.lock(work, self._recorder, case_id)).current
            before = case.followers or []
            if (agent_id in before) == follows:
                return
            if follows and len(before) >= MAX_FOLLOWERS:
                raise problem("too_many_followers", f"The case has {MAX_FOLLOWERS} followers, the limit.")
            after = [*before, agent_id] if follows else [each for each in before if each != agent_id]
            await case_rows.set_followers(work.tx, case_id, after)
            if agent_id != origin.principal.id:  # following and leaving a case for oneself is not audited
                at = time_after(case.updated_at)
                change = {"follower": (None, agent_id) if follows else (agent_id, None)}
                await audit.record(work, case_id, "follower.added" if follows else "follower.removed", at, change)

    async def _delete(self, statement: sa.Delete, values: Mapping[str, Any]) -> None:
        await delete_in_batches(self._database, lambda tx: tx.execute(statement, values), BATCH_SIZE)


def _check_may_change(principal: Principal, agent_id: str) -> None:
    """Raise Forbidden if an agent does it for somebody else, and ValidationFailed for what can't be an id."""
    if principal.role == "agent" and agent_id != principal.id:
        raise permission_missing("followers:write-others", "Agents follow cases themselves; ask a supervisor.")
    if not is_valid_agent_id(agent_id):
        wrong = FieldError("agentId", AGENT_KIND.name_rule)
        raise problem("invalid_request", "The id in the path can't be the id of a person.", [wrong])


def _to_notification(row: Row) -> Notification:
    return Notification.model_construct(
        id=row.id,
        kind=row.kind,
        case_id=row.case_id,
        subject=row.subject,
        message_id=row.message_id,
        actor_id=row.actor,
        at=row.at,
        read=row.read_at is not None,
    )
