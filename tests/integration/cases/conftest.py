"""Fixtures: the case service, cases that are stored past it, and metrics without a running service."""

import pytest

from support_service.platform.telemetry.instruments import Instruments
from tests.support.cases import add_cases, own_metrics, service  # noqa: F401 - fixtures
from tests.support.scrape import Scrape


@pytest.fixture
def instruments(own_metrics):  # noqa: F811 - a fixture
    return Instruments(own_metrics.meter)


@pytest.fixture
def metrics(own_metrics):  # noqa: F811 - a fixture
    return Scrape(own_metrics)
