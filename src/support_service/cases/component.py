"""The cases component: the case service, the handler of other services' events, and masking."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from aiohttp import web

from support_service.cases.clocks.component import CLOCK_TRACKER
from support_service.cases.erasure import event_rules
from support_service.cases.gauges import CaseGauges, GaugeTimings
from support_service.cases.inbound_handler import InboundEventHandler
from support_service.cases.links import LinkService
from support_service.cases.masking import Masker
from support_service.cases.recorder import CaseChannels, CaseRecorder
from support_service.cases.search_repair import SearchRepair, SearchRepairTimings
from support_service.cases.service import CaseLimits, CaseService
from support_service.events.component import INBOUND_EVENT_APPLIER
from support_service.platform.background import run_every, run_in_background
from support_service.platform.database.component import DATABASE
from support_service.platform.settings.process import CaseSettings
from support_service.platform.telemetry.component import INSTRUMENTS

CASE_SERVICE = web.AppKey("case_service", CaseService)
LINK_SERVICE = web.AppKey("link_service", LinkService)
MASKER = web.AppKey("masker", Masker)


@dataclass(frozen=True, slots=True)
class CaseTimings:
    """Intervals and limits of the cases component."""

    gauges: GaugeTimings = field(default_factory=GaugeTimings)
    search_repair: SearchRepairTimings = field(default_factory=SearchRepairTimings)
    limits: CaseLimits = field(default_factory=CaseLimits)


def setup(app: web.Application, settings: CaseSettings, masker: Masker, timings: CaseTimings) -> None:
    """Add the case service, and the masker of what analysts read."""
    app[MASKER] = masker
    event_rules()  # a field of an event without a rule stops the start

    async def run(app: web.Application) -> AsyncIterator[None]:
        database, instruments = app[DATABASE], app[INSTRUMENTS]
        channels = CaseChannels(settings.known_channels, settings.synthetic_channels)
        limits = replace(timings.limits, customers_set_priority=settings.customers_set_priority)
        app[CASE_SERVICE] = CaseService(database, instruments, limits, channels, app[CLOCK_TRACKER])
        app[LINK_SERVICE] = LinkService(database, instruments, app[CLOCK_TRACKER])
        app[INBOUND_EVENT_APPLIER] = InboundEventHandler(database, CaseRecorder(instruments, app[CLOCK_TRACKER])).apply
        gauges = CaseGauges(database, instruments, timings.gauges)
        await gauges.refresh()
        repair = SearchRepair(database, timings.search_repair)
        counting = run_every(timings.gauges.refresh_interval, gauges.refresh, "Counting open cases")
        repairing = run_every(timings.search_repair.interval, repair.run, "Making missing search documents")
        async with run_in_background(counting), run_in_background(repairing):
            yield

    app.cleanup_ctx.append(run)
