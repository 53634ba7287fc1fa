"""Faults of clients, their access and their way to the service."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import aiohttp

from tests.e2e.drill.deployment import Deployment, Scenario
from tests.e2e.drill.fault import fault
from tests.e2e.drill.injection import changed, repeatedly
from tests.e2e.drill.load_balancer import NOTHING_IS_SERVED
from tests.e2e.drill.runbook_checks import Cause


@asynccontextmanager
async def tokens_are_emptied(deployment: Deployment) -> AsyncIterator[None]:
    usual = deployment.tokens.read_bytes()
    deployment.tokens.write_text('{"tokens": []}')
    yield
    deployment.tokens.write_bytes(usual)


@asynccontextmanager
async def keys_cannot_be_read(deployment: Deployment) -> AsyncIterator[None]:
    deployment.issuer.fail_with(503)
    yield
    deployment.issuer.heal()


@asynccontextmanager
async def keys_are_rotated_unseen(deployment: Deployment) -> AsyncIterator[None]:
    """The issuer signs with a new key, and the address of its keys does not answer."""
    deployment.issuer.add_key("new", "RSA", 2048)
    deployment.issuer.fail_with(503)
    async with changed(deployment.traffic, token=deployment.token("agents")):
        yield
    deployment.issuer.heal()


@asynccontextmanager
async def webhook_is_down(deployment: Deployment) -> AsyncIterator[None]:
    async with changed(deployment.receiver, webhook_status=500):
        yield


@asynccontextmanager
async def a_client_sends_invalid_cases(deployment: Deployment) -> AsyncIterator[None]:
    async with deployment.traffic.session() as session:

        async def send() -> None:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.post("/support/cases", json={"channel": "pigeon"}):
                    pass

        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(repeatedly(send, 0.15))
            yield


@asynccontextmanager
async def clients_send_too_much(deployment: Deployment) -> AsyncIterator[None]:
    async with changed(deployment.traffic, reads=100.0):
        yield


@asynccontextmanager
async def nothing_is_sent(deployment: Deployment) -> AsyncIterator[None]:
    """The way of clients to the service is interrupted; the probe's is not."""
    async with changed(deployment.traffic, cases=0.0, reads=0.0, uploads=0.0):
        yield


@asynccontextmanager
async def case_volume_is_high(deployment: Deployment) -> AsyncIterator[None]:
    async with changed(deployment.traffic, unread_cases=45.0):
        yield


@asynccontextmanager
async def no_cases_are_opened(deployment: Deployment) -> AsyncIterator[None]:
    async with changed(deployment.traffic, cases=0.0):
        yield


@asynccontextmanager
async def nothing_is_routed(deployment: Deployment) -> AsyncIterator[None]:
    """The load balancer answers every request with 404, as after a wrong change of its rules."""
    await deployment.load_balancer.start(deployment.replicas, NOTHING_IS_SERVED)
    yield
    await deployment.load_balancer.start(deployment.replicas)


FAULTS = (
    fault(
        "token file emptied",
        "SupportAccessRefused",
        tokens_are_emptied,
        Cause(3, "token file changed"),
    ),
    fault(
        "keys rotated while unreachable",
        "SupportAccessRefused",
        keys_are_rotated_unseen,
        Cause(3, "SUPPORT_JWT_KEYS can't be loaded"),
        scenario=Scenario(jwt=True),
    ),
    fault(
        "keys unreachable",
        "SupportAccessKeysStale[keys]",
        keys_cannot_be_read,
        Cause(2, "SUPPORT_JWT_KEYS can't be loaded"),
        scenario=Scenario(jwt=True),
    ),
    fault(
        "59 % of answers are 422",
        "SupportClientErrorsHigh",
        a_client_sends_invalid_cases,
        Cause(1, '"422".* [1-9]'),
    ),
    fault(
        "67 % of requests get 429",
        "SupportRequestsTurnedAway",
        clients_send_too_much,
        Cause(1, '"address"'),
        scenario=Scenario(settings={"SUPPORT_RATE_LIMIT_ADDRESS": "36/s"}),
    ),
    fault("many new cases", "SupportTicketTrafficAnomaly[spike]", case_volume_is_high, Cause(1, "email")),
    fault("no new cases", "SupportTicketTrafficAnomaly[silence]", no_cases_are_opened, Cause(1, "} 0$")),
    fault("no request", "SupportNoTraffic", nothing_is_sent, Cause(2, '"other"} 0$')),
    fault(
        "ingress answers 404",
        "SupportIngressFailing",
        nothing_is_routed,
        Cause(1, '"status": "404"'),
    ),
    fault(
        "webhook down",
        "SupportWebhooksFailing",
        webhook_is_down,
        Cause(2, "500"),
    ),
)
