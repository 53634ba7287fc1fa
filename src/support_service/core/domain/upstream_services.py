"""The upstream services, by their declarations in sources/, and the lists of names that derive from these.

`SUPPORT_<NAME>_URL` is the setting with a service's base URL. This module imports no package, because the command
line's help reads it.
"""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Literal, TypeAlias

from support_service.core.domain import sources
from support_service.core.domain.source import Source


def _declared_sources() -> Iterable[Source]:
    """Yield the source of each module of sources/."""
    for module in iter_modules(sources.__path__, f"{sources.__name__}."):
        source: Source = import_module(module.name).SOURCE
        yield source


SOURCES = {
    source.service: source for source in sorted(_declared_sources(), key=lambda each: (each.place, each.service))
}
UPSTREAM_SERVICES = tuple(SOURCES)  # in the order of timelines and documents
SERVICE_BY_KIND = {source.kind: source.service for source in SOURCES.values()}
ENTRY_TYPES = tuple(entry_type for source in SOURCES.values() for entry_type in source.entry_types)
if TYPE_CHECKING:
    UpstreamService: TypeAlias = str
else:  # models accept the declared services only
    UpstreamService = Literal[UPSTREAM_SERVICES]
# Where a timeline entry comes from: the stored case, the context that a client gave, or an upstream service. We set it,
# whatever an entry says of itself.
ENTRY_ORIGINS = ("case", "context", *UPSTREAM_SERVICES)


def url_variable(service: UpstreamService) -> str:
    """Return the name of the setting with the base URL of a service."""
    return f"SUPPORT_{service.upper()}_URL"


def join_with_or(names: Iterable[str]) -> str:
    """Return names as text, such as `order, payment or shipment`."""
    *others, last = names
    return f"{', '.join(others)} or {last}"
