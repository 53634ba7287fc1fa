"""The client of the API, with the service's own models. It does not import the service.

async with SupportClient("http://127.0.0.1:8000", token=token) as client:
    case = await client.open_case(subject="Parcel late", channel="email")
"""

from support_service.cases.clocks.case_clocks import ShownClock, ShownClocks
from support_service.cases.clocks.policy import PolicyCalendar, PolicyMatch, PolicyTargets, WeekSpans
from support_service.cases.model.case import Attachment, Case, CaseLink, CaseSummary, ListedCase, Message, Viewer
from support_service.client.changes import Change, Presence, Resync, StreamItem
from support_service.client.errors import NoAnswer, UnexpectedAnswer
from support_service.client.parameters import (
    AgentChangeFields,
    CaseChangeFields,
    CaseFilterFields,
    ClosingFields,
    CustomerChangeFields,
    MacroFields,
    NewCaseFields,
    NewMessageFields,
    PolicyFields,
    ViewChangeFields,
    Visibility,
)
from support_service.client.retries import ClientTimings
from support_service.client.support_client import SupportClient
from support_service.core.errors import (
    Conflict,
    Forbidden,
    NotFound,
    RateLimited,
    ServiceFailed,
    SupportError,
    Unauthenticated,
    Unavailable,
    ValidationFailed,
    VersionConflict,
)
from support_service.desk.customer_models import Contact
from support_service.desk.notification_models import Notification
from support_service.desk.policy_models import Policy

__all__ = [
    "AgentChangeFields",
    "Attachment",
    "Case",
    "CaseChangeFields",
    "CaseFilterFields",
    "CaseLink",
    "CaseSummary",
    "Change",
    "ClientTimings",
    "ClosingFields",
    "Conflict",
    "Contact",
    "CustomerChangeFields",
    "Forbidden",
    "ListedCase",
    "MacroFields",
    "Message",
    "NewCaseFields",
    "NewMessageFields",
    "NoAnswer",
    "NotFound",
    "Notification",
    "Policy",
    "PolicyCalendar",
    "PolicyFields",
    "PolicyMatch",
    "PolicyTargets",
    "Presence",
    "RateLimited",
    "Resync",
    "ServiceFailed",
    "ShownClock",
    "ShownClocks",
    "StreamItem",
    "SupportClient",
    "SupportError",
    "Unauthenticated",
    "Unavailable",
    "UnexpectedAnswer",
    "ValidationFailed",
    "VersionConflict",
    "ViewChangeFields",
    "Viewer",
    "Visibility",
    "WeekSpans",
]
