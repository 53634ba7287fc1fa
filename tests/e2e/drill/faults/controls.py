"""What must raise no alert: nothing, a rollout, and a failover of the database."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.e2e.drill.deployment import Deployment
from tests.e2e.drill.fault import fault
from tests.e2e.drill.faults.database import database_fails_over
from tests.e2e.drill.faults.files import OFFLOADING
from tests.e2e.drill.faults.replicas import they_are_replaced_one_by_one


@asynccontextmanager
async def no_fault(_: Deployment) -> AsyncIterator[None]:
    yield


FAULTS = (
    fault("a healthy hour", "", no_fault, scenario=OFFLOADING),
    fault("a rolling restart", "", they_are_replaced_one_by_one),
    fault("a failover of the database", "", database_fails_over),
)
