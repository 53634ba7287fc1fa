"""What the service does by itself with its files, and when."""

import asyncio

from support_service.attachments.maintenance.jobs import (
    FIRST_RECONCILE_DELAY,
    RECONCILE_INTERVAL,
    AttachmentMaintenance,
)
from support_service.platform.background import run_in_background
from support_service.platform.settings import Settings
from tests.support.calls import GENEROUS_TIMEOUT, eventually, open_case, stored_files, upload
from tests.support.scrape import Scrape
from tests.support.service import service_of

UNREPAIRED = "support_attachment_unrepaired"


async def test_first_reconcile_runs_minutes_after_the_start(harness, monkeypatch):
    """A process that lives for less than an hour runs it too, and replicas do not run it at the same time."""
    pauses, resume = [], asyncio.sleep

    async def sleep(seconds):
        pauses.append(seconds)
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", sleep)
    kept = AttachmentMaintenance(harness.database, harness.storages, harness.instruments, Settings.load({}))
    for _ in range(10):
        async with run_in_background(*kept.jobs()):
            await resume(0)
    soonest, latest = FIRST_RECONCILE_DELAY
    first = [seconds for seconds in pauses if soonest <= seconds <= latest]
    assert latest < RECONCILE_INTERVAL
    assert RECONCILE_INTERVAL not in pauses
    assert len(first) == len(set(first)) == 10


async def test_missing_files_gauge_has_no_value_before_the_first_reconcile(make_client, attachment_dir, constants):
    """A new process must not report 0 for what another one found missing."""
    client = await make_client()
    await upload(client, await open_case(client))
    assert Scrape(service_of(client).metrics).label_sets(UNREPAIRED) == []
    for file in stored_files(attachment_dir):
        file.unlink()
    swept = await restarted(client, make_client, constants, first=0.0)
    await eventually(lambda: swept.label_sets(UNREPAIRED) != [], 6 * GENEROUS_TIMEOUT)
    assert swept.nonzero(UNREPAIRED) == {"missing": 1}
    assert (await restarted(client, make_client, constants, first=3600.0)).label_sets(UNREPAIRED) == []


async def restarted(client, make_client, constants, *, first):
    """The metrics of a process that takes a client's service's place, and sweeps first after so many seconds."""
    await client.close()
    constants("attachments.maintenance.jobs", FIRST_RECONCILE_DELAY=(first, first))
    return Scrape(service_of(await make_client()).metrics)
