"""Vocabularies of cases, clocks and files. They are also the values of metric labels: no module of ours is imported.

Clients may send other channels and content types. SUPPORT_CHANNELS adds channels that are known.
"""

from typing import Literal, get_args

Status = Literal["open", "pending", "resolved", "closed"]
Priority = Literal["low", "normal", "high", "urgent"]
AuthorType = Literal["agent", "customer", "bot"]
PresenceState = Literal["viewing", "typing"]  # what an agent does with a case at present
NotificationKind = Literal["mention", "note", "message", "status", "assigned", "assignment"]  # what a person is told
ClockTarget = Literal["firstResponse", "nextResponse", "resolution"]  # what a service level measures
ClockState = Literal["running", "paused", "met", "breached"]

STATUSES: tuple[Status, ...] = get_args(Status)
ACTIVE_STATUSES: tuple[Status, ...] = ("open", "pending")  # statuses of cases that are still being worked on
PENDING: Status = "pending"  # of a case that waits for something; a snoozed case has it
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
AUTHOR_TYPES: tuple[AuthorType, ...] = get_args(AuthorType)
STAFF_AUTHOR_TYPES: tuple[AuthorType, ...] = ("agent", "bot")  # of authors who are no customers
PRESENCE_STATES: tuple[PresenceState, ...] = get_args(PresenceState)
CLOCK_TARGETS: tuple[ClockTarget, ...] = get_args(ClockTarget)
BOT = "bot"  # id of an author that is a program
SYNTHETIC = "synthetic"  # default channel of the probe's cases, and the metric label of every synthetic case
CHANNELS = ("email", "chat", "phone", "web", "mobile", "social", "sms", "marketplace", "api", SYNTHETIC)
KNOWN_SENTIMENTS = ("negative", "neutral", "positive")  # any other is free text of a client
# Any other is free text of a client: metrics and analysts see `other`.
KNOWN_CONTENT_TYPES = (
    "application/json",
    "application/msword",
    "application/octet-stream",
    "application/pdf",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/zip",
    "audio/mpeg",
    "image/gif",
    "image/heic",
    "image/jpeg",
    "image/png",
    "image/webp",
    "message/rfc822",
    "text/csv",
    "text/html",
    "text/plain",
    "video/mp4",
)
