"""Notifications of the caller, and the followers of a case."""

from support_service.api.cases import CASES_PATH
from support_service.api.routing.call import Call, Reply
from support_service.api.routing.decorators import delete, get, post, put
from support_service.api.routing.route import CASE_PROBLEMS, DATABASE_PROBLEMS, Permission, Tag
from support_service.desk.notification_models import (
    Followers,
    NotificationPage,
    NotificationQuery,
    ReadNotifications,
    UnreadCount,
)

TAG = Tag("notifications", "Notifications: mentions, assignments and changes of cases that the caller follows.")
NOTIFICATIONS_PATH = "/support/notifications"
FOLLOWERS_PATH = CASES_PATH + "/{case_id}/followers"

NOTIFICATIONS = Permission("notifications:read", {"agent": "own", "supervisor": "all"})
FOLLOWERS_READ = Permission("followers:read", {"agent": "own", "supervisor": "all"})
FOLLOWERS_WRITE = Permission("followers:write", {"agent": "own", "supervisor": "all"})


@get(NOTIFICATIONS_PATH, access=NOTIFICATIONS, problems=DATABASE_PROBLEMS)
async def list_notifications(call: Call, query: NotificationQuery) -> Reply[NotificationPage]:
    """List the notifications of the caller, newest first.

    The list has only notifications of cases that the caller may see now. `unread` counts all of them, up to 100.
    """
    return Reply(await call.service.notifications.list_notifications(call.principal, query))


@post(NOTIFICATIONS_PATH + "/read", access=NOTIFICATIONS, problems=DATABASE_PROBLEMS)
async def mark_notifications_read(call: Call, body: ReadNotifications) -> Reply[UnreadCount]:
    """Mark notifications of the caller as read.

    `ids` marks these, `until` this one and all that follow it in the list. Ids that are not of the caller have no
    effect. The answer tells how many are unread.
    """
    return Reply(await call.service.notifications.mark_read(call.origin, body))


@get(FOLLOWERS_PATH, access=FOLLOWERS_READ, problems=CASE_PROBLEMS)
async def list_followers(call: Call, case_id: str) -> Reply[Followers]:
    """List the people who follow a case.

    They are in the order in which they began.
    """
    return Reply(await call.service.notifications.read_followers(call.principal, case_id))


@put(
    FOLLOWERS_PATH + "/{agent_id}",
    access=FOLLOWERS_WRITE,
    problems=(*CASE_PROBLEMS, "invalid_request", "too_many_followers"),
)
async def add_follower(call: Call, case_id: str, agent_id: str) -> Reply[None]:
    """Let a person follow a case.

    Agents follow cases themselves. Supervisors also add others. The version of the case stays.
    """
    await call.service.notifications.add_follower(call.origin, case_id, agent_id)
    return Reply(None)


@delete(FOLLOWERS_PATH + "/{agent_id}", access=FOLLOWERS_WRITE, problems=(*CASE_PROBLEMS, "invalid_request"))
async def remove_follower(call: Call, case_id: str, agent_id: str) -> Reply[None]:
    """Let a person no longer follow a case.

    A person who does not follow it is no error.
    """
    await call.service.notifications.remove_follower(call.origin, case_id, agent_id)
    return Reply(None)
