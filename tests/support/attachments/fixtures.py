"""Fixtures for attachments: storages, S3 behind a proxy, and a harness with a database and both storages."""

from urllib.parse import urlsplit

import pytest

from support_service.attachments.storage.local import LocalAttachmentStorage
from support_service.platform.telemetry.instruments import Instruments
from support_service.platform.telemetry.provider import Metrics, build_resource
from tests.support.attachments.harness import AttachmentHarness
from tests.support.console.balancer import Balancer
from tests.support.scrape import Scrape


@pytest.fixture
async def storage(tmp_path):
    storage = LocalAttachmentStorage(tmp_path)
    await storage.open()
    yield storage
    await storage.close()


@pytest.fixture
def metrics_and_scrape():
    """A metrics provider, and a scrape of it."""
    metrics = Metrics(("prometheus",), build_resource())
    yield metrics, Scrape(metrics)
    metrics.close()


@pytest.fixture
async def gateway(s3):
    """A proxy in front of S3, which a test can stop."""
    async with Balancer([urlsplit(s3.url).port]) as gateway:
        yield gateway


@pytest.fixture
async def harness(database, tmp_path, s3, gateway, metrics_and_scrape, constants):
    constants("attachments.storage.s3", REPEAT_PAUSE=0.001)
    harness = AttachmentHarness(
        database, tmp_path / "files", gateway.address, s3.create_bucket(), Instruments(metrics_and_scrape[0].meter)
    )
    await harness.open()
    yield harness
    await harness.local.close()


@pytest.fixture
def scrape(metrics_and_scrape):
    return metrics_and_scrape[1]
