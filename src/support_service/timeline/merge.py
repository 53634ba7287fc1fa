"""The merge of timeline entries into one list. Pure: no I/O.

Times are normalised to UTC with microseconds, so that they sort by time as text.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

Entry = dict[str, Any]


class TimelineMessage(Protocol):
    """The attributes of a message that the merge needs."""

    author_type: Any
    message: str
    attachment_uri: str | None
    sentiment: str | None
    metadata: dict[str, Any] | None
    visibility: Any
    created_at: datetime


class TimelineAttachment(Protocol):
    """The attributes of an attachment that the merge needs."""

    filename: str
    uri: str
    visibility: Any
    created_at: datetime


def merge_entries(
    opened_at: datetime,
    context: Iterable[Mapping[str, Any]],
    collected: Iterable[Mapping[str, Any]],
    messages: Iterable[TimelineMessage],
    attachments: Iterable[TimelineAttachment],
) -> list[Entry]:
    """Return all entries as one list, sorted by `timestamp`; entries of the same time keep the order of the parameters.

    Every entry has `type` and `timestamp`. Other members of a context entry stay unchanged. A context entry without a
    readable time, or a service's entry without a time, gets the time at which the case was opened.
    """
    opening = format_time(opened_at)
    dated: list[tuple[str, Entry]] = []
    for context_entry in context:
        at = normalise_time(context_entry.get("timestamp"))
        kind = context_entry.get("type")
        entry = dict(context_entry) | {"type": kind if isinstance(kind, str) and kind else "context"}
        dated.append((at or opening, entry if at else entry | {"timestamp": opening}))
    for source_entry in collected:
        at = source_entry.get("timestamp")
        at = at if isinstance(at, str) else opening
        dated.append((at, {**source_entry, "timestamp": at}))
    for message in messages:
        at = format_time(message.created_at)
        dated.append(
            (
                at,
                {
                    "type": "conversation",
                    "timestamp": at,
                    "authorType": message.author_type,
                    "message": message.message,
                    "attachmentUri": message.attachment_uri,
                    "sentiment": message.sentiment,
                    "metadata": message.metadata,
                    "visibility": message.visibility,
                },
            )
        )
    for attachment in attachments:
        at = format_time(attachment.created_at)
        dated.append(
            (
                at,
                {
                    "type": "attachment",
                    "timestamp": at,
                    "filename": attachment.filename,
                    "uri": attachment.uri,
                    "visibility": attachment.visibility,
                },
            )
        )
    dated.sort(key=_sort_key)
    return [entry for _, entry in dated]


def format_time(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC with microseconds, in the form of timeline entries."""
    written = moment.isoformat(timespec="microseconds")
    if not written.endswith("+00:00"):  # most times are in UTC already, and converting costs more than formatting
        written = moment.astimezone(UTC).isoformat(timespec="microseconds")
    return f"{written[:-6]}Z"


def _sort_key(dated: tuple[str, Entry]) -> str:
    return dated[0]


def normalise_time(value: object) -> str | None:
    """Return a service's time, normalised; a time without an offset is read as UTC, and an invalid time gives None."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return format_time(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None
