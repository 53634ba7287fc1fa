"""Faults of the upstream services and their certificates, held for a block and repaired after it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from support_service.core.domain.upstream_services import UPSTREAM_SERVICES
from tests.e2e.drill import TIME
from tests.e2e.drill.deployment import Deployment, Scenario
from tests.e2e.drill.fault import PROBE, TIMELINE_BURN, fault
from tests.e2e.drill.runbook_checks import Cause

DOWN = "SupportTimelineSourceDown"


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
    for source in deployment.sources.values():
        source.drop()
    yield
    for source in deployment.sources.values():
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


FAULTS = (
    fault("order hangs", f"{DOWN}[order] {TIMELINE_BURN}", order_hangs, Cause(1, r'"order"} [\d.]+')),
    fault(
        "order takes 2.2 s",  # within the default timeouts
        "SupportTimelineLatencyHigh",
        order_takes_over_two_seconds,
        Cause(1, r'"order"} 2\.'),
        scenario=Scenario(
            probe=("--event-threshold=5s",),  # the default of the command, which drills shorten
            load={"cases": 8.0, "reads": 75.0},  # enough late reads for a percentile, too few to burn a budget
        ),
    ),
    fault(
        "payment answers 500",
        f"{DOWN}[payment] {TIMELINE_BURN}",
        payment_fails,
        Cause(4, "payment.*with status 500"),
    ),
    fault(
        "payment answers are invalid",
        f"SupportTimelineCollectionFailures[aggregate] {PROBE} {TIMELINE_BURN}",
        payment_answers_are_invalid,
        Cause(3, "payment.*off the contract"),
    ),
    fault(
        "all sources down",
        " ".join([*(f"{DOWN}[{service}]" for service in UPSTREAM_SERVICES), TIMELINE_BURN]),
        sources_are_down,
        Cause(4, "broke off|can't be reached"),
    ),
    fault(
        "certificate of order expired",
        f"{DOWN}[order] SupportCertificateExpiring {TIMELINE_BURN}",
        certificate_of_order_expires,
        Cause(3, "certificate has expired", typed="order"),
        scenario=Scenario(certificate=timedelta(days=90)),
    ),
    fault(
        "certificate of order expires soon",
        "SupportCertificateExpiring",
        certificate_of_order_is_old,
        Cause(1, r'"order"} 0\.'),
        scenario=Scenario(certificate=timedelta(days=90)),
    ),
)
