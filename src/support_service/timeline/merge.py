"""Timeline entries: their forms, and their merge into one list. Pure: no I/O.

Each reader turns an upstream service's answer (parsed JSON) into entries, and raises ContractViolation if the answer
does not match the contract. Times are normalised to UTC with microseconds, so that they sort by time as text.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

Entry = dict[str, Any]


class ContractViolation(ValueError):
    """An upstream answer that does not match the contract."""


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


def read_order(answer: object) -> list[Entry]:
    """Read an order of the order service: `{id, status, grandTotal, createdAt, updatedAt}`."""
    found = _require_object(answer, "an order")
    return [
        {
            "type": "order",
            "timestamp": _updated_at(found),
            "source": "order-service",
            "orderId": _require(found, "id", "an order"),
            "status": found.get("status"),
            "total": found.get("grandTotal"),
        }
    ]


def order_events(answer: object) -> list[Entry]:
    """Read the events of an order from the order service: `[{type, payload, createdAt}]`."""
    return [
        {
            "type": "order-event",
            "timestamp": _normalise_time(event.get("createdAt")),
            "eventType": event.get("type"),
            "payload": event.get("payload"),
        }
        for event in _require_objects(answer, "order events")
    ]


def payment(answer: object) -> list[Entry]:
    """Read a payment of the payment service: `{id, orderId, status, amount, createdAt, updatedAt}`."""
    found = _require_object(answer, "a payment")
    return [
        {
            "type": "payment",
            "timestamp": _updated_at(found),
            "source": "payment-service",
            "paymentId": _require(found, "id", "a payment"),
            "orderId": found.get("orderId"),
            "status": found.get("status"),
            "amount": found.get("amount"),
        }
    ]


def shipment(answer: object) -> list[Entry]:
    """Read a shipment of the fulfillment service: `{id, orderId, status, trackingNumber, createdAt, updatedAt}`."""
    found = _require_object(answer, "a shipment")
    return [
        {
            "type": "shipment",
            "timestamp": _updated_at(found),
            "source": "fulfillment-service",
            "shipmentId": _require(found, "id", "a shipment"),
            "orderId": found.get("orderId"),
            "status": found.get("status"),
            "trackingNumber": found.get("trackingNumber"),
        }
    ]


def page_reader(read: Callable[[object], list[Entry]]) -> Callable[[object], list[Entry]]:
    """Return a reader of a page `{items: […]}`, which reads each item with `read`."""

    def read_page(answer: object) -> list[Entry]:
        items = _require(_require_object(answer, "a page"), "items", "a page")
        return [entry for item in _require_objects(items, "items of a page") for entry in read(item)]

    return read_page


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
        at = _normalise_time(context_entry.get("timestamp"))
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


def _normalise_time(value: object) -> str | None:
    """Return a service's time, normalised; a time without an offset is read as UTC, and an invalid time gives None."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return format_time(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def _updated_at(found: Mapping[str, Any]) -> str | None:
    return _normalise_time(found.get("updatedAt")) or _normalise_time(found.get("createdAt"))


def _require_object(answer: object, what: str) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise ContractViolation(f"{what} must be an object")
    return answer


def _require_objects(answer: object, what: str) -> Sequence[Mapping[str, Any]]:
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        raise ContractViolation(f"{what} must be a list of objects")
    return answer


def _require(found: Mapping[str, Any], name: str, what: str) -> Any:
    if found.get(name) is None:
        raise ContractViolation(f"{what} has no {name}")
    return found[name]
