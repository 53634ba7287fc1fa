"""Faults of replicas, their hosts and their rollout, held for a block and repaired after it."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from tests.e2e.drill import EVALUATION, TIME
from tests.e2e.drill.database import ROLE
from tests.e2e.drill.deployment import Deployment, Scenario
from tests.e2e.drill.fault import fault
from tests.e2e.drill.injection import changed, repeatedly
from tests.e2e.drill.runbook_checks import Cause

MINUTES_OFF = 10
MANIPULATED = Scenario(manipulated=True)


@asynccontextmanager
async def one_freezes(deployment: Deployment) -> AsyncIterator[None]:
    deployment.replicas[-1].freeze()
    yield
    deployment.replicas[-1].thaw()


@asynccontextmanager
async def one_is_killed(deployment: Deployment) -> AsyncIterator[None]:
    deployment.replicas[-1].kill()
    yield
    await deployment.replicas[-1].start()


@asynccontextmanager
async def all_are_killed(deployment: Deployment) -> AsyncIterator[None]:
    for replica in deployment.replicas:
        replica.kill()
    yield
    await asyncio.gather(*(replica.start() for replica in deployment.replicas))


@asynccontextmanager
async def one_crashes_again_and_again(deployment: Deployment) -> AsyncIterator[None]:
    crashing = deployment.replicas[-1]

    async def crash() -> None:
        crashing.kill()
        await crashing.start()

    async with repeatedly(crash, 1.5 * EVALUATION):  # long enough that an evaluation sees each start
        yield


@asynccontextmanager
async def one_lacks_cpu(deployment: Deployment) -> AsyncIterator[None]:
    async def throttle() -> None:
        deployment.replicas[-1].freeze()
        try:
            await asyncio.sleep(0.36)  # shorter than the scrape timeout of 0.5 s
        finally:
            deployment.replicas[-1].thaw()

    async with repeatedly(throttle, 0.44):
        yield


@asynccontextmanager
async def one_has_a_wrong_clock(deployment: Deployment) -> AsyncIterator[None]:
    deployment.clock.write_text(f"-{MINUTES_OFF * 60 / TIME:g}s")
    yield
    deployment.clock.write_text("+0s")


@asynccontextmanager
async def one_lacks_its_volume(deployment: Deployment) -> AsyncIterator[None]:
    """Files of one replica can't be written; the alert counts failures, so many come."""
    deployment.volume.unlink()
    deployment.volume.write_text("no folder")
    async with changed(deployment.traffic, uploads=10.0):
        yield
    deployment.volume.unlink()
    deployment.volume.symlink_to(deployment.files)


@asynccontextmanager
async def one_runs_out_of_descriptors(deployment: Deployment) -> AsyncIterator[None]:
    process = psutil.Process(deployment.replicas[-1].process.pid)
    _, most = usual = process.rlimit(resource.RLIMIT_NOFILE)
    process.rlimit(resource.RLIMIT_NOFILE, (process.num_fds() + 1, most))
    yield
    process.rlimit(resource.RLIMIT_NOFILE, usual)


@asynccontextmanager
async def a_new_one_does_not_start(deployment: Deployment) -> AsyncIterator[None]:
    """A rollout adds a replica whose role the database does not know, and which ends at its start."""
    new = deployment.new_replica()
    new.environment["SUPPORT_DATABASE_URL"] = deployment.database.url.replace(ROLE, "nobody", 1)
    new.spawn()
    await _use_all(deployment)
    yield
    new.kill()
    deployment.replicas.remove(new)
    await _use_all(deployment)


@asynccontextmanager
async def one_does_not_end(deployment: Deployment) -> AsyncIterator[None]:
    """A rollout stops a replica, which reports that it is not ready and does not end."""
    deployment.replicas[-1].process.terminate()
    yield
    deployment.replicas[-1].kill()
    await deployment.replicas[-1].start()


@asynccontextmanager
async def they_are_replaced_one_by_one(deployment: Deployment) -> AsyncIterator[None]:
    for replica in deployment.replicas:
        await replica.stop()
        await replica.start()
    yield


async def _use_all(deployment: Deployment) -> None:
    """Send requests to every replica, and scrape every one."""
    await deployment.load_balancer.start(deployment.replicas)
    await deployment.monitoring.scrape("support-service", deployment.targets)


FAULTS = (
    fault("a replica frozen", "SupportReplicaDown", one_freezes, Cause(1, '"REPLICA".* 0$')),
    fault("a replica killed", "SupportReplicaDown", one_is_killed, Cause(1, '"REPLICA".* 0$')),
    fault(
        "a replica crashes again and again",
        "SupportRestartLoop",
        one_crashes_again_and_again,
        Cause(1, '"REPLICA".* [3-9]$'),
        resolved_within=16,  # the window of the alert
    ),
    fault(
        "clock of a replica 10 min off",
        "SupportClockOffset",
        one_has_a_wrong_clock,
        Cause(1, '"REPLICA".* -[1-9]'),
        scenario=MANIPULATED,
    ),
    fault(
        "a replica lacks CPU",
        "SupportEventLoopLag",
        one_lacks_cpu,
        Cause(1, r'"REPLICA".* 0\.[2-9]'),
    ),
    fault(
        "a replica without its volume",
        "SupportUploadsRefused SupportApiErrorBudgetBurnFast",
        one_lacks_its_volume,
        Cause(1, '"REPLICA".*storage_unavailable'),
        scenario=MANIPULATED,
        resolved_within=8,  # the alert is kept for longer than others
    ),
    fault(
        "a replica out of file descriptors",
        "SupportReplicaSaturated",
        one_runs_out_of_descriptors,
        Cause(2, r'"REPLICA".* (0\.9|1)'),
    ),
    fault(
        "a new replica does not start",
        "SupportReplicaDown",
        a_new_one_does_not_start,
        Cause(3, 'role "nobody" does not exist'),
        resolved_within=12,  # Prometheus takes 5 s to forget a target
    ),
    fault(
        "a replica never ready",
        "SupportReplicaNotReady",
        one_does_not_end,
        Cause(2, '"REPLICA".* 0$'),
        scenario=MANIPULATED,
    ),
    fault("all replicas killed", "SupportServiceDown", all_are_killed, Cause(1, "^$")),
)
