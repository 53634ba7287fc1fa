"""Timeline entries of a case, and their merge with the entries of the services into one list. Pure: no I/O.

Times are normalised to UTC with microseconds, so that they sort by time as text.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import itemgetter
from typing import Any, TypeVar

from support_service.core.clock import format_time
from support_service.core.domain.references import SourceReferences, SourceStatus
from support_service.core.domain.upstream_services import UpstreamService

Entry = dict[str, Any]
DatedEntry = tuple[str, Entry]
"""A timestamp, and the entry that has it."""
Merged = TypeVar("Merged")
# Of several cases the first of these counts.
STATUSES_WORST_FIRST = ("unavailable", "off", "stale", "cached", "fresh", "none")

MESSAGE_MEMBERS = (
    *("authorType", "authorId", "message", "attachmentUri", "attachmentIds", "sentiment", "metadata", "visibility"),
)
RECEIVED_LATE_AFTER = timedelta(minutes=5)  # beyond this, an entry says when it was received; clocks differ by less
ATTACHMENT_MEMBERS = ("filename", "uri", "visibility")


def context_entries(opened_at: str, context: Iterable[Mapping[str, Any]]) -> list[DatedEntry]:
    """Return the entries of a case's context.

    Every entry has `type` and `timestamp`; members but `origin` stay unchanged. An entry without a readable time gets
    `opened_at`, the time at which the case was opened.
    """
    dated = []
    for entry in context:
        at, kind = normalise_time(entry.get("timestamp")), entry.get("type")
        typed = dict(entry) | {"type": kind if isinstance(kind, str) and kind else "context"}
        dated.append((at or opened_at, make_entry("context", typed if at else typed | {"timestamp": opened_at})))
    return dated


def service_entries(
    opened_at: str, collected: Mapping[UpstreamService, Iterable[Mapping[str, Any]]]
) -> list[DatedEntry]:
    """Return the entries that each service gave; an entry without a time gets `opened_at`."""
    dated = []
    for service, entries in collected.items():
        for entry in entries:
            at = entry.get("timestamp")
            at = at if isinstance(at, str) else opened_at
            dated.append((at, make_entry(service, {**entry, "timestamp": at})))
    return dated


def message_entries(messages: Iterable[Mapping[str, Any]]) -> list[DatedEntry]:
    """Return the entries of messages, which have the members of the API; one that was sent elsewhere has that time."""
    return [_history_entry("conversation", message, MESSAGE_MEMBERS) for message in messages]


def attachment_entries(attachments: Iterable[Mapping[str, Any]]) -> list[DatedEntry]:
    """Return the entries of attachments, which have the members of the API."""
    return [_history_entry("attachment", attachment, ATTACHMENT_MEMBERS) for attachment in attachments]


def merge_by_time(*groups: Iterable[tuple[str, Merged]]) -> list[Merged]:
    """Return the second items of pairs, sorted by the first, the time; equal times keep the order of the groups."""
    return [item for _, item in sorted(chain(*groups), key=itemgetter(0))]


def references_not_asked_before(
    references_of_cases: Iterable[Mapping[UpstreamService, SourceReferences]],
) -> list[dict[UpstreamService, SourceReferences]]:
    """Return what to ask for each of several cases: no service of which an earlier case names all the objects."""
    asked: dict[UpstreamService, tuple[set[str], set[str]]] = {}
    to_ask: list[dict[UpstreamService, SourceReferences]] = []
    for of_case in references_of_cases:
        new = dict[UpstreamService, SourceReferences]()
        for service, references in of_case.items():
            ids, orders = asked.setdefault(service, (set(), set()))
            if not (ids.issuperset(references.ids) and orders.issuperset(references.of_orders)):
                new[service] = references
            ids.update(references.ids)
            orders.update(references.of_orders)
        to_ask.append(new)
    return to_ask


def merge_source_statuses(
    sources_of_cases: Iterable[Mapping[UpstreamService, SourceStatus]],
) -> dict[UpstreamService, SourceStatus]:
    """Return the freshness of each service's entries of several cases: the worst status, and the greatest age."""
    by_service: dict[UpstreamService, list[SourceStatus]] = {}
    for sources in sources_of_cases:
        for service, source in sources.items():
            by_service.setdefault(service, []).append(source)
    return {service: _worst_status(statuses) for service, statuses in by_service.items()}


def _worst_status(statuses: Iterable[SourceStatus]) -> SourceStatus:
    status = min((each["status"] for each in statuses), key=STATUSES_WORST_FIRST.index)
    ages = [each["ageSeconds"] for each in statuses if each["ageSeconds"] is not None]
    reasons = dict.fromkeys(each["reason"] for each in statuses if each["status"] == status and each["reason"])
    return SourceStatus(status=status, ageSeconds=max(ages, default=None), reason="; ".join(reasons) or None)


def make_entry(origin: str, members: Entry) -> Entry:
    """Return the entry with these members, whose `origin` nothing else can set. The members are changed."""
    members["origin"] = origin
    return members


def _history_entry(kind: str, row: Mapping[str, Any], members: Iterable[str]) -> DatedEntry:
    received = row["createdAt"]
    at = row.get("sentAt") or received
    entry = {"type": kind, "timestamp": at} | {name: row[name] for name in members}
    if at != received and abs(datetime.fromisoformat(at) - datetime.fromisoformat(received)) > RECEIVED_LATE_AFTER:
        entry["receivedAt"] = received
    return at, make_entry("case", entry)


def normalise_time(value: object) -> str | None:
    """Return a service's time, normalised; a time without an offset is read as UTC, and an invalid time gives None."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return format_time(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None
