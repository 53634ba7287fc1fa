"""What faults have in common, and faults of the upstream services, held for a block and repaired after it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.e2e.drill import TIME
from tests.e2e.drill.deployment import Deployment


@asynccontextmanager
async def repeatedly(operation: Callable[[], Awaitable[object]], interval: float) -> AsyncIterator[None]:
    """Repeat an operation for the length of a block; let the last repetition finish."""
    done = asyncio.Event()

    async def repeat() -> None:
        while not done.is_set():
            await operation()
            await asyncio.sleep(interval)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        done.set()
        await task


@asynccontextmanager
async def changed(part: object, **values: object) -> AsyncIterator[None]:
    """Change attributes for the length of a block."""
    usual = {name: getattr(part, name) for name in values}
    for name, value in values.items():
        setattr(part, name, value)
    yield
    for name, value in usual.items():
        setattr(part, name, value)


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


@asynccontextmanager
async def no_fault(_: Deployment) -> AsyncIterator[None]:
    yield
