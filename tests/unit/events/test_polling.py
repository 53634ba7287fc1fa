"""Polling backs off after failures, and reports an outage for as long as it lasts."""

import asyncio
import logging
from types import SimpleNamespace

from support_service.core.clock import Backoff
from support_service.events.broker.base import OUTAGES, BrokerError
from support_service.platform.background import Job, run_in_background
from support_service.platform.telemetry import logs

MINUTES = 3


async def test_outage_is_logged_once_a_minute(monkeypatch, caplog):
    now, attempts, recovered = [0.0], [], asyncio.Event()
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: now[0]))

    async def work():
        attempts.append(1)
        now[0] += logs.REPORT_INTERVAL / 2
        if len(attempts) <= 2 * MINUTES:
            raise BrokerError("Redis failed") from ConnectionRefusedError("refused")
        if len(attempts) > 2 * MINUTES + 1:
            recovered.set()

    with caplog.at_level(logging.INFO, "support_service.platform"), caplog.filtering(logs.RateLimitFilter()):
        job = Job("Publishing events", 0, work)
        async with run_in_background(job.run_with_backoff(Backoff(0.001, 0.001), OUTAGES)):
            await recovered.wait()
    *interruptions, last = [record.getMessage() for record in caplog.records]
    started = "Publishing events is interrupted and is retried: Redis failed: ConnectionRefusedError: refused at "
    assert [line.startswith(started) for line in interruptions] == [True] * MINUTES
    assert ["(1 more since" in line for line in interruptions] == [False] + [True] * (MINUTES - 1)
    assert last == "Publishing events continues"
