"""Faults of the upstream services and their certificates, held for a block and repaired after it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.e2e.drill import TIME
from tests.e2e.drill.deployment import Deployment


@asynccontextmanager
async def order_hangs(deployment: Deployment) -> AsyncIterator[None]:
    release = deployment.orders.hang()
    yield
    release.set()
    deployment.orders.heal()


@asynccontextmanager
async def order_takes_over_two_seconds(deployment: Deployment) -> AsyncIterator[None]:
    release = deployment.orders.delay(2.2)
    yield
    release.set()
    deployment.orders.heal()


@asynccontextmanager
async def payment_fails(deployment: Deployment) -> AsyncIterator[None]:
    deployment.payments.fail_with(500)
    yield
    deployment.payments.heal()


@asynccontextmanager
async def payment_answers_are_invalid(deployment: Deployment) -> AsyncIterator[None]:
    deployment.payments.answer_with_document({"nonsense": True})
    yield
    deployment.payments.heal()


@asynccontextmanager
async def sources_are_down(deployment: Deployment) -> AsyncIterator[None]:
    for source in deployment.sources:
        source.drop()
    yield
    for source in deployment.sources:
        source.heal()


@asynccontextmanager
async def certificate_of_order_expires(deployment: Deployment) -> AsyncIterator[None]:
    deployment.order_tls.load_cert_chain(deployment.authority.issue(timedelta(days=-1)))
    yield
    deployment.order_tls.load_cert_chain(deployment.authority.issue(timedelta(days=90)))


@asynccontextmanager
async def certificate_of_order_is_old(deployment: Deployment) -> AsyncIterator[None]:
    deployment.order_tls.load_cert_chain(deployment.authority.issue(timedelta(days=10) / TIME))
    yield
    deployment.order_tls.load_cert_chain(deployment.authority.issue(timedelta(days=90)))
