"""The cases component: the case service, the handler of other services' events, and masking."""

import os
import secrets
from collections.abc import AsyncIterator

from aiohttp import web

from support_service.cases.gauges import CaseGauges, GaugeTimings
from support_service.cases.inbound_handler import InboundEventHandler
from support_service.cases.masking import CaseMasker
from support_service.cases.service import CaseService
from support_service.core.background import run_every, run_in_background
from support_service.database.component import DATABASE
from support_service.events.component import APPLY_EVENT
from support_service.telemetry.component import INSTRUMENTS

CASES = web.AppKey("cases", CaseService)
CASE_MASKER = web.AppKey("case_masker", CaseMasker)


def setup(app: web.Application, masking_key: str | None, timings: GaugeTimings) -> None:
    """Add the case service. Without a masking key, pseudonyms differ between replicas and restarts."""
    app[CASE_MASKER] = CaseMasker(os.fsencode(masking_key or secrets.token_hex()))

    async def run(app: web.Application) -> AsyncIterator[None]:
        database, instruments = app[DATABASE], app[INSTRUMENTS]
        app[CASES] = CaseService(database, instruments)
        app[APPLY_EVENT] = InboundEventHandler(database, instruments).apply
        gauges = CaseGauges(database, instruments, timings)
        await gauges.refresh()
        async with run_in_background(run_every(timings.refresh_interval, gauges.refresh, "Counting open cases")):
            yield

    app.cleanup_ctx.append(run)
