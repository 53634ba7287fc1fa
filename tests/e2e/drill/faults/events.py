"""Faults of events, service levels and the audit log, held for a block and repaired after it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import redis.asyncio as redis

from tests.e2e.drill.database import ROLE
from tests.e2e.drill.deployment import Deployment, Scenario
from tests.e2e.drill.fault import PROBE, fault
from tests.e2e.drill.injection import repeatedly
from tests.e2e.drill.runbook_checks import Cause

INBOUND = "support.inbound"


@asynccontextmanager
async def events_redis_is_down(deployment: Deployment) -> AsyncIterator[None]:
    deployment.events.kill()
    yield
    await asyncio.to_thread(deployment.events.start)


@asynccontextmanager
async def command_is_refused(command: str, deployment: Deployment) -> AsyncIterator[None]:
    """Redis refuses a command, as after a wrong change of user permissions."""
    async with redis.Redis.from_url(deployment.events_url) as client:
        await client.execute_command("ACL", "SETUSER", "default", f"-{command}")
        yield
        await client.execute_command("ACL", "SETUSER", "default", f"+{command}")


streams_are_not_fed = partial(command_is_refused, "xread")  # it follows the published events
consumer_may_not_read = partial(command_is_refused, "xreadgroup")


@asynccontextmanager
async def consumer_is_stuck(deployment: Deployment) -> AsyncIterator[None]:
    data = {"orderId": "ORD-1", "status": "in_transit"}
    event = {"specversion": "1.0", "source": "/fulfillment", "type": "fulfillment.shipment.updated.v1", "data": data}
    async with consumer_may_not_read(deployment), redis.Redis.from_url(deployment.events_url) as client:
        for number in range(300):
            await client.xadd(INBOUND, {"event": json.dumps(event | {"id": f"e-{number}"})})
        yield


@asynccontextmanager
async def event_is_invalid(deployment: Deployment) -> AsyncIterator[None]:
    async with redis.Redis.from_url(deployment.events_url) as client:
        await client.xadd(INBOUND, {"event": "no event"})
    yield
    (letter,) = map(json.loads, (await deployment.run("events", "dead-letters", "list")).splitlines())
    await deployment.run("events", "dead-letters", "drop", letter["id"])


@asynccontextmanager
async def sealing_is_refused(deployment: Deployment) -> AsyncIterator[None]:
    """The head of the audit chain can't be updated, as after a restore with other permissions; changes succeed."""
    await deployment.database.run(f"REVOKE UPDATE ON audit_head FROM {ROLE}")
    yield
    await deployment.database.run(f"GRANT UPDATE ON audit_head TO {ROLE}")


@asynccontextmanager
async def answers_come_late(deployment: Deployment) -> AsyncIterator[None]:
    """No agent answers in time; after the block the waiting cases count as answered."""
    await deployment.traffic.promise_answers()
    async with repeatedly(partial(deployment.traffic.open_case, read=False, tags=["promised"]), 0.25):
        yield
    await deployment.database.run("UPDATE case_clocks SET state = 'met' WHERE state = 'running'")


@asynccontextmanager
async def breaches_are_not_reported(deployment: Deployment) -> AsyncIterator[None]:
    """The state of a clock can't be set to breached, as after a restore with other permissions."""
    refuse = "IF new.state = 'breached' THEN RAISE EXCEPTION 'a drill'; END IF"
    async with deployment.database.trigger("BEFORE UPDATE ON case_clocks", refuse):
        await deployment.traffic.promise_answers()
        await deployment.traffic.open_case(tags=["promised"])
        yield


FAULTS = (
    fault(
        "relay stuck",
        "SupportRedisFailing SupportOutboxStalled",
        events_redis_is_down,
        Cause(1, "refused"),
        scenario=Scenario(separate_events_redis=True),
    ),
    fault("streams not fed", "SupportStreamLagHigh", streams_are_not_fed, Cause(3, "NOPERM")),
    fault(
        "consumer stuck",
        f"SupportEventsConsumerStalled {PROBE}",
        consumer_is_stuck,
        Cause(3, "Consuming events is interrupted.*permission|Consuming events"),
    ),
    fault("invalid event", "SupportEventsDeadLettered", event_is_invalid, Cause(1, '"reason"')),
    fault(
        "audit log not sealed",
        "SupportAuditUnsealed",
        sealing_is_refused,
        Cause(3, "InsufficientPrivilege"),
    ),
    fault("answers come late", "SupportSlaBreaching", answers_come_late, Cause(1, '"firstResponse"')),
    fault(
        "breaches not reported",
        "SupportSlaClockStalled",
        breaches_are_not_reported,
        Cause(2, "Reporting breaches of service levels failed"),
    ),
)
