"""Closed vocabularies of cases. They are also the values of metric labels, so this module imports nothing of ours."""

from typing import Literal, get_args

Status = Literal["open", "pending", "resolved", "closed"]
Priority = Literal["low", "normal", "high", "urgent"]
AuthorType = Literal["agent", "customer", "bot"]

STATUSES: tuple[Status, ...] = get_args(Status)
ACTIVE_STATUSES: tuple[Status, ...] = ("open", "pending")  # statuses of cases that are still being worked on
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
AUTHOR_TYPES: tuple[AuthorType, ...] = get_args(AuthorType)
SYNTHETIC = "synthetic"  # channel of the probe's synthetic cases, which are in no list and in no metric of cases
# Known channels; clients may send others.
CHANNELS = ("email", "chat", "phone", "web", "mobile", "social", "sms", "marketplace", "api", SYNTHETIC)
