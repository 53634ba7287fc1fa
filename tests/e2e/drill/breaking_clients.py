"""Faults of clients, webhooks, the database and monitoring, held for a block and repaired after it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp

from tests.e2e.drill import EVALUATION
from tests.e2e.drill.breaking import consumer_may_not_read, repeatedly
from tests.e2e.drill.environment import DrillEnvironment

NOBODY = "127.0.0.1:9"  # the port that discards; nothing listens there


@asynccontextmanager
async def database_refuses_cases(environment: DrillEnvironment) -> AsyncIterator[None]:
    """No case can be added, as after a restore with other permissions; reads succeed."""
    await environment.service.change_database(
        "CREATE TRIGGER drill BEFORE INSERT ON tickets BEGIN SELECT RAISE(ABORT, 'a drill'); END"
    )
    yield
    await environment.service.change_database("DROP TRIGGER drill")


@asynccontextmanager
async def webhook_is_down(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.receiver.webhook_status = 500
    yield
    environment.receiver.webhook_status = 204


@asynccontextmanager
async def a_client_sends_invalid_cases(environment: DrillEnvironment) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(environment.service.address) as session:

        async def send() -> None:
            with suppress(aiohttp.ClientError):
                async with session.post("/support/cases", json={"channel": "pigeon"}):
                    pass

        async with repeatedly(send, 0.1):
            yield


@asynccontextmanager
async def clients_send_too_much(environment: DrillEnvironment) -> AsyncIterator[None]:
    environment.traffic.reads = 100.0
    yield
    environment.traffic.reads = 8.0


@asynccontextmanager
async def nothing_is_sent(environment: DrillEnvironment) -> AsyncIterator[None]:
    """The way of clients to the service is interrupted; the probe's is not."""
    traffic = environment.traffic
    usual = (traffic.cases, traffic.reads, traffic.uploads)
    traffic.cases = traffic.reads = traffic.uploads = 0.0
    yield
    traffic.cases, traffic.reads, traffic.uploads = usual


@asynccontextmanager
async def scrapes_are_blocked(environment: DrillEnvironment) -> AsyncIterator[None]:
    await environment.monitoring.scrape("support-service", [NOBODY])
    yield
    await environment.monitoring.scrape("support-service", [environment.service.target])


@asynccontextmanager
async def a_replica_is_down(environment: DrillEnvironment) -> AsyncIterator[None]:
    """A second replica is to answer, and does not."""
    await environment.monitoring.scrape("support-service", [environment.service.target, NOBODY])
    yield
    await environment.monitoring.scrape("support-service", [environment.service.target])


@asynccontextmanager
async def probe_fails_at_times(environment: DrillEnvironment) -> AsyncIterator[None]:
    """The consumer may not read for every other three runs."""

    async def refuse_for_a_while() -> None:
        async with consumer_may_not_read(environment):
            await asyncio.sleep(3 * EVALUATION)

    async with repeatedly(refuse_for_a_while, 3 * EVALUATION):
        yield
