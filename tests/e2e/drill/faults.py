"""Every fault of the drill: those of the signals, and the controls, which must raise no alert."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from observability.drill import TIME_DIVISOR, DrillFault
from observability.signals import SIGNALS
from observability.signals.attachment_offload_failing import OFFLOADING

from tests.e2e.drill.deployment import Deployment

FAILOVER = 40 / TIME_DIVISOR  # seconds


@asynccontextmanager
async def no_fault(_: Deployment) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def they_are_replaced_one_by_one(deployment: Deployment) -> AsyncIterator[None]:
    for replica in deployment.replicas:
        await replica.stop()
        await replica.start()
    yield


@asynccontextmanager
async def database_fails_over(deployment: Deployment) -> AsyncIterator[None]:
    await asyncio.to_thread(deployment.database.server.stop)
    await asyncio.sleep(FAILOVER)
    await deployment.database.start()
    yield


FAULTS = (
    *(fault for signal in SIGNALS for fault in signal.drills),
    DrillFault("a healthy hour", (), no_fault, scenario=OFFLOADING),
    DrillFault("a rolling restart", (), they_are_replaced_one_by_one),
    DrillFault("a failover of the database", (), database_fails_over),
)
