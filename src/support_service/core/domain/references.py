"""References of a case to upstream services: the ids in its context, and the status of each service's data.

A context is a list of JSON objects. An object whose `type` is the kind of a source refers to that service:
`{type: order, orderId|order_id|id}`, `{type: payment, paymentId|payment_id|id}`. Objects without an id of their own are
looked up by order.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from typing_extensions import TypedDict  # pydantic takes the standard one from Python 3.12 on only

from support_service.core.domain.upstream_services import SERVICE_BY_KIND, SOURCES, UpstreamService

MAX_REFERENCE_LENGTH = 200  # characters of an id


def _spellings(name: str) -> tuple[str, str]:
    """Return a member's name in camelCase and in snake_case."""
    return name, re.sub("[A-Z]", lambda capital: f"_{capital[0].lower()}", name)


# The two names of each id in a context entry, by its kind: names of the services, and names that only one service has.
ID_NAMES_BY_KIND: dict[str, tuple[str, ...]] = {kind: _spellings(f"{kind}Id") for kind in SERVICE_BY_KIND}
OTHER_ID_NAMES_BY_KIND: dict[str, dict[str, tuple[str, ...]]] = {
    source.kind: {kind: _spellings(name) for name, kind in source.other_ids.items()} for source in SOURCES.values()
}
NAME_BY_REFERENCE_KIND = {kind: names[0] for kind, names in ID_NAMES_BY_KIND.items()} | {
    kind: names[0] for others in OTHER_ID_NAMES_BY_KIND.values() for kind, names in others.items()
}
"""The name of each kind of `reference_rows`, such as `orderId`."""
ID_NAME_PAIRS = (
    *ID_NAMES_BY_KIND.values(),
    *(names for others in OTHER_ID_NAMES_BY_KIND.values() for names in others.values()),
)
# Every name of every id in an entry, by the kind of the entry and of the id.
ID_NAMES_IN_ENTRY: dict[str, dict[str, tuple[str, ...]]] = {
    kind: ID_NAMES_BY_KIND | {kind: (*ID_NAMES_BY_KIND[kind], "id")} | OTHER_ID_NAMES_BY_KIND[kind]
    for kind in SERVICE_BY_KIND
}


class SourceStatus(TypedDict):
    """The freshness of a service's part of a timeline.

    Each value says where the part comes from:

    - `fresh`: from a new call
    - `cached`: from an earlier call
    - `stale`: an expired earlier answer, because the call failed or the source is switched off
    - `unavailable`: the call failed, and the part is incomplete
    - `off`: not configured
    - `none`: the case has no reference, or this response asked no service

    The age is in seconds.
    """

    status: Literal["fresh", "cached", "stale", "unavailable", "off", "none"]
    ageSeconds: float | None
    reason: str | None


class SourceReferences(NamedTuple):  # a frozen dataclass takes three times as long to make
    """The objects that a case needs from one service: by their own ids, and by the ids of their orders."""

    ids: tuple[str, ...] = ()
    of_orders: tuple[str, ...] = ()


def references_by_service(context: Iterable[Mapping[str, Any]]) -> dict[UpstreamService, SourceReferences]:
    """Return the ids to request from each service, without duplicates and in the context's order.

    Services that the context does not refer to are left out.
    """
    ids: dict[str, dict[str, None]] = {kind: {} for kind in SERVICE_BY_KIND}
    of_orders: dict[str, dict[str, None]] = {kind: {} for kind in SERVICE_BY_KIND}
    for entry in context:
        kind = _referenced_kind(entry)
        if kind is None:
            continue
        own = _first_id(entry, *ID_NAMES_IN_ENTRY[kind][kind])
        order = _first_id(entry, *ID_NAMES_BY_KIND["order"])
        if own:
            ids[kind][own] = None
        elif order:
            of_orders[kind][order] = None
    found: dict[UpstreamService, SourceReferences] = {}
    for kind, service in SERVICE_BY_KIND.items():
        # Objects without an id or order in their context entries are looked up by the case's orders.
        orders = of_orders[kind] or ({} if ids[kind] or kind == "order" else ids["order"])
        if ids[kind] or orders:
            found[service] = SourceReferences(tuple(ids[kind]), tuple(orders))
    return found


def reference_rows(context: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (kind, value) of every id in a context, without duplicates: the index rows by which events find cases.

    An object that refers to a service may name the ids of other services too, such as the order of a payment. Other ids
    of an object have kinds of their own: the tracking number of a shipment has the kind `tracking`.
    """
    named: dict[tuple[str, str], None] = {}
    for entry in context:
        for kind, names in ID_NAMES_IN_ENTRY.get(_referenced_kind(entry) or "", {}).items():
            if found := _first_id(entry, *names):
                named[kind, found] = None
    return list(named)


def contradicting_id_names(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names under which an object of a context has two different values for one id.

    Only objects that refer to a service are looked at: in others a client may name its members as it likes.
    """
    if _referenced_kind(entry) is None:
        return
    for name, other in ID_NAME_PAIRS:
        first, second = entry.get(name), entry.get(other)
        if first is not None and second is not None and _id_as_text(first) != _id_as_text(second):
            yield name, other


def _referenced_kind(entry: Mapping[str, Any]) -> str | None:
    """Return the kind of the objects that an object of a context refers to, or None if it refers to no service."""
    kind = entry.get("type")
    return kind if isinstance(kind, str) and kind in SERVICE_BY_KIND else None


def _first_id(entry: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of an object's members that is an id, or None."""
    for name in names:
        if name in entry and (found := _id_as_text(entry[name])):
            return found
    return None


def _id_as_text(value: object) -> str | None:
    """Return an id as text, or None if the value can't be an id. Texts and integers can; booleans and containers can't.

    Blank texts and texts over MAX_REFERENCE_LENGTH characters can't be ids either.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if text.strip() and len(text) <= MAX_REFERENCE_LENGTH else None
