"""Fixtures: a service with fake upstream services, which the tests of a module share. Each test has healthy ones."""

import pytest
import pytest_asyncio

from support_service.timeline.source_health import BreakerTimings
from support_service.timings import TimelineTimings
from tests.support.timeline.harness import open_services
from tests.support.timings import patient_timings
from tests.support.upstream import url_variables

NEVER_OPEN = BreakerTimings(open_for=0.0)  # the faults of one test must not open a circuit in the next one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def upstreams():
    async with open_services() as services:
        yield services


@pytest_asyncio.fixture(loop_scope="module")
async def sources(upstreams):
    for service in upstreams.values():
        service.reset()
        await service.open()
    return upstreams


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def timeline_client(make_shared_client, upstreams):
    timings = patient_timings(timeline=TimelineTimings(breaker=NEVER_OPEN))
    return await make_shared_client(timings=timings, **url_variables(upstreams))


@pytest.fixture
def client(timeline_client, sources):
    """A client of the service that all tests share."""
    return timeline_client


@pytest.fixture
def make_client(make_shared_client, sources):
    """Start another service with the upstream services."""

    async def make(**changes):
        return await make_shared_client(**url_variables(sources) | changes)

    return make


@pytest.fixture
def metrics(metric_changes):
    """By how much the test changes the metrics of that service."""
    return metric_changes
