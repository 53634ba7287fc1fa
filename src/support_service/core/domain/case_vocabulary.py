"""Closed vocabularies of cases. They are also the values of metric labels, so this module imports nothing of ours.

Clients may send other channels; SUPPORT_CHANNELS adds channels that are known.
"""

from typing import Literal, get_args

Status = Literal["open", "pending", "resolved", "closed"]
Priority = Literal["low", "normal", "high", "urgent"]
AuthorType = Literal["agent", "customer", "bot"]
PresenceState = Literal["viewing", "typing"]  # what an agent does with a case at present

STATUSES: tuple[Status, ...] = get_args(Status)
ACTIVE_STATUSES: tuple[Status, ...] = ("open", "pending")  # statuses of cases that are still being worked on
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
AUTHOR_TYPES: tuple[AuthorType, ...] = get_args(AuthorType)
PRESENCE_STATES: tuple[PresenceState, ...] = get_args(PresenceState)
SYNTHETIC = "synthetic"  # default channel of the probe's cases, and the metric label of every synthetic case
CHANNELS = ("email", "chat", "phone", "web", "mobile", "social", "sms", "marketplace", "api", SYNTHETIC)
