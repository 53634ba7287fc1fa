"""The registry of timeline sources: the source of each upstream service, and what others need to know of all."""

from support_service.core.domain.upstream_services import OBJECTS, UpstreamService
from support_service.timeline.sources import fulfillment, orders, payments
from support_service.timeline.sources.base import Source

SOURCES: dict[UpstreamService, Source] = {
    source.service: source for source in (orders.SOURCE, payments.SOURCE, fulfillment.SOURCE)
}
# What analysts may see of entries: members with amounts of money, by entry type, and members whose values are masked.
AMOUNTS = {OBJECTS[source.service].kind: source.amounts for source in SOURCES.values() if source.amounts}
PERSONAL_MEMBERS = frozenset(member for source in SOURCES.values() for member in source.personal)
