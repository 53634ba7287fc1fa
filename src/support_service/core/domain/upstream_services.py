"""The upstream services, each in one row: its name, and what refers to its objects. Everything else derives from it.

`SUPPORT_<NAME>_URL` is the setting with a service's base URL, `timeline/sources/` its client side. This module imports
no package, because the command line's help reads it.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple, get_args

UpstreamService = Literal["order", "payment", "fulfillment"]
UPSTREAM_SERVICES: tuple[UpstreamService, ...] = get_args(UpstreamService)  # in the order of timelines and documents


class ServiceObjects(NamedTuple):
    """The objects of a service that cases refer to, and the entries that they give a timeline."""

    kind: str  # `type` of the context entries that refer to one; its id is in `<kind>Id` or `id`
    entry_types: tuple[str, ...]  # `type` of the timeline entries about it


OBJECTS: dict[UpstreamService, ServiceObjects] = {
    "order": ServiceObjects("order", ("order", "order-event")),
    "payment": ServiceObjects("payment", ("payment",)),
    "fulfillment": ServiceObjects("shipment", ("shipment",)),
}
SERVICE_BY_KIND: dict[str, UpstreamService] = {objects.kind: service for service, objects in OBJECTS.items()}
ENTRY_TYPES = tuple(entry_type for objects in OBJECTS.values() for entry_type in objects.entry_types)
EntryOrigin = Literal["case", "context"] | UpstreamService
"""Where a timeline entry comes from: the stored case, the context that a client gave, or an upstream service.

The service sets it, whatever an entry says of itself.
"""
ENTRY_ORIGINS: tuple[EntryOrigin, ...] = ("case", "context", *UPSTREAM_SERVICES)


def url_variable(service: UpstreamService) -> str:
    """Return the name of the setting with the base URL of a service."""
    return f"SUPPORT_{service.upper()}_URL"


def any_of(names: Iterable[str]) -> str:
    """Return names as text, such as `order, payment or shipment`."""
    *others, last = names
    return f"{', '.join(others)} or {last}"
